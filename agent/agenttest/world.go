// Package agenttest is an in-memory world for the agent: uplinks, devices and
// VMs that can come, go and fail at any call. It fakes the domain, not its
// messages, so that tests can inject failures that real parts have too seldom.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/hostlink"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/tapdev"
	"github.com/vmnetd/vmnetd/uplink"
)

// ErrInjected is what a call fails with on demand.
var ErrInjected = errors.New("injected failure")

// World is the host. Its zero value is not usable; call New. All methods may be
// called from any goroutine.
type World struct {
	mu        sync.Mutex
	nextIndex int
	named     map[int]string        // ifname by ifindex, of devices that are or were
	uplinks   map[string]*uplinkDev // by name
	devices   map[string]*device    // by ifname
	vms       map[string]*vm        // by name
	domains   map[string]*domain    // by name
	procs     map[int][]int         // PID → ifindexes of the queues it holds
	unseen    bool                  // some process cannot be searched
	onLink    []func(int)
	onAddr    []func(int, rtnl.Addr)
	onVM      []func(hypervisor.Sighting)

	calls  int
	failAt int  // the call that fails; 0: none
	after  bool // it fails after it took effect
	dead   bool // every call fails, as if the process had been killed
	dieAt  int
	onDie  func()
	at     map[string]hook // by the name of the call

	announced []string

	places    map[string]*netns.NS // network namespaces beside the host's, by name
	counted   bool
	ended     []*netns.NS              // those that were: their addresses are not given again
	guards    map[string]filter.Spec   // by place and ifname
	ears      map[string]string        // MACs of guests that are listened to
	keeps     map[string]bool          // guests whose socket keeps a namespace of ours that has ended
	hostLinks map[string]hostlink.Spec // by network
	onRoom    []func(int)
	onLost    []func()
	onHeard   []func(learn.Event)
}

// hook is what happens right before calls of one name.
type hook struct {
	left int
	run  func() error
}

type uplinkDev struct {
	index   int
	mac     string
	mtu     int
	carrier bool
	perm    string // the MAC it was made with
	over    int    // of a VLAN device: ifindex of its lower device
	vlan    int
}

type device struct {
	tapdev.Device
	uplink   string
	home     string // the place it lives in, "" for the host's own namespace
	settings tapdev.Settings
}

type vm struct {
	info  hypervisor.VM
	nics  map[string]nic
	stuck bool // the guest never lets go
	busy  bool // somebody else holds the socket
}

type nic struct {
	ifname  string
	mac     net.HardwareAddr // that the guest took
	ifindex int              // of the device whose queues it holds
	linkUp  bool
}

// New makes an empty host.
func New() *World {
	return &World{nextIndex: 10, named: map[int]string{}, uplinks: map[string]*uplinkDev{}, devices: map[string]*device{}, vms: map[string]*vm{}, domains: map[string]*domain{}, procs: map[int][]int{}, at: map[string]hook{},
		places: map[string]*netns.NS{}, guards: map[string]filter.Spec{}, ears: map[string]string{}, keeps: map[string]bool{}, hostLinks: map[string]hostlink.Spec{}}
}

// The four faces of the host, for the agent's interfaces of the same names.
type (
	// Links is agent.Links.
	Links struct{ W *World }
	// Uplinks is agent.Uplinks.
	Uplinks struct{ W *World }
	// Devices is agent.Devices.
	Devices struct{ W *World }
	// Hypervisor is agent.Hypervisor.
	Hypervisor struct{ W *World }
)

// FailAt makes the k-th call from now (1 is the next) fail, before or after it
// takes effect. 0 lets every call pass.
func (w *World) FailAt(k int, after bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.failAt, w.after, w.dieAt = 0, k, after, 0
}

// DieAt makes the k-th call from now and all that follow it fail, as a process
// that was killed there makes no more. At that moment then is called.
func (w *World) DieAt(k int, after bool, then func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.failAt, w.after, w.dieAt, w.onDie, w.dead = 0, 0, after, k, then, false
}

// Revive lets calls pass again: a new process has started.
func (w *World) Revive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead, w.dieAt, w.failAt, w.calls = false, 0, 0, 0
	w.onLink, w.onAddr, w.onVM, w.onRoom, w.onLost, w.onHeard = nil, nil, nil, nil, nil, nil
}

