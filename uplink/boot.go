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
	ports := w.newPorts()
	if len(ports) == 0 {
		return nil, nil
	}
	host := hostconf.Read(m.o.Root)
	tops := map[string]bool{}
	for _, name := range ports {
		top := target(w.want[w.want.top(name)])
		places := host.Find(top)
		if !tops[top.Name] {
			tops[top.Name] = true
			more, check := comesTooSoon(places, top)
			mind, checks = append(mind, more...), append(checks, check...)
		}
		named := slices.ContainsFunc(places, hostconf.Source.Gives)
		for _, s := range host.Find(hardware(name, w.is[name])) {
			more, check := bootOf(s, name, top, named)
			mind, checks = append(mind, more...), append(checks, check...)
		}
	}
	slices.Sort(mind)
	return append(slices.Compact(mind), host.Unread...), checks // a port may be in several places of one file
}

// newPorts is the devices that become a port by the way, or that of another
// uplink.
func (w way) newPorts() []string {
	if len(w.steps) == 0 {
		return nil
	}
	return slices.DeleteFunc(w.want.names(), func(name string) bool {
		top := w.want.top(name)
		return top == name || w.is.there(name) && w.is.top(name) == top
	})
}

// hardware is a device that is there as the host's tools know it at boot: what
// is made has no MAC of its own.
func hardware(name string, d Device) hostconf.Device {
	if d.Kind != kindNIC {
		return hostconf.Device{Name: name, Kind: d.Kind}
	}
	return hostconf.Device{Name: name, MAC: d.own(), Path: d.Path}
}

// target is a device as the host's tools are told of it.
func target(d Device) hostconf.Device {
	return hostconf.Device{Name: d.Name, Kind: d.Kind, Options: with(d.Options, map[string]string{"mode": d.Mode})}
}

// comesTooSoon is the places that are about the topmost device at a time of the
// boot at which vmnetd has not made it yet, or at no time.
func comesTooSoon(places []hostconf.Source, top hostconf.Device) (mind []string, checks []vmnetd.Check) {
	auto, when := "auto "+top.Name, ""
	for _, s := range places {
		switch {
		case !s.Gives() || !s.Early && s.Late:
			continue
		case s.Late:
			mind = append(mind, fmt.Sprintf("%s runs before vmnetd has made %s, and fails at it; remove the %s that is about %s", s.Tool, top.Name, auto, s.Place()))
			continue
		case s.Early:
			when = fmt.Sprintf("%s is tried by %s before vmnetd has made %s", s.Place(), s.Tool, top.Name)
		default:
			when = fmt.Sprintf("%s is not tried by %s when vmnetd makes %s", s.Place(), s.Tool, top.Name)
		}
	}
	if when != "" { // one line helps all of them
		checks = append(checks, vmnetd.Check{
			Level: vmnetd.LevelFail, Name: checkBoot,
			Text: when + ", so after a reboot this host would have no address",
			Do:   "write, in place of any " + auto + "\nallow-hotplug " + top.Name,
		})
	}
	return mind, checks
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
	switch {
	case file == "":
		return fmt.Sprintf("declare an anchor over %s: of a %s %s would make one of its own", top.Name, top.Kind, s.Tool)
	case file == s.File:
	case strings.HasPrefix(file, "/etc/NetworkManager/"): // it takes no other
		do = "write " + file + ", which only root may read"
	default:
		do = "write " + file
	}
	for _, c := range s.LetGo("") {
		if c.Tool == hostconf.CloudInit { // it would write the file again
			do = fmt.Sprintf("have cloud-init leave it alone (%s), and %s", c.Line, do)
		}
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
