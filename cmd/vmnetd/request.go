package main

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vmnetd/vmnetd"
)

// maxQueues is how many queue fds a tap device takes (linux/if_tap.h,
// MAX_TAP_QUEUES).
const maxQueues = 256

// requestFlag is one flag that says something about the NIC asked for.
type requestFlag struct {
	name  string
	value string // what stands for the value in help
	usage string
	set   func(req *vmnetd.Request, value string) error
}

var requestFlags = []requestFlag{
	{"network", "NETWORK", "network to attach to; otherwise the first that a rule gives", setNetwork},
	{"uplink", "UPLINK", "uplink to stand on, one of the network's", setUplink},
	{"mode", "MODE", strings.Join(vmnetd.ModeNames(), ", "), setMode},
	{"mac", "MAC", "MAC of the NIC; otherwise one that this VM and id keep", setMAC},
	{"queues", "N", "queue pairs, or auto: as many as the VM has CPUs", setQueues},
	{"id", "ID", "name of the NIC within the VM; otherwise net0, net1, …", setID},
	{"via", "WAY", "libvirt, qmp or qmp:SOCKET; otherwise libvirt where it knows the VM, else the configured sockets", setVia},
	{"bus", "BUS", "QEMU bus to plug into; otherwise the first free place", setBus},
	{"addr", "SLOT", "slot on that bus", setAddr},
	{"handover", "HOW", "to a domain of libvirt: name, it opens the device by its name (that is the default), or fd: " + vmnetd.PriceOfFD, setHandover},
}

// addRequestFlags gives fs the flags that fill req, without those named.
func addRequestFlags(fs *pflag.FlagSet, req *vmnetd.Request, without ...string) {
	fs.SortFlags = false
	for _, f := range requestFlags {
		if !slices.Contains(without, f.name) {
			fs.Var(&requestValue{flag: f, req: req}, f.name, f.usage)
		}
	}
	addLaterFlags(fs, laterAttachFlags)
}

// addScopeFlags gives fs virsh's --live and --config.
func addScopeFlags(fs *pflag.FlagSet, live, config *bool) {
	fs.BoolVar(live, "live", false, "the running VM")
	fs.BoolVar(config, "config", false, "what is kept for the VM's next start; with neither: the running VM, or, where it is shut off, what is kept")
}

// addIncomingFlag gives fs the flag of a VM that waits for a migration.
func addIncomingFlag(fs *pflag.FlagSet, req *vmnetd.Request) {
	fs.BoolVar(&req.Incoming, "incoming", false, "the VM waits for a migration: the NIC's link stays down until its CPUs run")
}

// requestValue is a pflag.Value that writes into a request.
type requestValue struct {
	flag requestFlag
	req  *vmnetd.Request
	text string
}

func (v *requestValue) String() string { return v.text }
func (v *requestValue) Type() string   { return v.flag.value }

func (v *requestValue) Set(s string) error {
	if s == "" { // a script's empty variable must not ask for "any"
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--%s is empty", v.flag.name).WithNext("leave the flag out to let the policy choose")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--%s %q contains a control character", v.flag.name, s)
	}
	if err := v.flag.set(v.req, s); err != nil {
		return err
	}
	v.text = s
	return nil
}

func setNetwork(req *vmnetd.Request, s string) error { req.Network = s; return nil }
func setUplink(req *vmnetd.Request, s string) error  { req.Uplink = s; return nil }

func setMode(req *vmnetd.Request, s string) error {
	m, err := vmnetd.ParseMode(s)
	req.Mode = m
	return err
}

func setMAC(req *vmnetd.Request, s string) error {
	mac, err := vmnetd.ParseMAC(s)
	req.MAC = mac.String()
	return err
}

func setQueues(req *vmnetd.Request, s string) error {
	if s == "auto" {
		req.Queues = 0
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxQueues {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--queues %q is neither auto nor a number from 1 to %d", s, maxQueues).WithNext("--queues auto, or --queues 4")
	}
	req.Queues = n
	return nil
}

func setID(req *vmnetd.Request, s string) error {
	req.ID = s
	return vmnetd.CheckID(s)
}

// setVia makes a socket's path absolute: the daemon runs in another directory.
func setVia(req *vmnetd.Request, s string) error {
	kind, socket, given := strings.Cut(s, ":")
	switch kind {
	case "qmp":
	case "netns":
		return notYet("--via " + kind)
	case "libvirt":
		if given {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q: libvirt is reached where the configuration says", s).WithNext("--via libvirt, and  hypervisors: {libvirt: {uri: …}}")
		}
	default:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q is none of libvirt, qmp and qmp:SOCKET", s).WithNext("leave it out: libvirt where it knows the VM, else the configured sockets")
	}
	if !given {
		req.Via = s
		return nil
	}
	if socket == "" {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q names no socket", s).WithNext("--via qmp:/path/to/socket, or --via qmp for the configured ones")
	}
	path, err := filepath.Abs(socket)
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--via %q: %w", s, err)
	}
	req.Via = "qmp:" + path
	return nil
}

func setHandover(req *vmnetd.Request, s string) error {
	if s != "name" && s != "fd" {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "--handover %q is neither name nor fd", s).WithNext("leave it out: libvirt opens the device by its name")
	}
	req.Handover = s
	return nil
}

// A comma would begin another option of -device (QEMU util/keyval.c).
func setBus(req *vmnetd.Request, s string) error  { req.Bus = s; return noComma("--bus", s) }
func setAddr(req *vmnetd.Request, s string) error { req.Addr = s; return noComma("--addr", s) }

func noComma(flag, s string) error {
	if strings.Contains(s, ",") {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s %q contains a comma", flag, s)
	}
	return nil
}

// setVM takes the VM's name from the arguments.
func setVM(req *vmnetd.Request, name string) error {
	req.VM = name
	return vmnetd.CheckVMName(name)
}
