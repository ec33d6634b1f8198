package learn

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
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

	// Leases are those known from before a restart, with their ends, which are
	// told like those of leases that were heard.
	Leases map[netip.Addr]time.Time
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
	ByND      How = "ND"           // RFC 4861: the target of an advertisement, the sender of a solicitation
)

// Event says that a guest uses an address, or no longer does. The same of one
// address is told once a minute, unless its lease's end has moved.
type Event struct {
	Key   string
	IP    netip.Addr
	How   How
	Until time.Time // the lease's end; zero: there is none
	Gone  bool      // released, declined, refused (DHCPNAK), given up for another one, or its lease has ended
	Why   string    // of Gone, one clause

	// Defended: another station answered for IP as its own while this guest was
	// asking whether anybody has it (DAD, ARP probe).
	Defended bool
}

// Learner listens to guests. All methods may be called from any goroutine.
type Learner struct {
	log  *slog.Logger
	conn *rtnl.Conn
	poll *poller

	mu       sync.Mutex
	guests   map[string]*guest
	uplinks  map[int]*uplink
	ears     map[int]*ear // by descriptor
	alarms   alarms
	batch    batch
	out      []Event // not told yet
	stopping bool    // Run is to end: its deadline stays in the past
	closed   bool

	sockets closer
}

// Open makes a Learner whose uplinks are in the network namespace of conn, which
// stays the caller's.
func Open(conn *rtnl.Conn, log *slog.Logger) (*Learner, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot wait for packets: %w", err)
	}
	return &Learner{log: log, conn: conn, poll: poll, sockets: newCloser(), guests: map[string]*guest{}, uplinks: map[int]*uplink{}, ears: map[int]*ear{}}, nil
}

// Watch listens to one more guest; one of that key that is listened to already is
// replaced, and its leases stay. vmnetd.ErrInvalid: the Spec cannot be right;
// vmnetd.ErrNotFound: there is no such uplink.
func (l *Learner) Watch(spec Spec) error {
	g, err := newGuest(spec)
	if err == nil {
		err = narrow(spec)
	}
	if err != nil {
		closeFd(spec.Fd)
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.add(g, spec); err != nil {
		l.sockets.close(spec.Fd)
		return err
	}
	l.arm()
	return nil
}

// add puts a guest in place; on failure everything is as it was.
func (l *Learner) add(g *guest, spec Spec) error {
	if l.closed {
		return vmnetd.Errorf(vmnetd.ErrFailed, "learning of addresses has ended: %s is not listened to", spec.Key)
	}
	up, err := l.join(spec.Uplink)
	if err != nil {
		return err
	}
	if err := l.hear(&g.ear); err != nil {
		l.leave(up)
		return err
	}
	l.wire(g)
	g.hearsAnswersAt(up)
	if old := l.guests[g.key]; old != nil {
		g.inherit(old)
		l.remove(old)
	}
	l.guests[g.key] = g
	l.schedule(g, time.Now())
	return nil
}

// Forget ends listening to a guest; its leases end in silence. What was heard a
// moment before may still be told.
func (l *Learner) Forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.guests[key]; g != nil {
		delete(l.guests, key)
		l.remove(g)
		l.arm()
	}
}

// remove lets go of all that a guest has.
func (l *Learner) remove(g *guest) {
	l.alarms.set(&g.alarm, time.Time{})
	l.unhear(&g.ear)
	l.sockets.close(g.ear.fd)
	g.dropExchanges()
	l.leave(g.uplink)
}

// Run listens until ctx ends, or Close. heard is called one at a time and must
// not block; of one guest at most EventsPerSecond are told, the latest ones. It
// runs once at a time.
func (l *Learner) Run(ctx context.Context, heard func(Event)) error {
	l.setStopping(false)
	defer context.AfterFunc(ctx, func() { l.setStopping(true) })()
	var ready []int
	for {
		for _, e := range l.round(ready, time.Now()) {
			heard(e)
		}
		if ctx.Err() != nil {
			return nil
		}
		var err error
		if ready, err = l.poll.wait(); err != nil {
			return l.ended(err)
		}
	}
}

// ended is what Run returns when it can wait no more.
func (l *Learner) ended(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot wait for packets: %w", err)
}

// Close lets go of every socket; a Run ends.
func (l *Learner) Close() error {
	defer l.sockets.wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for key, g := range l.guests {
		delete(l.guests, key)
		l.remove(g)
	}
	return l.poll.close()
}