// Calls is how many calls that could fail were made since FailAt or DieAt.
func (w *World) Calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// At has run called right before each of the next n calls of that name (the
// method's: "Ensure", "Find" of a device, "VM" for Find of a VM), from the same
// goroutine and with the world open to it. Its error is the call's.
func (w *World) At(name string, n int, run func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at[name] = hook{n, run}
}

// Refuse fails the next n calls of that name.
func (w *World) Refuse(name string, n int) {
	w.At(name, n, func() error { return ErrInjected })
}

func (w *World) hooked(name string) error {
	w.mu.Lock()
	h := w.at[name]
	h.left--
	w.at[name] = h
	w.mu.Unlock()
	if h.left < 0 {
		return nil
	}
	return h.run()
}

// do counts a call and runs it, unless it is to fail.
func (w *World) do(name string, call func() error) error {
	if err := w.hooked(name); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	dies := w.dieAt != 0 && w.calls == w.dieAt
	fails := w.failAt != 0 && w.calls == w.failAt
	if w.dead || (fails || dies) && !w.after {
		w.die(dies)
		return ErrInjected
	}
	err := call()
	if fails || dies {
		w.die(dies)
		return ErrInjected
	}
	return err
}

func (w *World) die(now bool) {
	if !now {
		return
	}
	w.dead = true
	if w.onDie != nil {
		w.onDie()
	}
}

// linkChanged tells who listens, without the lock: they look back.
func (w *World) linkChanged(index int) {
	for _, f := range w.onLink {
		go f(index)
	}
}

func (w *World) sighted(v *vm, here bool) {
	for _, f := range w.onVM {
		go f(hypervisor.Sighting{Name: v.info.Name, Via: v.info.Via, Socket: v.info.Socket, Here: here})
	}
}

func (w *World) index() int {
	w.nextIndex++
	return w.nextIndex
}

// AddUplink plugs a NIC with that name into the host.
func (w *World) AddUplink(name, mac string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := &uplinkDev{index: w.index(), mac: mac, mtu: 1500, carrier: true, perm: mac}
	w.uplinks[name], w.named[u.index] = u, name
	w.linkChanged(u.index)
}

// SetMTU gives an uplink another MTU; devices on it that are larger are pulled
// down, and ipvtaps up, too, as in the kernel.
func (w *World) SetMTU(name string, mtu int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.uplinks[name]
	u.mtu = mtu
	for _, d := range w.devices {
		if d.uplink == name && (d.MTU > mtu || d.Kind == vmnetd.Ipvtap) {
			d.MTU = mtu
			w.linkChanged(d.Ifindex)
		}
	}
	w.linkChanged(u.index)
}

// SetUplinkMAC gives an uplink another MAC.
func (w *World) SetUplinkMAC(name, mac string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.uplinks[name]
	u.mac = mac
	w.linkChanged(u.index)
}

// Deaf loses the link messages of what act does, as a buffer that is full.
func (w *World) Deaf(act func()) {
	w.mu.Lock()
	listen := w.onLink
	w.onLink = nil
	w.mu.Unlock()
	act()
	w.mu.Lock()
	w.onLink = listen
	w.mu.Unlock()
}

// SetMAC gives a device of ours another MAC, as a process that holds a queue can.
func (w *World) SetMAC(ifname, mac string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.devices[ifname]
	d.MAC, _ = net.ParseMAC(mac)
	w.linkChanged(d.Ifindex)
}

// SetUp sets a device of ours up or down behind the agent's back.
func (w *World) SetUp(ifname string, up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.devices[ifname]
	d.Up = up
	w.linkChanged(d.Ifindex)
}

// RemoveUplink takes the NIC out; the devices on it go with it, as in the
// kernel.
func (w *World) RemoveUplink(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.uplinks[name]
	if u == nil {
		return
	}
	for vlan, over := range w.uplinks {
		if over.over == u.index {
			w.gone(vlan, over)
		}
	}
	w.gone(name, u)
}

// gone takes an uplink's device away, and what stands on it.
func (w *World) gone(name string, u *uplinkDev) {
	delete(w.uplinks, name)
	for ifname, d := range w.devices {
		if d.uplink == name {
			delete(w.devices, ifname)
			w.linkChanged(d.Ifindex)
		}
	}
	w.linkChanged(u.index)
}

// DeleteDevice removes a device behind the agent's back.
func (w *World) DeleteDevice(ifname string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.devices[ifname]; d != nil {
		delete(w.devices, ifname)
		w.linkChanged(d.Ifindex)
	}
}

