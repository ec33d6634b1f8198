package announce

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// Address is one guest's NIC.
type Address struct {
	MAC     net.HardwareAddr
	IPs     []netip.Addr // those that are known
	Ifindex int          // device that the frames leave by: the uplink's, or the VLAN's over it
	Name    string       // VM/NIC
}

// Change is a change of a path that guests have to be announced for.
type Change struct {
	Key       string                    // a newer change of the same key replaces an older one
	Why       string                    // "failover eno2 -> eno1"
	Seen      time.Time                 // when the change was heard of
	Addresses func() []Address          // asked anew for each round: guests come and go
	Done      func(vmnetd.Announcement) // told after the first round; nil: nobody
}

// repeats are the rounds after the first, from the change on: a switch port may
// forward late (spanning tree needs up to 30 s).
var repeats = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second}

// Announcer sends from one packet socket (packet(7)) of one network namespace.
type Announcer struct {
	fd int

	mu      sync.Mutex
	pending map[string]*pending
	closed  bool
}

type pending struct {
	change Change
	round  int
	timer  *time.Timer
	quiet  map[string]bool // MACs that are not announced any more
}

// Open makes an Announcer in the network namespace of the calling thread.
func Open() (*Announcer, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // protocol 0: it receives nothing
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open a packet socket: %w", err).WithNext("vmnetd needs CAP_NET_RAW")
	}
	return &Announcer{fd: fd, pending: map[string]*pending{}}, nil
}

// Run ends the repeats and closes the socket when ctx ends.
func (a *Announcer) Run(ctx context.Context) error {
	<-ctx.Done()
	return a.Close()
}

// Close ends everything; it may be called twice.
func (a *Announcer) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	for _, p := range a.pending {
		p.timer.Stop()
	}
	return unix.Close(a.fd)
}

// Announce sends the first round before it returns, and has the others sent
// later.
func (a *Announcer) Announce(c Change) {
	p := &pending{change: c, quiet: map[string]bool{}}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	if older := a.pending[c.Key]; older != nil {
		older.timer.Stop()
	}
	a.pending[c.Key] = p
	p.timer = time.AfterFunc(time.Until(c.Seen.Add(repeats[0])), func() { a.repeat(p) })
	a.mu.Unlock()

	done := a.send(c, c.Addresses())
	if c.Done != nil {
		c.Done(done)
	}
}

// Forget ends the repeats for a MAC of a key.
func (a *Announcer) Forget(key string, mac net.HardwareAddr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.pending[key]; p != nil {
		p.quiet[mac.String()] = true
	}
}

func (a *Announcer) repeat(p *pending) {
	all := p.change.Addresses()
	a.mu.Lock()
	if a.closed || a.pending[p.change.Key] != p {
		a.mu.Unlock()
		return
	}
	var some []Address
	for _, one := range all {
		if !p.quiet[one.MAC.String()] {
			some = append(some, one)
		}
	}
	if p.round++; p.round < len(repeats) {
		p.timer.Reset(time.Until(p.change.Seen.Add(repeats[p.round])))
	} else {
		delete(a.pending, p.change.Key)
	}
	a.mu.Unlock()
	a.send(p.change, some)
}

// send sends one round. A guest whose device refuses (it is down, or has gone)
// does not stop the others.
func (a *Announcer) send(c Change, list []Address) vmnetd.Announcement {
	done := vmnetd.Announcement{At: c.Seen, Of: len(list), Why: c.Why}
	for _, one := range list {
		sent := false
		for _, frame := range frames(one) {
			sent = a.frame(one.Ifindex, frame) == nil || sent
		}
		if !sent {
			continue
		}
		if done.Guests++; done.Guests == 1 {
			done.FirstU = time.Since(c.Seen).Microseconds()
		}
	}
	done.TookUs = time.Since(c.Seen).Microseconds()
	return done
}

func (a *Announcer) frame(ifindex int, frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: ifindex, Halen: 6}
	copy(to.Addr[:], frame[:6])
	return unix.Sendto(a.fd, frame, 0, to)
}
