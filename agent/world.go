package agent

import (
	"context"
	"net"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/announce"
	"github.com/vmnetd/vmnetd/hostlink"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/room"
	"github.com/vmnetd/vmnetd/tapdev"
	"github.com/vmnetd/vmnetd/uplink"
)

// Config is a configuration in clean types.
type Config struct {
	Policy   policy.Set
	Uplinks  []uplink.Spec
	VMs      []WantedVM
	Ways     hypervisor.Config
	Trusted  bool      // labels in a domain's metadata count
	Warnings []string  // each one sentence with file:line
	Raw      []byte    // what Accept keeps: the files as they were read
	At       time.Time // when it was accepted; zero for a candidate
}

// WantedVM is a VM with the NICs that it must have whenever it runs.
type WantedVM struct {
	Name string
	NICs []vmnetd.Request
	At   policy.Pos
}

// ConfigSource is where configurations come from (config implements it).
type ConfigSource interface {
	// Candidate reads what the operator has written; the error lists every
	// mistake with file:line:col.
	Candidate() (Config, error)
	// Accepted is the configuration that was accepted last; os.ErrNotExist
	// when none ever was.
	Accepted() (Config, error)
	// Accept keeps c as the configuration that every start begins with.
	Accept(c Config) error
	// Name is the main file's path, for messages.
	Name() string
	// Kept is the NICs that `attach --config` wrote down for VMs of which no
	// hypervisor keeps a definition; Keep adds one or puts it in the place of the
	// one of that id, Unkeep drops one. All of it is on disk when they return.
	Kept() ([]WantedVM, error)
	Keep(req vmnetd.Request) (changed bool, err error)
	Unkeep(vm, id string) (changed bool, err error)
}

// Links is the kernel's links in the daemon's network namespace, mirrored by
// one multicast subscription (rtnl.Watch implements it).
type Links interface {
	ByName(name string) (rtnl.Link, bool)
	ByIndex(index int) (rtnl.Link, bool)
	All() []rtnl.Link
	// OnChange has changed called after each change with the link's ifindex,
	// and with 0 after a full resync; changed must not block.
	OnChange(changed func(ifindex int))
	// OnAddr has changed called when a link gets an address or loses one; changed
	// must not block.
	OnAddr(changed func(ifindex int, a rtnl.Addr))
	Run(ctx context.Context) error
	// Sync waits until Run has filled the mirror.
	Sync(ctx context.Context) error
}

// Uplinks finds declared uplinks among the devices that are there
// (uplink.Finder implements it).
type Uplinks interface {
	// State looks one uplink up by name or ifindex; it never dumps.
	State(ctx context.Context, spec uplink.Spec) (uplink.State, error)

	// Link is the device of one uplink as it is now, by one question.
	// vmnetd.ErrNotFound: it is not there.
	Link(ctx context.Context, spec uplink.Spec) (rtnl.Link, error)
}

// Provisioner makes, changes, watches and repairs the uplinks that are ours
// (uplink.Manager implements it). It keeps what was applied, the overrides
// (drain, hold, move) and the checkpoint of an apply on disk.
type Provisioner interface {
	// Applied is the uplinks as last applied, also while that waits to be
	// confirmed; at is the last confirmation, ever is false where there was none.
	Applied() (specs []uplink.Spec, at time.Time, ever bool)
	// Waiting is the apply that waits to be confirmed, nil when none does.
	Waiting() *vmnetd.Applied
	// TakenBack says in a sentence that the last apply was taken back without
	// being asked to, "" where it was not.
	TakenBack() string
	// Plan compares what is with want.
	Plan(ctx context.Context, want []uplink.Spec, names []string) (vmnetd.Plan, error)
	Apply(ctx context.Context, want []uplink.Spec, o vmnetd.ApplyOptions) (vmnetd.Applied, error)
	Confirm(ctx context.Context, id string) error
	Rollback(ctx context.Context, id string) error
	Move(ctx context.Context, anchor, to string) error
	SetDrain(ctx context.Context, uplink, port string, on bool) error
	SetHold(ctx context.Context, uplink string, until time.Time) error
	Team(ctx context.Context, spec uplink.Spec, req vmnetd.TeamRequest) (string, error)
	Convert(ctx context.Context, want []uplink.Spec, name, to string, live bool) (vmnetd.Conversion, error)
	// Repair puts right alone what is missing and costs no guest anything: a
	// dead controller of ours, an absent configured port, an uplink down, an
	// anchor on the wrong member.
	Repair(ctx context.Context) error
	// Describe is the uplinks with ports, bond and team, overrides and drift, in
	// that order; it may ask teamd.
	Describe(ctx context.Context, specs []uplink.Spec) []uplink.Described
	// Concerns says whether news of a link can be news of these uplinks, by what
	// is declared and applied; the agent knows those that were there already.
	Concerns(ifindex int, specs []uplink.Spec) bool
	// Path is how frames of a device reach the outside now, from what was last
	// heard of the kernel: it asks nobody.
	Path(ifindex int) uplink.Path
	// Run follows teamd, timers and the confirm window; changed is called with
	// the ifindex of a device whose path or state may have changed (0: any) and
	// must not block.
	Run(ctx context.Context, changed func(ifindex int)) error
	// OnEvent has tell called with what happens by itself: a rollback, a
	// repair; tell must not block.
	OnEvent(tell func(vmnetd.Event))
	// EnsureVLAN makes or finds the VLAN device of a network on an uplink's
	// device; ReleaseVLAN removes it where it is ours and nothing stands on it.
	EnsureVLAN(ctx context.Context, lower rtnl.Link, vlan int) (rtnl.Link, error)
	ReleaseVLAN(ctx context.Context, lower, vlan int) error
	Doctor(ctx context.Context) []vmnetd.Check
}