// PutDevice leaves a device of ours in the kernel that no agent made just now.
func (w *World) PutDevice(d tapdev.Device, uplinkName string) tapdev.Device {
	w.mu.Lock()
	defer w.mu.Unlock()
	d.Ifindex, d.Lower = w.index(), w.uplinks[uplinkName].index
	w.devices[d.Ifname], w.named[d.Ifindex] = &device{Device: d, uplink: uplinkName}, d.Ifname
	return d
}

// UplinkMAC is the MAC that an uplink has now.
func (w *World) UplinkMAC(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.uplinks[name].mac
}

// noPID is above every PID that the kernel gives (PID_MAX_LIMIT, linux/threads.h):
// a VM here is no process.
const noPID = 1 << 22

// StartVM starts a VM whose socket appears; starting it again is another run.
func (w *World) StartVM(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &vm{nics: map[string]nic{}}
	v.info = hypervisor.VM{Name: name, Via: "qmp:/run/" + name, Socket: "/run/" + name, PID: noPID + w.index(), VCPUs: 2, Running: true}
	v.info.Instance = fmt.Sprint(name, " run ", v.info.PID)
	w.vms[name] = v
	w.sighted(v, true)
}

// SetPaused stops a VM's CPUs.
func (w *World) SetPaused(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vms[name].info.Running = false
}

// SetUUID gives a VM a UUID.
func (w *World) SetUUID(name, uuid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vms[name].info.UUID = uuid
}

// StopVM ends a VM: whatever it held is released.
func (w *World) StopVM(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.vms[name]; v != nil {
		delete(w.vms, name)
		w.sighted(v, false)
	}
}

// SetStuck makes a guest that never lets go of a NIC, or one that does again.
func (w *World) SetStuck(name string, stuck bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.vms[name]; v != nil {
		v.stuck = stuck
	}
}

// SetBusy has somebody else hold the VM's socket.
func (w *World) SetBusy(name string, busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vms[name].busy = busy
}

// Hold gives the queues of a device to a process, as a claim does.
func (w *World) Hold(pid, ifindex int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.procs[pid] = append(w.procs[pid], ifindex)
}

// Release ends what a process holds.
func (w *World) Release(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.procs, pid)
}

// SetUnseen has a process that cannot be searched, so that no search for holders is
// complete, or none.
func (w *World) SetUnseen(unseen bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unseen = unseen
}

func (w *World) hidden() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unseen
}

// NIC is what a VM sees of one of its NICs.
type NIC struct {
	Works  bool // its queues belong to a device that is there and up
	LinkUp bool
}

// NICs is the NICs plugged into a VM, by id.
func (w *World) NICs(name string) map[string]NIC {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := map[string]NIC{}
	if v := w.vms[name]; v != nil {
		for id, n := range v.nics {
			list[id] = NIC{Works: w.upWithIndex(n.ifindex), LinkUp: n.linkUp}
		}
	}
	return list
}

func (w *World) upWithIndex(index int) bool {
	for _, d := range w.devices {
		if d.Ifindex == index {
			return d.Up
		}
	}
	return false
}

// DeviceNames lists the devices of ours in the kernel.
func (w *World) DeviceNames() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for name := range w.devices {
		names = append(names, name)
	}
	return names
}

// Unheld lists the devices that are up while nobody holds their queues: the
// state that must never be.
func (w *World) Unheld() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for name, d := range w.devices {
		if d.Up && len(w.holders(d.Ifindex)) == 0 {
			names = append(names, name)
		}
	}
	return names
}

