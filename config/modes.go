package config

import (
	"github.com/vmnetd/vmnetd"
)

var (
	mode       = scalar[vmnetd.Mode]{shapes: []shape{text}, want: "a mode", read: readMode}
	listedMode = scalar[vmnetd.Mode]{shapes: []shape{text}, want: "a mode", read: readListedMode}
	modeList   = modesOrAuto{listOf[got[vmnetd.Mode]]{item: listedMode, what: "a list of modes, or auto"}}
)

// modesOrAuto is a list of modes; auto may stand without brackets.
type modesOrAuto struct{ listOf[got[vmnetd.Mode]] }

func (m modesOrAuto) decode(p *problems, n *node, into *got[[]got[vmnetd.Mode]]) {
	m.orOne = n.shape == text && n.text == string(vmnetd.Auto)
	m.listOf.decode(p, n, into)
}

func readListedMode(s string) (vmnetd.Mode, error) {
	if s == string(vmnetd.Auto) {
		return vmnetd.Auto, nil
	}
	return parseMode(s, append(vmnetd.ModeNames(), string(vmnetd.Auto)))
}

// readMode reads a mode that is asked for.
func readMode(s string) (vmnetd.Mode, error) {
	if s == string(vmnetd.Auto) {
		return "", invalid("auto is no mode that a NIC can have").WithNext("leave mode out: the network's modes decide")
	}
	return parseMode(s, vmnetd.ModeNames())
}

func parseMode(s string, known []string) (vmnetd.Mode, error) {
	m, err := vmnetd.ParseMode(s)
	if near := didYouMean(s, known); err != nil && near != "" && s != "l3s" { // which says itself what to take
		return "", invalid("%v%s", err, near).WithNext(vmnetd.NextOf(err))
	}
	return m, err
}
