package uplink

import (
	"net"
	"net/netip"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Spec is an uplink as declared.
type Spec struct {
	Name     string
	External bool             // somebody else's device: watched, used, never changed
	Device   string           // match by device name ("" when matched otherwise); Name where no match is given
	MAC      net.HardwareAddr // match by permanent MAC
	Path     string           // match by path: ID_PATH's form pci-0000:01:00.0
	MTU      int              // 0: as it is
}

// State is a declared uplink as it is now.
type State struct {
	Spec    Spec
	Present bool
	Link    rtnl.Link      // of the device; zero when absent
	Users   []rtnl.Link    // devices that have it as their lower device
	Master  rtnl.Link      // whose port it is, zero when none
	Hosts   []netip.Prefix // addresses of the host on it
	Problem string         // "" or one sentence: absent, down, no carrier, renamed, …
}
