package hypervisor

import (
	"context"
	"errors"
	"net"

	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

// ErrEjecting says that the guest has not let go of a NIC yet.
var ErrEjecting = errors.New("the guest has not let go of the NIC yet")

// Config says where VMs are looked for.
type Config struct {
	Sockets []string // QMP socket patterns: /run/vmnetd/qmp/{vm}.sock
	Events  []string // patterns of second QMP sockets that are ours alone and stay connected: what VMs tell by themselves
	Libvirt string   // qemu:///system, qemu:///system?socket=PATH; "": libvirt is not asked
	Folders []string // beneath which callers other than root may name network namespaces
	Trusted []string // globs of namespaces whose root may have devices on which no filter can be kept
}

// VM is a virtual machine that was found.
type VM struct {
	Name     string
	UUID     string // "" when query-uuid is all zero
	Via      string // qmp:SOCKET, libvirt, netns:PATH
	Socket   string
	PID      int    // of the QEMU behind the socket, 0 when it is not known for certain
	Instance string // tells this run of the VM from the next one; survives our restart
	VCPUs    int
	Running  bool

	Netns   string // it is no VM but the network namespace of that path
	Trusted bool   // that namespace's root may have devices on which no filter can be kept

	Halted     bool              // its CPUs do not run, and a Sighting comes when they do: links wait for that
	Incoming   bool              // it waits for a migration, or has come by one and does not run yet
	Persistent bool              // libvirt keeps a definition of it
	Ifnames    []string          // devices of its interfaces, where the hypervisor tells (libvirt); nil: not known
	Labels     map[string]string // of its metadata
	NICs       []domxml.NIC      // what the metadata of this run says of them
}

// NIC is a network card to plug, or one that was.
type NIC struct {
	ID     string
	Ifname string // the device that libvirt opens by its name
	MAC    net.HardwareAddr
	MTU    int
	Queues int
	Bus    string // "" for the first free place
	Addr   string
	ByFD   bool                                            // the queue fds go to QEMU also where libvirt could open the device
	Open   func(ctx context.Context) (*queuefd.Set, error) // called once the place is known; the Set stays the callee's to close

	Network, Mode, IPs string // what it was given: libvirt keeps that with the run, which may go on elsewhere, or later
}

// Place is where a NIC was plugged: QEMU's bus and slot, or with libvirt the PCI
// address 0000:05:00.0 alone.
type Place struct {
	Bus     string
	Addr    string
	Already bool   // Plug found it plugged and opened nothing
	MAC     string // with which the NIC was plugged, as Plugged tells it; "": not known

	// NoVHost says why libvirt, where it opened the device by its name, opens no
	// vhost-net with it; "": it does, where the host has it.
	NoVHost string
}

// RxFilter is what a guest's driver asked its NIC to receive (QMP
// query-rx-filter).
type RxFilter struct {
	MAC       net.HardwareAddr
	Multicast []net.HardwareAddr // groups
	AllMulti  bool               // more groups than QEMU keeps, or all asked for
}

// Definition is what libvirt keeps of a VM beyond one run.
type Definition struct {
	domxml.Domain
	XML     string // virsh dumpxml --inactive
	Running bool
}

// Sighting says that a VM came, went or changed. Level-triggered: it means look
// again. The zero Sighting says that the watch has begun.
type Sighting struct {
	Name   string
	Via    string
	Socket string
	Here   bool
	Filter bool // a guest changed what its NICs receive
}
