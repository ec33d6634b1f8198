package testkit

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pings is echo requests (RFC 792) from one host to several others, a request to
// each at an interval, and which of them are answered. Who only answers them is
// silent while none arrives.
type Pings struct {
	socket   int
	id       uint16
	interval time.Duration
	stop     chan struct{}
	done     sync.WaitGroup

	mu sync.Mutex
	to []pinged
}

// pinged is what became of the requests to one address.
type pinged struct {
	address  [4]byte
	answered []bool // by the request's number
	first    int    // the number at Begin
	newest   int    // the newest that is answered, -1: none
	heard    time.Time
	gap      time.Duration // the longest between two answers since Begin
	times    []time.Time   // of the answers since Begin
}

// PingCount is what became of the requests to one address since Begin. Those
// after the newest one that was answered are not in it: they are under way.
type PingCount struct {
	Sent, Lost int
	Gap        time.Duration // the longest without an answer
}

// StartPings pings IPv4 addresses out of a namespace until the test ends, or
// Stop. interval is that between two requests to one address.
func StartPings(t TB, from *Netns, interval time.Duration, to ...netip.Addr) *Pings {
	t.Helper()
	p := &Pings{id: uint16(rand.Uint32()), interval: interval, stop: make(chan struct{})}
	for _, address := range to {
		p.to = append(p.to, pinged{address: address.As4(), newest: -1, heard: time.Now()})
	}
	err := from.Do(func() (err error) {
		p.socket, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return err
	})
	if err != nil {
		t.Fatalf("cannot open a socket for pings: %v", err)
	}
	// The reader asks now and then whether to stop.
	look := unix.NsecToTimeval(int64(50 * time.Millisecond))
	if err := unix.SetsockoptTimeval(p.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &look); err != nil {
		t.Fatalf("SO_RCVTIMEO: %v", err)
	}
	p.done.Go(p.send)
	p.done.Go(p.hear)
	t.Cleanup(p.Stop)
	return p
}

// Stop ends it. It may be called twice.
func (p *Pings) Stop() {
	select {
	case <-p.stop:
		return
	default:
	}
	close(p.stop)
	p.done.Wait()
	_ = unix.Close(p.socket)
}

func (p *Pings) send() {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		for i := range p.to {
			number := p.next(i)
			to := &unix.SockaddrInet4{Addr: p.to[i].address}
			_ = unix.Sendto(p.socket, p.request(number), 0, to) // what is not sent is not answered
		}
	}
}

// next is the number of the next request to an address.
func (p *Pings) next(i int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to[i].answered = append(p.to[i].answered, false)
	return len(p.to[i].answered) - 1
}

// Types of ICMP messages, and where their parts are (RFC 792).
const (
	echoReply   = 0
	echoRequest = 8
	echoHeader  = 8
	echoLength  = echoHeader + 8 // the number follows, which the sequence number is too short for
)

func (p *Pings) request(number int) []byte {
	b := make([]byte, echoLength)
	b[0] = echoRequest
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], uint16(number))
	binary.BigEndian.PutUint64(b[echoHeader:], uint64(number))
	var sum uint32 // RFC 1071
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum>>16+sum))
	return b
}

func (p *Pings) hear() {
	buf := make([]byte, 1500)
	for {
		select {
		case <-p.stop:
			return
		default:
		}
		n, err := unix.Read(p.socket, buf)
		switch {
		case err == nil:
			p.answer(buf[:n])
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return
		}
	}
}

// hearAt counts the answers that a sniffer hears, too.
func (p *Pings) hearAt(at *Sniffer, t TB) {
	const etherHeader = 14
	p.done.Go(func() {
		for {
			select {
			case <-p.stop:
				return
			default:
			}
			if f, heard := at.Next(t, 50*time.Millisecond); heard && len(f.Bytes) > etherHeader {
				p.answer(f.Bytes[etherHeader:])
			}
		}
	})
}

// answer takes a packet with its IP header (raw(7)).
func (p *Pings) answer(packet []byte) {
	const ipHeader = 20
	if len(packet) < ipHeader {
		return
	}
	header := int(packet[0]&0xf) * 4
	if header < ipHeader || len(packet) < header+echoLength {
		return
	}
	from, b := [4]byte(packet[12:16]), packet[header:]
	if b[0] != echoReply || binary.BigEndian.Uint16(b[4:]) != p.id {
		return
	}
	number := int(binary.BigEndian.Uint64(b[echoHeader:]))
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.to {
		if p.to[i].address == from && number >= 0 && number < len(p.to[i].answered) {
			p.to[i].hear(number)
		}
	}
}

func (g *pinged) hear(number int) {
	g.answered[number], g.newest = true, max(g.newest, number)
	now := time.Now()
	g.gap, g.heard = max(g.gap, now.Sub(g.heard)), now
	g.times = append(g.times, now)
}

// Begin has everything counted from here on.
func (p *Pings) Begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.to {
		p.to[i].first, p.to[i].gap, p.to[i].times = len(p.to[i].answered), 0, nil
	}
}

// GapsAfter is the longest each address was without an answer since a moment after
// Begin.
func (p *Pings) GapsAfter(moment time.Time) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	gaps := make([]time.Duration, len(p.to))
	for i, g := range p.to {
		last := moment
		for _, at := range append(g.times[:len(g.times):len(g.times)], time.Now()) {
			if at.After(moment) {
				gaps[i], last = max(gaps[i], at.Sub(last)), at
			}
		}
	}
	return gaps
}

// Answered waits until every address has answered the n-th request from now on,
// or a later one. false when it takes longer than within.
func (p *Pings) Answered(n int, within time.Duration) bool {
	p.mu.Lock()
	var wanted []int
	for _, g := range p.to {
		wanted = append(wanted, len(g.answered)+n-1)
	}
	p.mu.Unlock()
	for deadline := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		if p.haveAnswered(wanted) {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func (p *Pings) haveAnswered(wanted []int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, g := range p.to {
		if g.newest < wanted[i] {
			return false
		}
	}
	return true
}

// Counts is what became of the requests to each address.
func (p *Pings) Counts() []PingCount {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]PingCount, len(p.to))
	for i, g := range p.to {
		c := PingCount{Gap: max(g.gap, time.Since(g.heard))}
		for n := g.first; n <= g.newest; n++ {
			c.Sent++
			if !g.answered[n] {
				c.Lost++
			}
		}
		list[i] = c
	}
	return list
}
