package uplink

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func byName(s Spec) bool { return s.MAC == nil && s.Path == "" }

func deviceName(s Spec) string {
	if s.Device != "" {
		return s.Device
	}
	return s.Name
}

// declared is the match as people read it, and tells matches apart.
func declared(s Spec) string {
	switch {
	case s.MAC != nil:
		return "MAC " + s.MAC.String()
	case s.Path != "":
		return "path " + s.Path
	}
	return "name " + deviceName(s)
}

func named(l rtnl.Link, name string) bool {
	return l.Name == name || slices.Contains(l.AltNames, name)
}

// match looks for the device that the declaration describes. A name is one
// question to the kernel; for the rest the mirror is searched and the kernel
// asked about the one that is found.
func (f *Finder) match(ctx context.Context, spec Spec) (rtnl.Link, error) {
	if byName(spec) {
		l, err := f.conn.LinkByName(ctx, deviceName(spec))
		if errors.Is(err, vmnetd.ErrNotFound) {
			return l, vmnetd.Errorf(vmnetd.ErrNotFound, "this host has no device named %s", vmnetd.Printable(deviceName(spec)))
		}
		return l, err
	}
	found := f.search(spec)
	switch len(found) {
	case 0:
		return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrNotFound, "this host has no device with %s", vmnetd.Printable(declared(spec)))
	case 1:
		return f.conn.LinkByIndex(ctx, found[0].Index)
	}
	return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrNotFound, "%s is not unique on this host: %s have it", declared(spec), names(found))
}

func (f *Finder) search(spec Spec) []rtnl.Link {
	all := f.links.All()
	if spec.Path != "" {
		return filter(all, func(l rtnl.Link) bool { return idPath(l) == spec.Path })
	}
	// The permanent MAC first: a bond gives all its ports one current MAC.
	found := filter(all, func(l rtnl.Link) bool { return bytes.Equal(l.PermMAC, spec.MAC) })
	if len(found) > 0 {
		return found
	}
	// A device without a permanent MAC goes by its current one, unless it got
	// that from the device it stands on.
	return filter(all, func(l rtnl.Link) bool {
		return l.PermMAC == nil && !l.LowerHere && bytes.Equal(l.MAC, spec.MAC)
	})
}

func filter(all []rtnl.Link, is func(rtnl.Link) bool) []rtnl.Link {
	var some []rtnl.Link
	for _, l := range all {
		if is(l) {
			some = append(some, l)
		}
	}
	return some
}

func names(links []rtnl.Link) string {
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return strings.Join(names, " and ")
}
