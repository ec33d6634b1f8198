package main

import (
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
	{"ip", "ADDRESS", "address of the guest, ADDRESS or ADDRESS/LENGTH; repeat it, or separate several by commas", addIPs},
	{"queues", "N", "queue pairs, or auto: as many as the VM has CPUs", setQueues},
	{"id", "ID", "name of the NIC within the VM; otherwise net0, net1, …", setID},
	{"via", "WAY", "libvirt, qmp or qmp:SOCKET; otherwise libvirt where it knows the VM, else the configured sockets. netns:PATH or netns:NAME gives a network namespace a device instead", setVia},
	{"name", "NAME", "with netns: what the device is called in there; otherwise eth0 for net0, eth1 for net1, …", setName},
	{"route", "ROUTE", "with netns: a route in there, such as \"default via 192.0.2.1\"; may be repeated", addRoute},
	{"bus", "BUS", "QEMU bus to plug into; otherwise the first free place", setBus},
	{"addr", "SLOT", "slot on that bus; in a VM of libvirt, which takes no --bus, a PCI address such as 0000:05:00.0", setAddr},
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

// addIPs takes several by commas, and more each time.
func addIPs(req *vmnetd.Request, s string) (err error) {
	req.IPs, err = vmnetd.CheckIPs(append(req.IPs, strings.Split(s, ",")...))
	return err
}

func addRoute(req *vmnetd.Request, s string) (err error) {
	req.Routes, err = vmnetd.CheckRoutes(append(req.Routes, s))
	return err
}

func setName(req *vmnetd.Request, s string) error {
	req.Name = s
	return vmnetd.CheckIfname(s)
}

func setID(req *vmnetd.Request, s string) error {
	req.ID = s
	return vmnetd.CheckID(s)
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

// setAsked is setVM for a request whose flags have all been read: what goes
// together is known then.
func setAsked(req *vmnetd.Request, name string) error {
	if err := setVM(req, name); err != nil {
		return err
	}
	return vmnetd.CheckNetns(*req)
}
