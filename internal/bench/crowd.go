package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
)

// The crowd: vmCount real QEMUs with nicsPerVM NICs each, 100 attachments;
// what is beyond are devices whose queues this process holds, by OpenTap.
const (
	vmCount   = 20
	nicsPerVM = 5
)

// idle is what a daemon costs that has nothing to do.
type idle struct {
	attachments int
	watched     time.Duration
	rssKiB      int
	ticks       int // utime+stime, in 1/100 s

	restart time.Duration // from the start of another daemon until it is ready
	settled time.Duration // until it has looked at every attachment and rests
	work    int           // CPU until then, in 1/100 s
}

// scale is attach and detach beside existing attachments.
type scale struct {
	existing int
	pairs    []pair // by each way, one queue
}

// crowd measures attaches while the attachments become many, and the daemon at
// rest with 100.
func crowd(ctx context.Context, outer *scope, o options) (idles []idle, scales []scale) {
	s := outer.inner()
	defer s.close()
	c := newCrowd(ctx, s, o)
	scales = append(scales, c.measure())
	say("%d VMs with %d NICs each", vmCount, nicsPerVM)
	c.plugAll()
	scales = append(scales, c.measure())
	idles = append(idles, c.rest(o.idle).with(c.again()))
	if o.many > c.existing() {
		say("%d more devices, their queues held by this process", o.many-c.existing())
		c.openTaps(o.many - c.existing())
		scales = append(scales, c.measure())
		idles = append(idles, c.rest(o.idle).with(c.again()))
	}
	return idles, scales
}

// crowded is a host with a daemon, beside one with as many devices for the
// floor.
type crowded struct {
	ctx    context.Context
	s      *scope
	rounds int
	d      *daemon
	host   *host
	floor  *floor
	beside *host
	plugs  int
	taps   int
}

func newCrowd(ctx context.Context, s *scope, o options) *crowded {
	c := &crowded{ctx: ctx, s: s, rounds: o.rounds, host: newHost(s), beside: newHost(s)}
	c.d = startDaemon(s, c.host, o.program, "none")
	startVM(s, c.host, "bench", c.d.qmp, 4)
	c.floor = newFloor(s, c.beside, startVM(s, c.beside, "floor", "", 4).Socket)
	return c
}

func (c *crowded) existing() int { return c.plugs + c.taps }

func (c *crowded) measure() scale {
	say("attach and detach beside %d attachments, %d rounds", c.existing(), c.rounds)
	pairs := interleave(c.ctx, c.s, []contender{
		{wayFloor, c.floor}, {wayAPI, byAPI{d: c.d, vm: "bench", id: "net0"}}, {wayCommand, byCommand{d: c.d, vm: "bench", id: "net0"}},
	}, []int{1}, c.rounds)
	return scale{existing: c.existing(), pairs: pairs}
}

func (c *crowded) plugAll() {
	for i := range vmCount {
		vm := fmt.Sprintf("vm%d", i)
		startVM(c.s, c.host, vm, c.d.qmp, nicsPerVM)
		for n := range nicsPerVM {
			_, err := byAPI{d: c.d, vm: vm, id: fmt.Sprintf("net%d", n)}.attach(c.ctx, 1)
			c.s.must(err)
			c.plugs++
		}
	}
	c.besides()
}

func (c *crowded) openTaps(n int) {
	for i := range n {
		_, set, err := c.d.client.OpenTap(c.ctx, vmnetd.Request{VM: fmt.Sprintf("tap%d", i), ID: "net0", Queues: 1}, 0)
		c.s.must(err)
		c.s.Cleanup(func() { _ = set.Close() })
		c.taps++
	}
	c.besides()
}

// besides gives the floor's host as many devices as the daemon's has.
func (c *crowded) besides() {
	have, err := c.beside.Conn().Links(c.ctx)
	c.s.must(err)
	n := 0
	for _, l := range have {
		if l.Group == fillGroup {
			n++
		}
	}
	fill(c.s, c.beside.Netns, "macvtap", fmt.Sprintf("f%d-", n), c.floor.lower, c.existing()-n)
}

// rest watches the daemon do nothing.
func (c *crowded) rest(d time.Duration) idle {
	say("the daemon at rest with %d attachments, for %s", c.existing(), d)
	c.s.must(pause(c.ctx, 15*time.Second)) // what the last attach left to do, also to the garbage collector
	before, err := cpuTicks(c.d.process.pid())
	c.s.must(err)
	c.s.must(pause(c.ctx, d))
	after, err := cpuTicks(c.d.process.pid())
	c.s.must(err)
	rss, err := rssKiB(c.d.process.pid())
	c.s.must(err)
	return idle{attachments: c.existing(), watched: d, rssKiB: rss, ticks: after - before}
}

// with adds what a restart takes.
func (i idle) with(restart, settled time.Duration, work int) idle {
	i.restart, i.settled, i.work = restart, settled, work
	return i
}

// restful is how long a daemon that has used no CPU has nothing to do.
const restful = 500 * time.Millisecond

// again kills the daemon and starts another one, which finds everything as it was.
func (c *crowded) again() (restart, settled time.Duration, work int) {
	say("the daemon is killed and starts again with %d attachments", c.existing())
	c.d.process.kill()
	began := time.Now()
	c.d.run(c.s, c.host)
	restart = time.Since(began)
	last := time.Now()
	for now := -1; time.Since(last) < restful && time.Since(began) < time.Minute; {
		ticks, err := cpuTicks(c.d.process.pid())
		c.s.must(err)
		if ticks != now {
			now, last, settled, work = ticks, time.Now(), time.Since(began), ticks
		}
		c.s.must(pause(c.ctx, 10*time.Millisecond))
	}
	for _, att := range c.list() {
		if att.Phase != vmnetd.Attached {
			c.s.Fatalf("%s is %s after a restart: %s", att.FullName(), att.Phase, att.Problem)
		}
	}
	return restart, settled, work
}

func (c *crowded) list() []vmnetd.Attachment {
	list, err := c.d.client.List(c.ctx, "")
	c.s.must(err)
	return list
}

// cpuTicks is utime and stime (proc_pid_stat(5), fields 14 and 15).
func cpuTicks(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	sum := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// rssKiB is VmRSS (proc_pid_status(5)).
func rssKiB(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.Fields(value)[0])
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
}