func (w *World) holders(index int) []int {
	var pids []int
	for _, v := range w.vms {
		for _, n := range v.nics {
			if n.ifindex == index {
				pids = append(pids, v.info.PID)
			}
		}
	}
	for pid, indexes := range w.procs {
		for _, i := range indexes {
			if i == index {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func (w *World) link(d *device) rtnl.Link {
	u := w.uplinks[d.uplink]
	return rtnl.Link{
		Index: d.Ifindex, Name: d.Ifname, Kind: string(d.Mode.Info().Kind), Lower: d.Lower, MAC: d.MAC, MTU: d.MTU,
		Up: d.Up, Carrier: d.Up && u != nil && u.carrier, Mode: string(d.Mode), Alias: vmnetd.Alias(d.VM, d.ID),
	}
}

func (w *World) uplinkLink(name string, u *uplinkDev) rtnl.Link {
	mac, _ := net.ParseMAC(u.mac)
	perm, _ := net.ParseMAC(u.perm)
	return rtnl.Link{Index: u.index, Name: name, MAC: mac, PermMAC: perm, MTU: u.mtu, Up: true, Carrier: u.carrier}
}

// State implements agent.Uplinks.
func (f Uplinks) State(_ context.Context, spec uplink.Spec) (uplink.State, error) {
	s := uplink.State{Spec: spec}
	err := f.W.do("State", func() error {
		u := f.W.uplinks[spec.Name]
		if u == nil {
			s.Problem = "no device is named " + spec.Name
			return nil
		}
		s.Present, s.Link = true, f.W.uplinkLink(spec.Name, u)
		s.Users = f.W.on(spec.Name)
		for name, v := range f.W.uplinks {
			if v.over == u.index {
				s.VLANs = append(s.VLANs, uplink.OnVLAN{ID: v.vlan, Link: f.W.uplinkLink(name, v), Users: f.W.on(name)})
			}
		}
		return nil
	})
	return s, err
}

// on is what stands on a device of the host's own namespace.
func (w *World) on(name string) []rtnl.Link {
	var links []rtnl.Link
	for _, d := range w.devices {
		if d.uplink == name && d.home == "" {
			links = append(links, w.link(d))
		}
	}
	for _, l := range w.hostLinks {
		if w.uplinks[name].index == l.Lower {
			links = append(links, w.hostLink(l))
		}
	}
	return links
}

func (w *World) hostLink(l hostlink.Spec) rtnl.Link {
	name := hostlink.Ifname(l.Network)
	return rtnl.Link{Index: w.indexOf(name), Name: name, Kind: string(l.Kind), Lower: l.Lower, LowerHere: true, MAC: l.MAC, Mode: string(l.Mode), Flag: l.Flag, Alias: "vmnetd-host:" + l.Network}
}

// Link implements agent.Uplinks.
func (f Uplinks) Link(ctx context.Context, spec uplink.Spec) (rtnl.Link, error) {
	s, err := f.State(ctx, spec)
	if err == nil && !s.Present {
		err = vmnetd.Errorf(vmnetd.ErrNotFound, "%s", s.Problem)
	}
	return s.Link, err
}

// ByName implements agent.Links.
func (f Links) ByName(name string) (rtnl.Link, bool) {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	return f.W.linkNamed(name)
}

// ByIndex implements agent.Links.
func (f Links) ByIndex(index int) (rtnl.Link, bool) {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	l, ok := f.W.linkNamed(f.W.named[index])
	if !ok || l.Index != index {
		return rtnl.Link{}, false
	}
	return l, true
}

func (w *World) linkNamed(name string) (rtnl.Link, bool) {
	if u := w.uplinks[name]; u != nil {
		return w.uplinkLink(name, u), true
	}
	if d := w.here(name); d != nil {
		return w.link(d), true
	}
	for _, l := range w.hostLinks {
		if hostlink.Ifname(l.Network) == name {
			return w.hostLink(l), true
		}
	}
	return rtnl.Link{}, false
}

// indexOf is the ifindex of the last device of that name.
func (w *World) indexOf(name string) int {
	last := 0
	for index, n := range w.named {
		if n == name {
			last = max(last, index)
		}
	}
	return last
}

// All implements agent.Links.
func (f Links) All() []rtnl.Link {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	var links []rtnl.Link
	for name, u := range f.W.uplinks {
		links = append(links, f.W.uplinkLink(name, u))
	}
	for _, d := range f.W.devices {
		if d.home == "" {
			links = append(links, f.W.link(d))
		}
	}
	return links
}

// OnChange implements agent.Links.
func (f Links) OnChange(changed func(int)) {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	f.W.onLink = append(f.W.onLink, changed)
}

// OnAddr implements agent.Links.
func (f Links) OnAddr(changed func(int, rtnl.Addr)) {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	f.W.onAddr = append(f.W.onAddr, changed)
}

// TellAddr tells that an uplink's device, or a host link's, got an address or lost
// one.
func (w *World) TellAddr(name string, a rtnl.Addr) {
	w.mu.Lock()
	listen, index := w.onAddr, w.indexOf(name)
	w.mu.Unlock()
	for _, f := range listen {
		f(index, a)
	}
}

// Run implements agent.Links.
func (f Links) Run(ctx context.Context) error {
	if err := f.W.hooked("Run"); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// Sync implements agent.Links.
func (f Links) Sync(context.Context) error { return f.W.hooked("Sync") }
