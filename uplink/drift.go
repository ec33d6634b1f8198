package uplink

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
)

// drift is where an uplink differs from what was applied, a sentence each. It
// is never put right by itself: uplink apply does.
func (m *Manager) drift(ctx context.Context, applied []Spec, spec Spec, all World) []string {
	_, o, _ := m.kept()
	d := m.declared(ctx, applied)
	is := all.around(append(d.devicesOf(spec.Under()), d.device(spec.Name))...)
	m.kernel.configs(ctx, is)
	o = o.clone()
	o.Temporary = nil // it is drift, by hand
	full, _ := want(d, is)
	return differences(is, steered(full, d, o), d.device(spec.Name))
}

// differences is where one device and its ports are not as they are to be.
func differences(is, want World, name string) []string {
	out := []string{}
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	now, to := is[name], want[name]
	if now.Kind != to.Kind {
		say("%s is a %s, not a %s", name, kindText(now.Kind), kindText(to.Kind))
		return out
	}
	if to.Mode != now.Mode {
		say("the mode of %s is %s, not %s", name, now.Mode, to.Mode)
	}
	if to.MTU != 0 && now.MTU != to.MTU {
		say("the MTU of %s is %d, not %d", name, now.MTU, to.MTU)
	}
	if to.MAC != "" && now.MAC != to.MAC && !governed(is, name) {
		say("the MAC of %s is %s, not %s", name, now.MAC, to.MAC)
	}
	options := changed(now.Options, to.Options)
	for _, option := range slices.Sorted(maps.Keys(options)) {
		say("%s of %s is %s, not %s", option, name, orNone(now.Options[option]), options[option])
	}
	if teamNeeds(now.Team, to.Team) != "" && now.Team != nil {
		say("the configuration of teamd of %s is not the one that was applied", name)
	}
	return append(out, otherPorts(is, want, name)...)
}

// otherPorts is the ports that a device lacks or has too many.
func otherPorts(is, want World, name string) []string {
	var out []string
	for _, port := range want.ports(name) {
		if is[port].Master != name {
			out = append(out, fmt.Sprintf("%s is not a port of %s", port, name))
		}
	}
	for _, port := range is.ports(name) {
		if want[port].Master != name {
			out = append(out, fmt.Sprintf("%s is a port of %s and was not applied as one", port, name))
		}
	}
	return out
}

func orNone(v string) string {
	if v == "" {
		return "none"
	}
	return v
}

// unknown is the error for an uplink that was never applied.
func unknown(name string) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is no uplink that was applied here", vmnetd.Printable(name)).WithNext("vmnetd uplink list")
}