// Announcer tells the switches where guests are (announce.Announcer implements
// it).
type Announcer interface {
	// Announce sends the first round at once and the others from Run; a newer
	// change of the same key replaces an older one.
	Announce(c announce.Change)
	// Forget ends the repeats for one MAC of a key.
	Forget(key string, mac net.HardwareAddr)
	Run(ctx context.Context) error
}

// Devices makes, opens and removes tap devices (tapdev.Host implements it).
type Devices interface {
	// Ensure makes the device, or verifies the one that is there: down, marked,
	// every attribute read back. A device that is there with other properties
	// is vmnetd.ErrBusy. Nothing is left when it fails.
	Ensure(ctx context.Context, spec tapdev.Spec) (tapdev.Device, error)
	// Find is the device with that name, vmnetd.ErrNotFound when there is none
	// that is ours.
	Find(ctx context.Context, ifname string) (tapdev.Device, error)
	// Open opens the device's queues and, where the host has it, vhost-net.
	Open(ctx context.Context, dev tapdev.Device) (*queuefd.Set, error)
	// SetUp sets the device administratively up or down. A MAC that another
	// device on the lower device has is vmnetd.ErrBusy, naming the holder.
	SetUp(ctx context.Context, dev tapdev.Device, up bool) error
	// Remove deletes devices; one that has gone, or whose name now belongs to
	// another device, is fine.
	Remove(ctx context.Context, devs ...tapdev.Device) error
	// Rename gives a device its name back that somebody has renamed.
	Rename(ctx context.Context, dev tapdev.Device, name string) error
	// RemoveLeft deletes a device in a namespace that nothing but its number here
	// names any more; what has gone is fine.
	RemoveLeft(ctx context.Context, nsid int, dev tapdev.Device) error
	// Move puts a device into another namespace: it keeps name and mark and is down
	// there, and queues that are open go on working.
	Move(ctx context.Context, dev tapdev.Device, to *netns.NS) error
	// RestoreMAC gives a lower device its own MAC again after a passthru.
	RestoreMAC(ctx context.Context, ifindex int, mac net.HardwareAddr) error
	// Ours lists every device with our prefix and our alias.
	Ours(ctx context.Context) ([]tapdev.Device, error)
	// Holders finds the processes that hold a queue of the device open;
	// complete is false when some process could not be searched.
	Holders(ctx context.Context, dev tapdev.Device) (pids []int, complete bool, err error)
	// HoldersNamed is Holders for a device that was moved into another namespace; its
	// name is nobody else's.
	HoldersNamed(ctx context.Context, ifname string) (pids []int, complete bool, err error)
	// SetFilter has the device receive what the guest asks for: its MAC, its
	// groups, or all multicasts.
	SetFilter(ctx context.Context, dev tapdev.Device, mac net.HardwareAddr, groups []net.HardwareAddr, all bool) error
	// Lacking is the kinds of device that this kernel does not have, and why.
	Lacking(ctx context.Context) map[vmnetd.Kind]string
	// VHost says whether the host has vhost-net, and if not why.
	VHost() (ok bool, reason string)
	// Doctor checks what the devices need of the host.
	Doctor(ctx context.Context) []vmnetd.Check
}

