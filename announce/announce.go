package announce

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
)

// Address is one guest's NIC.
type Address struct {
	MAC     net.HardwareAddr
	IPs     []netip.Addr // those that are known
	Ifindex int          // device that the frames leave by: the uplink's, or the VLAN's over it, so that the kernel puts the tag on
	Name    string       // VM/NIC
}

// Change is a change of a path that guests have to be announced for.
type Change struct {
	Key       string                    // a newer change of the same key replaces an older one
	Why       string                    // "failover eno2 -> eno1"
	Seen      time.Time                 // when the change was heard of; zero: now
	Addresses func() []Address          // asked anew for each round: guests come and go
	Done      func(vmnetd.Announcement) // told after the first round, then never; nil: nobody
}

// Announcer sends from one packet socket of one network namespace. Its methods
// may be called at the same time.
type Announcer struct {
	socket *socket
	log    *slog.Logger

	sending  sync.Mutex // held during a round
	mu       sync.Mutex // of schedule; taken last
	schedule schedule
	sooner   chan struct{} // Run looks at the schedule again
}

// Option changes how an Announcer is opened.
type Option func(*Announcer)

// WithLog says where it is told which devices took no frames; the default is
// slog's.
func WithLog(log *slog.Logger) Option { return func(a *Announcer) { a.log = log } }

// Open makes an Announcer in the network namespace of the calling thread.
// Repeats are sent while Run runs.
func Open(opts ...Option) (*Announcer, error) {
	s, err := openSocket()
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open a packet socket: %w", err).WithNext("give vmnetd CAP_NET_RAW")
	}
	a := &Announcer{socket: s, log: slog.Default(), schedule: schedule{byKey: map[string]*pending{}}, sooner: make(chan struct{}, 1)}
	for _, o := range opts {
		o(a)
	}
	return a, nil
}

// Close closes the socket: nothing is sent any more. It may be called twice.
func (a *Announcer) Close() error { return a.socket.close() }

// Announce sends the first round before it returns, and has Run send the
// others.
func (a *Announcer) Announce(c Change) {
	if c.Seen.IsZero() {
		c.Seen = time.Now()
	}
	a.mu.Lock()
	p := a.schedule.add(c, time.Now())
	a.mu.Unlock()
	done := a.round(p, slog.LevelWarn)
	select {
	case a.sooner <- struct{}{}:
	default: // it is going to look anyway
	}
	if c.Done != nil {
		c.Done(done)
	}
}

// Forget ends the repeats for a MAC of a key: the guest has left, or is
// somebody else's to announce. Once it returns, no frame of that MAC is sent any
// more: one would turn the switches back after a migration.
func (a *Announcer) Forget(key string, mac net.HardwareAddr) {
	a.sending.Lock()
	defer a.sending.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.schedule.byKey[key]; p != nil {
		p.quiet[string(mac)] = true
	}
}

// round sends one round and says what came of it. What a device refuses stops
// none of the others, and is logged once a device.
func (a *Announcer) round(p *pending, level slog.Level) vmnetd.Announcement {
	c := p.change
	all := c.Addresses() // takes the caller's locks: with none of ours held
	a.sending.Lock()
	defer a.sending.Unlock()
	a.mu.Lock()
	list := p.wanted(all)
	a.mu.Unlock()

	done := vmnetd.Announcement{At: c.Seen, Of: len(list), Why: c.Why}
	failed := a.socket.send(frames(list), func() { done.FirstU = time.Since(c.Seen).Microseconds() })
	done.TookUs = time.Since(c.Seen).Microseconds()
	done.Guests = len(list) - failed.guests
	for ifindex, f := range failed.devices {
		a.log.Log(context.Background(), level, "guests not announced", "uplink", c.Key, "ifindex", ifindex, "guests", f.guests, "first", f.name, "err", f.err)
	}
	return done
}
