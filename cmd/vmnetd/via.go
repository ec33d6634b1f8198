package main

import (
	"path/filepath"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// netnsFolder is where ip-netns(8) names network namespaces (NETNS_RUN_DIR).
const netnsFolder = "/run/netns"

// ways reads --via, by the word before the colon; rest is what comes after it,
// and given says whether there was one.
var ways = map[string]func(rest string, given bool) (via string, err error){
	"qmp": viaSocket, "libvirt": viaLibvirt, "netns": viaNetns,
}

func setVia(req *vmnetd.Request, s string) error {
	word, rest, given := strings.Cut(s, ":")
	read, ok := ways[word]
	if !ok {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q is none of libvirt, qmp, qmp:SOCKET and netns:PATH", s).
			WithNext("leave it out: libvirt where it knows the VM, else the configured sockets")
	}
	via, err := read(rest, given)
	req.Via = via
	return err
}

func viaLibvirt(rest string, given bool) (string, error) {
	if given {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q: libvirt is reached where the configuration says", "libvirt:"+rest).
			WithNext("--via libvirt, and  hypervisors: {libvirt: {uri: …}}")
	}
	return "libvirt", nil
}

func viaSocket(socket string, given bool) (string, error) {
	if !given {
		return "qmp", nil
	}
	if socket == "" {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, `--via "qmp:" names no socket`).WithNext("--via qmp:/path/to/socket, or --via qmp for the configured ones")
	}
	path, err := absolute(socket)
	return "qmp:" + path, err
}

// viaNetns takes a word without a slash as ip-netns(8) does.
func viaNetns(name string, _ bool) (string, error) {
	if name == "" || name == "." || name == ".." {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q names no network namespace", "netns:"+name).
			WithNext("--via netns:NAME for one of  ip netns,  or --via netns:/path/to/it")
	}
	if !strings.Contains(name, "/") {
		return vmnetd.ViaNetns(filepath.Join(netnsFolder, name)), nil
	}
	path, err := absolute(name)
	return vmnetd.ViaNetns(path), err
}

// absolute makes a path whole: the daemon runs in another directory.
func absolute(path string) (string, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "--via: the path of %q is not known: %w", path, err)
	}
	return whole, nil
}