// Rooms reaches network namespaces (room.Rooms implements it).
type Rooms interface {
	// Here is the daemon's own namespace.
	Here() room.Place
	// Own is vmnetd's own namespace: the one that is there, or, with mayMake, a new
	// one; vmnetd.ErrNotFound when there is none.
	Own(ctx context.Context, mayMake bool) (room.Place, error)
	// At is the namespace of a path; its caller closes the Place.
	At(ctx context.Context, path string) (room.Place, error)
	// Run tells of devices in vmnetd's own namespace that come, go or change, and of
	// filters that others removed there; changed must not block.
	Run(ctx context.Context, changed func(ifindex int)) error
	Doctor(ctx context.Context) []vmnetd.Check
}

// Filters watches the filters of the daemon's own namespace (filter.Host
// implements it); a Place sets them.
type Filters interface {
	// Filtered lists the devices that a filter of ours is for, also those that have
	// gone.
	Filtered(ctx context.Context) ([]string, error)
	// Watch calls lost when somebody else removed or changed anything of ours; lost
	// must not block.
	Watch(ctx context.Context, lost func()) error
	Doctor(ctx context.Context) []vmnetd.Check
}

// Learner finds out which addresses guests use (learn.Learner implements it).
type Learner interface {
	// Watch listens to one more guest, or anew to one of that key. It takes the
	// descriptor over.
	Watch(spec learn.Spec) error
	Forget(key string)
	Run(ctx context.Context, heard func(learn.Event)) error
}

// HostLinks makes links of this host's own (hostlink.Host implements it).
type HostLinks interface {
	Ensure(ctx context.Context, spec hostlink.Spec) (hostlink.Link, error)
	Remove(ctx context.Context, network string) error
	Ours(ctx context.Context) ([]hostlink.Link, error)
}

// Hypervisor plugs NICs into running VMs and knows what libvirt keeps of them
// (hypervisor.Ways implements it).
type Hypervisor interface {
	// Configure replaces where VMs are looked for; Run follows that from then on.
	Configure(cfg hypervisor.Config) error
	// Find looks a running VM up by name, through via ("", "libvirt", "qmp" or
	// "qmp:SOCKET"). vmnetd.ErrNotFound names what was tried.
	Find(ctx context.Context, name, via string) (hypervisor.VM, error)
	// Ask is Find that asks the VM itself, also one that is known: whether it
	// runs now, and with how many vCPUs.
	Ask(ctx context.Context, name, via string) (hypervisor.VM, error)
	// Allowed says whether a user may name the VM's socket that way:
	// vmnetd.ErrDenied unless uid is 0 or it lies beneath a configured folder.
	Allowed(uid uint32, via string) error
	// Plug hands a NIC over; a NIC of that id that is plugged already is fine.
	// Each step is undone when a later one fails.
	Plug(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) (hypervisor.Place, error)
	// Plugged says whether a NIC of that id is in the VM, and where.
	Plugged(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) (place hypervisor.Place, ok bool, err error)
	// Unplug asks the guest to let go and removes the backend once it has.
	// hypervisor.ErrEjecting: it has not yet; call again.
	Unplug(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) error
	// CutOff takes the backend away from a NIC whose device has gone, before
	// anything else is done with it; the guest sees no link. vmnetd.ErrNotFound:
	// there is no such NIC.
	CutOff(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) error
	// SetLink has the guest see a NIC's link up or down.
	SetLink(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC, up bool) error
	// Filter asks what the guest wants a NIC to receive, and thereby has the next
	// change told by a Sighting. vmnetd.ErrUnsupported: changes are not told.
	Filter(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) (hypervisor.RxFilter, error)
	// Definition is what libvirt keeps of a VM, running or not. vmnetd.ErrNotFound:
	// it keeps none of that name.
	Definition(ctx context.Context, name string) (hypervisor.Definition, error)
	// Define writes a NIC into a VM's definition, in the place of the one of that
	// id or device; Undefine takes one out.
	Define(ctx context.Context, name string, nic domxml.Element) (changed bool, err error)
	Undefine(ctx context.Context, name string, nic hypervisor.NIC) (changed bool, err error)
	// Redefine replaces a definition, unless it was changed since it was read:
	// vmnetd.ErrBusy.
	Redefine(ctx context.Context, was hypervisor.Definition, xml string) error
	// Run watches for VMs that come and go until ctx ends. Its first zero
	// Sighting says that the watch has begun.
	Run(ctx context.Context, saw func(hypervisor.Sighting)) error
	// Names is the VMs that are there now, and those that libvirt knows, by name.
	Names() []string
	Doctor(ctx context.Context) []vmnetd.Check
}
