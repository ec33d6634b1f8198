package agent

import (
	"bytes"
	"cmp"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/tapdev"
)

// key is VM/NIC.
type key struct{ vm, id string }

// record is an attachment with all that a later start must know to finish or
// undo it.
type record struct {
	vmnetd.Attachment
	Request    vmnetd.Request `json:"request"`              // what was asked for
	UUID       string         `json:"uuid,omitempty"`       // of the VM, for rules that name it
	Instance   string         `json:"instance,omitempty"`   // the run of the VM it was made for
	Rdev       uint64         `json:"rdev,omitempty"`       // of the device's node in /dev, which libvirt opens
	Handed     int            `json:"handed,omitempty"`     // ifindex of the device whose queues the VM holds
	Bus        string         `json:"bus,omitempty"`        // where it is plugged, to come back to the same place
	Addr       string         `json:"addr,omitempty"`       //
	Owner      *Owner         `json:"owner,omitempty"`      // the process that got the queues, where it is known
	Lower      int            `json:"lower,omitempty"`      // ifindex of the uplink's device
	LowerMAC   string         `json:"lower_mac,omitempty"`  // the uplink's own MAC, saved before a passthru changes it
	Stale      string         `json:"next_start,omitempty"` // what a reload changed that waits for the VM's next start
	Note       string         `json:"note,omitempty"`       // what an operator should know though nothing is wrong
	Follow     bool           `json:"follow,omitempty"`     // link: follow: the guest sees its uplink's carrier
	LinkDown   bool           `json:"link_down,omitempty"`  // and sees none now
	Halted     bool           `json:"halted,omitempty"`     // the VM's CPUs do not run, so the device is down
	Persistent bool           `json:"persistent,omitempty"` // libvirt keeps a definition of the VM
	Prepared   time.Time      `json:"prepared,omitzero"`    // made by the hook for a start that was not seen yet
	Defined    bool           `json:"defined,omitempty"`    // kept for the VM's next start too
	Undefine   bool           `json:"undefine,omitempty"`   // and no more, once it is detached
	Change     bool           `json:"change,omitempty"`     // mac: {change: allow}
	GuestMAC   string         `json:"guest_mac,omitempty"`  // that the guest took instead of MAC
	Terms      terms          `json:"terms,omitzero"`       // what policy gave beside
	Unforced   bool           `json:"unforced,omitempty"`   // its device is not yet what new Terms say
	Refused    string         `json:"refused,omitempty"`    // the address that its guest wanted last and cannot have, and why
	RefusedIP  netip.Addr     `json:"refused_ip,omitzero"`  // that address
	Heard      []heard        `json:"heard,omitempty"`      // addresses that the guest uses, as learned
	Moved      bool           `json:"moved,omitempty"`      // its device lives in home(), not here
	Guarded    bool           `json:"guarded,omitempty"`    // its device has a filter or a bandwidth of ours
	Filled     int            `json:"filled,omitempty"`     // with this NIC's MAC, the so manieth, the uplink had to become promiscuous
}

func (r record) key() key { return key{r.VM, r.ID} }

// decided says that policy has given the NIC its place; without, it only shows
// that vms: lists a NIC that cannot be had.
func (r record) decided() bool { return r.MAC != "" }

// nic is the record's NIC as the hypervisor knows it.
func (r record) nic() hypervisor.NIC {
	mac, _ := vmnetd.ParseMAC(r.MAC) // a decision has one
	return hypervisor.NIC{ID: r.ID, Ifname: r.Ifname, Network: r.Network, Mode: string(r.Mode), IPs: r.givenIPs(), MAC: mac, MTU: r.MTU, Queues: r.Queues, Bus: r.Bus, Addr: r.Addr, ByFD: r.Request.Handover == handoverFD}
}

// byName says that libvirt opens the device by its name.
func (r record) byName() bool { return r.Via == viaLibvirt && r.Request.Handover != handoverFD }

// mac is what the device has: the guest's own choice where it may choose.
func (r record) mac() (net.HardwareAddr, error) {
	return vmnetd.ParseMAC(cmp.Or(r.GuestMAC, r.MAC))
}

// byFD says that the NIC belongs to a process that holds the queues itself, so
// that there is nobody to plug it into.
func (r record) byFD() bool { return r.Via == viaExec || r.Via == viaFD }

// earlierRun says that the record was made for a run of the VM before this one. A
// namespace at another path is no later run of this one, and neither is a VM.
func (r record) earlierRun(vm hypervisor.VM) bool {
	if (r.endpoint() || vm.Netns != "") && r.Via != vm.Via {
		return false
	}
	return !r.byFD() && r.Instance != "" && r.Instance != vm.Instance
}

// Values of Attachment.Via beside qmp:SOCKET.
const (
	viaLibvirt = "libvirt"
	viaExec    = "exec"
	viaFD      = "fd"
)

// Values of Request.Handover; without one it is by name.
const (
	handoverName = "name"
	handoverFD   = "fd"
)

// spec is the device to be on a lower device. One that was handed over lives with
// the MTU that its lower device has left for it.
func (r record) spec(lower rtnl.Link) (tapdev.Spec, error) {
	mac, err := r.mac()
	if err != nil {
		return tapdev.Spec{}, err
	}
	mtu := r.MTU
	if r.Handed != 0 {
		mtu = min(mtu, lower.MTU)
	}
	return tapdev.Spec{
		VM: r.VM, ID: r.ID, Ifname: r.Ifname, Lower: lower.Index, Mode: r.Mode, Kind: r.Kind, Flag: r.Terms.Flag, MAC: mac, MTU: mtu,
		Queues: r.Queues, ByName: r.byName(), Filtered: r.Change, Port: r.port(), BCQueue: r.Terms.BCQueue,
	}, nil
}

// is says whether a device is what the record was handed over as.
func (r record) is(dev tapdev.Device, lower rtnl.Link) bool {
	mac, err := r.mac()
	return err == nil && dev.Lower == lower.Index && dev.Up != r.Halted && dev.Ifindex == r.Ifindex && dev.Ifindex == r.Handed &&
		(r.Mode.Info().SharesMAC || bytes.Equal(dev.MAC, tapdev.HostMAC(r.Kind, mac))) && dev.MTU == min(r.MTU, lower.MTU)
}

// take copies what the kernel says of the device.
func (r *record) take(dev tapdev.Device) {
	r.Ifindex, r.Lower = dev.Ifindex, dev.Lower
	if r.byName() {
		r.Rdev = dev.Rdev
	}
	if r.MTU == 0 {
		r.MTU = dev.MTU
	}
}

// gone is the device that the record had, for what it may have left in /dev.
func (r record) gone() tapdev.Device {
	return tapdev.Device{VM: r.VM, ID: r.ID, Kind: r.Kind, Ifname: r.Ifname, Ifindex: r.Ifindex, Lower: r.Lower, Rdev: r.Rdev}
}

func compareKeys(a, b key) int {
	return cmp.Or(strings.Compare(a.vm, b.vm), strings.Compare(a.id, b.id))
}
