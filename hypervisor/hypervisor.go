package hypervisor

import (
	"context"
	"errors"
	"net"

	"github.com/vmnetd/vmnetd/internal/queuefd"
)

// ErrEjecting says that the guest has not let go of a NIC yet.
var ErrEjecting = errors.New("the guest has not let go of the NIC yet")

// VM is a virtual machine that was found.
type VM struct {
	Name     string
	UUID     string // "" when query-uuid is all zero
	Via      string // qmp:SOCKET
	Socket   string
	PID      int    // of the QEMU behind the socket, 0 when it is not known for certain
	Instance string // tells this run of the VM from the next one; survives our restart
	VCPUs    int
	Running  bool
}

// NIC is a network card to plug.
type NIC struct {
	ID     string
	MAC    net.HardwareAddr
	MTU    int
	Queues int
	Bus    string // "" for the first free place
	Addr   string
	Open   func(ctx context.Context) (*queuefd.Set, error) // called once the place is known; the Set stays the callee's to close
}

// Place is where a NIC was plugged.
type Place struct {
	Bus     string
	Addr    string
	Already bool // Plug found it plugged and opened nothing
}

// Sighting says that a VM came or went. Level-triggered: it means look again.
// The zero Sighting says that the watch has begun.
type Sighting struct {
	Name   string
	Via    string
	Socket string
	Here   bool
}
