package uplink

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// Doctor checks what the uplinks that were applied need of the host.
func (m *Manager) Doctor(ctx context.Context) []vmnetd.Check {
	a, _, _ := m.kept()
	var needed []string
	teams := false
	for _, s := range a.Specs {
		if module, ok := modules[kindOf(s)]; ok {
			needed = append(needed, module)
		}
		teams = teams || s.Kind == vmnetd.UplinkTeam
	}
	var checks []vmnetd.Check
	for _, module := range sortedSet(needed) {
		checks = append(checks, m.module(module))
	}
	if teams {
		checks = append(checks, m.teamd(ctx, a.Specs))
	}
	return checks
}

// module says whether the kernel has a module, loaded, built in or to be
// loaded.
func (m *Manager) module(name string) vmnetd.Check {
	c := vmnetd.Check{Level: vmnetd.LevelOK, Name: name, Text: "the kernel has " + name}
	if _, err := os.Stat(filepath.Join(m.o.Root, "sys/module", name)); err == nil {
		return c
	}
	var un unix.Utsname
	if err := unix.Uname(&un); err != nil {
		return c
	}
	dir := filepath.Join(m.o.Root, "lib/modules", unix.ByteSliceToString(un.Release[:]))
	readable := false
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		b, err := os.ReadFile(filepath.Join(dir, list))
		readable = readable || err == nil
		if err == nil && bytes.Contains(b, []byte("/"+name+".ko")) {
			return c
		}
	}
	if !readable { // the unit hides them (ProtectKernelModules=); the kernel loads what it has by itself
		c.Text = name + " is not loaded yet"
		return c
	}
	return vmnetd.Check{
		Level: vmnetd.LevelFail, Name: name, Text: "the kernel has no module " + name + ", which uplinks that were applied need",
		Do: "modprobe " + name + "; where that fails, install the kernel's extra modules",
	}
}

// firstSafeTeamd is the version of libteam that survives a restart of
// dbus-daemon.
const firstSafeTeamd = "1.32"

// teamd warns of versions that die when dbus-daemon does.
func (m *Manager) teamd(ctx context.Context, specs []Spec) vmnetd.Check {
	version, err := m.o.Teams.Version(ctx)
	if err != nil {
		return vmnetd.Check{Level: vmnetd.LevelFail, Name: "teamd", Text: err.Error(), Do: "install it: apt install libteam-utils, or dnf install teamd"}
	}
	if !older(version, firstSafeTeamd) {
		return vmnetd.Check{Level: vmnetd.LevelOK, Name: "teamd", Text: "teamd " + version}
	}
	i := slices.IndexFunc(specs, func(s Spec) bool { return s.Kind == vmnetd.UplinkTeam })
	return vmnetd.Check{
		Level: vmnetd.LevelWarn, Name: "teamd",
		Text: "teamd " + version + " dies when dbus-daemon restarts; it is taken over within a second, and watches no links until then",
		Do:   "use libteam " + firstSafeTeamd + ", or a bond:  vmnetd convert team2bond " + specs[i].Name,
	}
}

// older compares versions of two numbers: 1.31.
func older(a, b string) bool {
	amajor, aminor, _ := strings.Cut(a, ".")
	bmajor, bminor, _ := strings.Cut(b, ".")
	if number(amajor) != number(bmajor) {
		return number(amajor) < number(bmajor)
	}
	return number(aminor) < number(bminor)
}

func number(s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}
