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
		d, top := w.is[name], w.want.top(name)
		if top == name || d.Kind != kindNIC || w.want[name].Foreign {
			continue
		}
		for _, s := range hostconf.Find(m.o.Root, name, d.own()) {
			more, check := bootOf(s, name, top, len(hostconf.Find(m.o.Root, top, "")) > 0)
			mind = append(mind, more...)
			checks = append(checks, check...)
		}
	}
	slices.Sort(mind)
	return slices.Compact(mind), checks // a connection holds a port by both its address families
}

// bootOf is what one place in the host's configuration makes of a port. named
// says that some place is already about the topmost device.
func bootOf(s hostconf.Source, port, top string, named bool) (mind []string, checks []vmnetd.Check) {
	switch {
	case s.Dynamic:
		mind = append(mind, fmt.Sprintf("%s has %s ask for an address on %s, which is no use on a port: have it ask on %s", s.Place(), s.Tool, port, top))
	case len(s.Addresses) > 0 && !named:
		checks = append(checks, vmnetd.Check{
			Level: vmnetd.LevelFail, Name: checkBoot,
			Text: fmt.Sprintf("%s gives %s to %s, so after a reboot this host would have no address", s.Place(), bare(s.Addresses), port),
			Do:   "change it to\n" + strings.Join(s.Lines(top), "\n"),
		})
	case len(s.Addresses) > 0:
		mind = append(mind, fmt.Sprintf("%s still gives %s to %s: remove it", s.Place(), bare(s.Addresses), port))
	}
	if command := s.LetGo(port); command != "" {
		mind = append(mind, fmt.Sprintf("%s manages %s (%s); to have it let go:  %s", s.Tool, port, s.File, command))
	}
	return mind, checks
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
