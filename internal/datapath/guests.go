package datapath

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// guestQueues is what the guests have CPUs for: a queue each.
const guestQueues = 4

// ByGuests measures paths between two guests with an operating system: TCP, the
// shortest datagrams, and datagrams that come back. blaster is the program of that
// name, static. Each path has its turn once with the filter and once without.
func ByGuests(ctx context.Context, tb testkit.TB, blaster string, turn time.Duration, paths ...Path) []Figures {
	t := testing{tb}
	var labs []*lab
	for i, p := range paths {
		labs = append(labs, newLab(t, i, p))
	}
	pair := bootPair(t, blaster, labs)
	var all []Figures
	for i, l := range labs {
		t.must(pair.use(ctx, i))
		for _, filter := range []bool{false, true} {
			t.must(l.filtered(filter))
			f, err := pair.measure(ctx, l, turn)
			t.must(err)
			f.Filter = filter
			all = append(all, f)
		}
		t.must(pair.leave(ctx))
	}
	return all
}

// pair is two guests with a NIC on each path.
type pair struct {
	guests  []*testkit.Guest
	labs    []*lab
	blaster string
	nics    [2]string // the devices in use, as the guests call them
}

func bootPair(t testing, blaster string, labs []*lab) *pair {
	var options []testkit.GuestOptions
	for i := range 2 {
		o := testkit.GuestOptions{Name: fmt.Sprintf("path%d", i), SMP: guestQueues, Programs: []string{blaster}}
		for n, l := range labs {
			e := l.guests[i]
			first := 3 + len(o.Inherits)
			o.Inherits = append(o.Inherits, e.fds.Queues...)
			o.Args = append(o.Args, nicArgs(n, l, e, first)...)
		}
		options = append(options, o)
	}
	return &pair{guests: testkit.BootGuests(t, options...), labs: labs, blaster: path.Base(blaster)}
}

func nicArgs(n int, l *lab, e end, first int) []string {
	var fds []string
	for q := range e.fds.Queues {
		fds = append(fds, strconv.Itoa(first+q))
	}
	netdev := fmt.Sprintf("tap,id=n%d,fds=%s,vhost=off", n, strings.Join(fds, ":"))
	device := fmt.Sprintf("virtio-net-pci,netdev=n%d,mac=%s", n, e.mac)
	if l.Queues > 1 {
		device += fmt.Sprintf(",mq=on,vectors=%d", 2*l.Queues+2)
	}
	return []string{"-netdev", netdev, "-device", device}
}

// use gives the NICs of a path their addresses.
func (p *pair) use(ctx context.Context, i int) error {
	for g, guest := range p.guests {
		e := p.labs[i].guests[g]
		name, err := guest.WaitIface(ctx, e.mac)
		if err != nil {
			return err
		}
		p.nics[g] = name
		script := fmt.Sprintf("ip addr add %s/24 dev %s && ip link set %s up", e.ip, name, name)
		if g == 1 {
			script += fmt.Sprintf(" && (%s serve </dev/null >/dev/null 2>&1 &)", p.blaster)
		}
		if _, err := guest.Run(ctx, script); err != nil {
			return err
		}
	}
	return p.reached(ctx, i)
}

// reached waits until the one reaches the other.
func (p *pair) reached(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := p.guests[0].Run(ctx, fmt.Sprintf("until %s ping %s 1 100; do sleep 0.2; done", p.blaster, p.labs[i].guests[1].ip))
	return err
}

// leave takes the NICs out of use.
func (p *pair) leave(ctx context.Context) error {
	for g, guest := range p.guests {
		script := fmt.Sprintf("ip link set %s down; ip addr flush dev %s; killall %s 2>/dev/null; true", p.nics[g], p.nics[g], p.blaster)
		if _, err := guest.Run(ctx, script); err != nil {
			return err
		}
	}
	return nil
}

// measure is one path in its turn. The CPU time is that of the two QEMUs while TCP
// is sent.
func (p *pair) measure(ctx context.Context, l *lab, turn time.Duration) (Figures, error) {
	f := Figures{Path: l.Path}
	before := p.cpuTime()
	bits, err := p.ask(ctx, l, "stream", turn)
	if err != nil {
		return f, err
	}
	f.Bits = bits[0]
	f.CPU = (p.cpuTime() - before).Seconds() / (f.Bits * turn.Seconds() / 1e9)
	frames, err := p.ask(ctx, l, "frames", turn)
	if err != nil {
		return f, err
	}
	f.Frames = frames[0]
	times, err := p.ask(ctx, l, "ping", turn)
	if err != nil {
		return f, err
	}
	f.Median, f.P99 = time.Duration(times[0])*time.Microsecond, time.Duration(times[len(times)-1])*time.Microsecond
	return f, nil
}

// ask has the first guest measure the way to the second.
func (p *pair) ask(ctx context.Context, l *lab, what string, turn time.Duration) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := p.guests[0].Run(ctx, fmt.Sprintf("%s %s %s %d %d", p.blaster, what, l.guests[1].ip, l.Queues, turn.Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("%s by %s: %w", what, l.Name(), err)
	}
	var numbers []float64
	for _, word := range strings.Fields(out) {
		n, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("%s by %s: %q", what, l.Name(), out)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s by %s printed nothing", what, l.Name())
	}
	return numbers, nil
}

// cpuTime is what the QEMUs have used so far.
func (p *pair) cpuTime() time.Duration {
	var sum time.Duration
	for _, g := range p.guests {
		sum += processTime(g.PID())
	}
	return sum
}
