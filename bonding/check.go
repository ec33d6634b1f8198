package bonding

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Problem is one mistake in a Config.
type Problem struct {
	Key  string // where: "mode", "lacp_rate", "ports[1]", "ports[1].prio"
	Text string // one sentence
	Next string // what to do
}

// Check finds every mistake that can be seen without the host.
func (c Config) Check() []Problem {
	_, problems := c.read()
	return problems
}

// Canonical is the bond with values as the kernel gives them back;
// vmnetd.ErrInvalid with every mistake.
func (c Config) Canonical() (Config, error) {
	out, problems := c.read()
	var errs []error
	for _, p := range problems {
		errs = append(errs, vmnetd.Errorf(vmnetd.ErrInvalid, "%s: %s", p.Key, p.Text).WithNext(p.Next))
	}
	return out, errors.Join(errs...)
}

func (c Config) read() (Config, []Problem) {
	out := Config{Mode: c.Mode, Options: map[string]string{}}
	r := &reader{mode: c.Mode}
	if !slices.Contains(modeNames, c.Mode) {
		r.add("mode", "a bond's mode is %s, not %q", enum(1, modeNames...).takes(), c.Mode)
		r.mode = ""
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if o, text, ok := r.option(table, name, name, c.Options[name]); ok {
			out.Options[o.Name] = text
		}
	}
	r.conflicts(out.Options)
	seen := map[string]bool{}
	for i, p := range c.Ports {
		key := fmt.Sprintf("ports[%d]", i)
		if seen[p.Name] {
			r.add(key, "port %s is named twice", vmnetd.Printable(p.Name)).Next = "remove one of them"
		}
		seen[p.Name] = true
		options := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(p.Options)) {
			if o, text, ok := r.option(portTable, key+"."+name, name, p.Options[name]); ok {
				options[o.Name] = text
			}
		}
		out.Ports = append(out.Ports, Port{Name: p.Name, Options: options})
	}
	for _, name := range []string{"primary", "active_slave"} {
		if port := out.Options[name]; port != "" && !seen[port] {
			r.add(name, "%s is not a port of this bond", vmnetd.Printable(port)).Next = "name one of its ports"
		}
	}
	return out, r.problems
}

type reader struct {
	mode     string // "" when it is not known
	problems []Problem
}

func (r *reader) add(key, format string, args ...any) *Problem {
	r.problems = append(r.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	return &r.problems[len(r.problems)-1]
}

func (r *reader) option(rows []Option, key, name, text string) (Option, string, bool) {
	o, known := find(rows, name)
	if !known || name == "mode" {
		r.add(key, "a bond has no option %q", name).Next = "options of this mode are " + strings.Join(r.names(rows), ", ")
		return o, "", false
	}
	if r.mode != "" && !o.in(r.mode) {
		r.add(key, "mode %s has no option %s: it is for %s", r.mode, name, strings.Join(o.Modes, ", ")).Next = "leave it out, or take another mode"
		return o, "", false
	}
	text, err := o.codec.canonical(text)
	if err != nil {
		r.add(key, "%s %v", name, err)
		return o, "", false
	}
	return o, text, true
}

func (r *reader) names(rows []Option) []string {
	var names []string
	for _, o := range rows {
		if o.Name != "mode" && (r.mode == "" || o.in(r.mode)) {
			names = append(names, o.Name)
		}
	}
	slices.Sort(names)
	return names
}

// conflicts is what single options do not show
// (Documentation/networking/bonding.rst).
func (r *reader) conflicts(o map[string]string) {
	set := func(name string) bool { return o[name] != "" && o[name] != "0" }
	if set("miimon") && set("arp_interval") {
		r.add("arp_interval", "a bond has either miimon or arp_interval").Next = "leave one of them out"
	}
	if set("arp_interval") && o["arp_ip_target"] == "" && o["ns_ip6_target"] == "" {
		r.add("arp_interval", "arp_interval needs an address to ask").Next = "add  arp_ip_target: [ADDRESS]"
	}
	for _, name := range []string{"updelay", "downdelay"} {
		if set(name) && !set("miimon") {
			r.add(name, "%s needs miimon", name).Next = "add  miimon: 100"
		}
	}
}
