package vmnetd

import (
	"path/filepath"
	"strings"
	"unicode"
)

const viaNetns = "netns:"

// NetnsPath is the network namespace of a way netns:PATH; ok is false for other
// ways.
func NetnsPath(via string) (path string, ok bool) { return strings.CutPrefix(via, viaNetns) }

// ViaNetns is the way to the network namespace of a path.
func ViaNetns(path string) string { return viaNetns + path }

// CheckNetns refuses a request that mixes up VM and network namespace: what only
// a device in a namespace can have, and what only a NIC of a VM.
func CheckNetns(req Request) error {
	path, netns := NetnsPath(req.Via)
	if !netns {
		return onlyNetns(req)
	}
	if !filepath.IsAbs(path) {
		return Errorf(ErrInvalid, "namespace %q is not named by its whole path", path).WithNext("--via netns:/run/netns/NAME")
	}
	for _, o := range []struct {
		what  string
		given bool
	}{{"queues", req.Queues != 0}, {"bus", req.Bus != ""}, {"addr", req.Addr != ""}, {"handover", req.Handover != ""}, {"incoming", req.Incoming}, {"live", req.Live}, {"config", req.Config}} {
		if o.given {
			return Errorf(ErrInvalid, "%s is for the NIC of a VM, and %s is a network namespace", o.what, path).WithNext("leave it out")
		}
	}
	if req.Name == "" {
		return nil
	}
	return CheckIfname(req.Name)
}

func onlyNetns(req Request) error {
	switch {
	case req.Name != "":
		return Errorf(ErrInvalid, "name %q is for a device in a network namespace: a VM names its NICs itself", req.Name).WithNext("leave it out, or name the namespace: --via netns:PATH")
	case len(req.Routes) > 0:
		return Errorf(ErrInvalid, "route %q is for a network namespace: a VM makes its routes itself", req.Routes[0]).WithNext("leave it out, or name the namespace: --via netns:PATH")
	}
	return nil
}

// CheckIfname refuses what no network device can be called (net/core/dev.c,
// dev_valid_name), and a name with '%', which is a pattern there.
func CheckIfname(name string) error {
	bad := func(why string) error {
		return Errorf(ErrInvalid, "device name %q %s", name, why).WithNext("a name such as eth0 has 1 to 15 bytes, no '/', ':' or '%', and no space")
	}
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > MaxIfname:
		return bad("is longer than 15 bytes")
	case name == "." || name == "..":
		return bad("is a directory's name")
	case strings.ContainsAny(name, "/:%"):
		return bad("contains '/', ':' or '%'")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return bad("contains a space or a control character")
	}
	return nil
}
