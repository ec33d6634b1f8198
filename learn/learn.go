package learn

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Spec is one guest to listen to.
type Spec struct {
	Key    string           // VM/NIC
	Fd     int              // of OpenSocket, on the guest's device; Watch takes it over, also when it fails
	Sends  string           // "egress" or "ingress": by which of the device's directions the guest's own frames pass
	Uplink int              // ifindex of the device on which answers of DHCP servers arrive, in the namespace of the Learner; 0: they are heard on the guest's device
	MAC    net.HardwareAddr // the guest's
}

// How an address became known.
type How string

// Ways to learn an address.
const (
	ByRequest How = "DHCP request" // RFC 2131: option 50, or ciaddr
	ByLease   How = "DHCP lease"   // RFC 2131: DHCPACK, matched by xid to what this guest sent
	ByOffer   How = "DHCP offer"   // RFC 2131: DHCPOFFER, matched likewise
	ByARP     How = "ARP"          // RFC 826: the sender of a request or an answer
	ByProbe   How = "ARP probe"    // RFC 5227: the target of a request without a sender
	ByDAD     How = "DAD"          // RFC 4862 5.4: the target of a solicitation without a sender
	ByND      How = "ND"           // RFC 4861: the target of an advertisement
)

// Event says that a guest uses an address, or no longer does.
type Event struct {
	Key   string
	IP    netip.Addr
	How   How
	Until time.Time // the lease's end; zero: there is none
	Gone  bool      // released, refused (DHCPNAK) or its lease has ended; IP may be invalid: all that were leased
	Why   string    // of Gone, one clause

	// Defended: another station answered for IP as its own while this guest was
	// asking whether anybody has it (DAD, ARP probe).
	Defended bool
}

// Learner listens to guests. All methods may be called from any goroutine.
type Learner struct{ log *slog.Logger }

// Open makes a Learner whose uplinks are in the network namespace of conn.
func Open(conn *rtnl.Conn, log *slog.Logger) (*Learner, error) { return &Learner{log: log}, nil }

// OpenSocket opens a packet socket on a device of conn's namespace, filtered in the
// kernel to ARP, DHCP, DHCPv6 and ND, both directions. The caller closes it.
func OpenSocket(ctx context.Context, conn *rtnl.Conn, ifindex int) (fd int, err error) {
	return -1, errNotBuilt
}

// Watch listens to one more guest; one of that key that is listened to already is
// replaced.
func (l *Learner) Watch(spec Spec) error { return errNotBuilt }

// Forget ends listening to a guest; its leases end in silence.
func (l *Learner) Forget(key string) {}

// Run listens until ctx ends. heard is called one at a time and must not block;
// of one guest at most EventsPerSecond are told, the latest ones.
func (l *Learner) Run(ctx context.Context, heard func(Event)) error { <-ctx.Done(); return nil }

// Close lets go of what Open opened.
func (l *Learner) Close() error { return nil }

// EventsPerSecond bounds what one guest can have told.
const EventsPerSecond = 20

var errNotBuilt = vmnetd.Errorf(vmnetd.ErrUnsupported, "learn: not built yet")
