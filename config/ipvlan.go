package config

import (
	"fmt"

	"github.com/vmnetd/vmnetd/policy"
)

type rawIPvlan struct{ flag got[string] }

var ipvlanKeys = object[rawIPvlan]{what: "ipvlan", rows: []row[rawIPvlan]{
	key("flag", func(i *rawIPvlan) *got[string] { return &i.flag }, codec[got[string]](ipvlanFlag)),
}}

type rawMacvlan struct{ bcqueuelen got[int] }

var macvlanKeys = object[rawMacvlan]{what: "macvlan", rows: []row[rawMacvlan]{
	key("bcqueuelen", func(m *rawMacvlan) *got[int] { return &m.bcqueuelen }, codec[got[int]](bcqueuelen)),
}}

// maxBCQueue bounds the frames that wait: each holds its buffer.
const maxBCQueue = 1 << 20

var bcqueuelen = scalar[int]{shapes: []shape{number}, want: fmt.Sprintf("a number from 1 to %d", maxBCQueue), read: readWithin("bcqueuelen", 1, maxBCQueue)}

var ipvlanFlag = scalar[string]{shapes: []shape{text}, want: "bridge, private or vepa", read: checked(checkFlag)}

func checkFlag(s string) error {
	if s != policy.FlagBridge && s != policy.FlagPrivate && s != policy.FlagVEPA {
		return invalid("flag %q is none of bridge, private, vepa", s).
			WithNext("bridge: guests of one uplink reach each other; private: they do not; vepa: by the switch, if it reflects")
	}
	return nil
}
