package config

import "github.com/vmnetd/vmnetd/policy"

type rawIPvlan struct{ flag got[string] }

var ipvlanKeys = object[rawIPvlan]{what: "ipvlan", rows: []row[rawIPvlan]{
	key("flag", func(i *rawIPvlan) *got[string] { return &i.flag }, codec[got[string]](ipvlanFlag)),
}}

var ipvlanFlag = scalar[string]{shapes: []shape{text}, want: "bridge, private or vepa", read: checked(checkFlag)}

func checkFlag(s string) error {
	if s != policy.FlagBridge && s != policy.FlagPrivate && s != policy.FlagVEPA {
		return invalid("flag %q is none of bridge, private, vepa", s).
			WithNext("bridge: guests of one uplink reach each other; private: they do not; vepa: by the switch, if it reflects")
	}
	return nil
}
