package uplink

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/hostconf"
)

// checkBoot is the name of the check that force passes over.
const checkBoot = "at boot"

// atBoot is what the next boot would make of the way: the host's own tools give
// addresses to devices that are ports then, where nobody would find them.
func (m *Manager) atBoot(w way) (mind []string, checks []vmnetd.Check) {
	if len(w.steps) == 0 {
		return nil, nil
	}
	for _, name := range w.want.names() {
		top := w.want.top(name)
		if top == name || w.is.there(name) && w.is.top(name) == top {
			continue // nobody's port, or one from before this plan
		}
		named := hostconf.Names(m.o.Root, top, "")
		for _, s := range hostconf.Find(m.o.Root, name, hardware(w.is[name])) {
			more, check := bootOf(s, name, target(w.want[top]), named)
			mind = append(mind, more...)
			checks = append(checks, check...)
		}
	}
	slices.Sort(mind)
	return slices.Compact(mind), checks // a port may be in several places of one file
}

// hardware is a NIC's own MAC: what is made has none of its own.
func hardware(d Device) string {
	if d.Kind != kindNIC {
		return ""
	}
	return d.own()
}

// target is a device as the host's tools are told of it.
func target(d Device) hostconf.Device {
	return hostconf.Device{Name: d.Name, Kind: d.Kind, Options: with(d.Options, map[string]string{"mode": d.Mode})}
}

// bootOf is what one place in the host's configuration makes of a port. named
// says that some place is already about the topmost device.
func bootOf(s hostconf.Source, port string, top hostconf.Device, named bool) (mind []string, checks []vmnetd.Check) {
	switch {
	case len(s.Addresses) == 0:
	case named:
		mind = append(mind, fmt.Sprintf("%s still gives %s to %s: remove it", s.Place(), bare(s.Addresses), port))
	default:
		checks = append(checks, vmnetd.Check{
			Level: vmnetd.LevelFail, Name: checkBoot,
			Text: fmt.Sprintf("%s gives %s to %s, so after a reboot this host would have no address", s.Place(), bare(s.Addresses), port),
			Do:   instead(s, top),
		})
	}
	if s.Dynamic {
		mind = append(mind, fmt.Sprintf("%s has %s ask for an address on %s: it is not moved, and a port gets none; have it ask on %s", s.Place(), s.Tool, port, top.Name))
	}
	for _, c := range s.LetGo(port) {
		mind = append(mind, fmt.Sprintf("%s manages %s (%s); to have it let go, after the apply:  %s", c.Tool, port, s.File, c.Line))
	}
	return mind, checks
}

// instead is what to do so that the topmost device gets the addresses: a line,
// and below it what to write.
func instead(s hostconf.Source, top hostconf.Device) string {
	file, lines := s.Lines(top)
	do := "change it to"
	switch file {
	case "":
		return fmt.Sprintf("declare an anchor over %s: of a %s %s would make one of its own", top.Name, top.Kind, s.Tool)
	case s.File:
	default:
		do = "write " + file + ", which only root may read"
	}
	return do + "\n" + strings.Join(lines, "\n")
}

// bare is addresses without their prefix lengths.
func bare(addresses []string) string {
	var out []string
	for _, a := range addresses {
		address, _, _ := strings.Cut(a, "/")
		out = append(out, address)
	}
	return and(out)
}
