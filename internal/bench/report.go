package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The aims.
const (
	aimAPI     = 1.2       // times the floor's attach
	aimCommand = 1.0 / 3   // of virsh's attach
	aimRSS     = 30 * 1024 // KiB, 100 attachments
	aimTicks   = 0
)

// result is everything that was measured.
type result struct {
	options
	machine machine
	date    time.Time
	pairs   []pair
	starts  []start
	moves   []move
	idle    []idle
	scales  []scale

	paths, uplinks string // sections of the page
}

// write makes the page.
func (r result) write(w io.Writer) {
	p := page{w}
	p.line("# Benchmarks")
	p.line("")
	p.line("Written by `make bench` on %s; every number is of one run.", r.date.UTC().Format("2006-01-02 15:04 UTC"))
	p.line("")
	r.describe(p)
	p.line("")
	p.line("## Aims")
	p.line("")
	p.row("aim", "measured", "")
	p.row("---", "---", "---")
	for _, a := range r.aims() {
		p.row(a.text, a.measured, a.verdict())
	}
	p.line("")
	r.writeWhy(p)
	p.line("## Attach and detach")
	p.line("")
	r.writePairs(p)
	r.writeMethod(p)
	r.writeStarts(p)
	r.writeMoves(p)
	r.writeScales(p)
	r.writeIdle(p)
	for _, section := range []string{r.paths, r.uplinks} {
		if section != "" {
			p.line("")
			p.line("%s", strings.TrimSpace(section))
		}
	}
}

// why is where an attach through the daemon spends what the floor does not. It
// was found by timing each step; look again when the numbers have moved.
const why = `What an attach through the daemon does beyond the floor, the largest first:

- it asks QEMU which devices there are and whether the port is free. QEMU takes in a command byte by byte, each by a turn of its main loop, so
  every question costs 0.2 to 0.5 ms. Name, uuid, vCPUs, the layout of the buses and what takes hotplug are asked once in a run of QEMU;
- a D-Bus call, four hops through dbus-daemon;
- the filter of what the guest may send, in one transaction of some thirty rules: 1.4 ms, a third of it the kernel's;
- it looks each device up before, reads it back after, and checks that a queue is the device's own;
- it writes the intent and the outcome down, and the events.

The command adds the start of a process, its way to the bus, and its end. Beside many attachments the policy's facts (every device on the
uplink) and the state file (written whole, twice an attach) grow with them.`

func (r result) writeWhy(p page) {
	if slices.ContainsFunc(r.aims(), func(a aim) bool { return !a.met && a.slow }) {
		p.line("%s", why)
		p.line("")
	}
}

type page struct{ w io.Writer }

func (p page) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

func (p page) row(cells ...string) { fmt.Fprintf(p.w, "| %s |\n", strings.Join(cells, " | ")) }

func (r result) describe(p page) {
	m := r.machine
	p.row("machine", "")
	p.row("---", "---")
	p.row("CPU", fmt.Sprintf("%s, %d cores, load %s when it began", m.cpu, m.cores, m.load))
	p.row("kernel", m.kernel)
	p.row("QEMU", m.qemu)
	p.row("libvirt", m.libvirt)
	p.row("Go", m.goVersion)
	p.row("vhost-net", yes(m.vhost))
	p.row("state directory in memory, as /run is", yes(m.stateInMemory))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// aim is one promise and what became of it.
type aim struct {
	text, measured string
	met            bool
	slow           bool // of how long an attach takes
}

func (a aim) verdict() string {
	if a.met {
		return "met"
	}
	return "**missed**"
}

func (r result) aims() (list []aim) {
	for _, q := range queueCounts {
		if ratio := r.ratio(wayAPI, wayFloor, q); ratio > 0 {
			list = append(list, aim{fmt.Sprintf("attach by the API at most %.1f × the floor, %s", aimAPI, plural(q)), fmt.Sprintf("%.2f ×", ratio), ratio <= aimAPI, true})
		}
		if ratio := r.ratio(wayCommand, wayLibvirt, q); ratio > 0 {
			list = append(list, aim{fmt.Sprintf("`vmnetd attach` at most 1/3 of `virsh attach-device`, %s", plural(q)), fmt.Sprintf("1/%.1f", 1/ratio), ratio <= aimCommand, true})
		}
	}
	for _, i := range r.idle {
		if i.attachments != vmCount*nicsPerVM {
			continue
		}
		list = append(list,
			aim{"idle daemon with 100 attachments below 30 MiB", mib(i.rssKiB), i.rssKiB < aimRSS, false},
			aim{fmt.Sprintf("idle daemon with 100 attachments: no CPU tick in %s", i.watched), fmt.Sprint(i.ticks), i.ticks <= aimTicks, false})
	}
	return list
}

// ratio is one way's median attach over another's, 0 where one is missing.
func (r result) ratio(over, under string, queues int) float64 {
	return ratioOf(r.pairs, over, under, queues, func(p pair) series { return p.attach })
}

func ratioOf(pairs []pair, over, under string, queues int, what func(pair) series) float64 {
	a, okA := find(pairs, over, queues)
	b, okB := find(pairs, under, queues)
	if !okA || !okB || what(b).median() == 0 {
		return 0
	}
	return float64(what(a).median()) / float64(what(b).median())
}

func find(pairs []pair, name string, queues int) (pair, bool) {
	i := slices.IndexFunc(pairs, func(p pair) bool { return p.name == name && p.queues == queues })
	if i < 0 {
		return pair{}, false
	}
	return pairs[i], true
}

func (r result) writePairs(p page) {
	p.line("Milliseconds, median (90th percentile) of %d; × is the median over the floor's.", r.rounds)
	p.line("")
	p.row("", "queues", "attach", "×", "detach", "×")
	p.row("---", "---:", "---:", "---:", "---:", "---:")
	for _, q := range queueCounts {
		for _, one := range r.pairs {
			if one.queues != q {
				continue
			}
			p.row(one.name, fmt.Sprint(q),
				times(one.attach), fmt.Sprintf("%.2f", r.ratio(one.name, wayFloor, q)),
				times(one.detach), fmt.Sprintf("%.2f", ratioOf(r.pairs, one.name, wayFloor, q, func(p pair) series { return p.detach })))
		}
	}
	p.line("")
}

func (r result) writeMethod(p page) {
	p.line(`How: each of floor, vmnetd and libvirt has a network namespace of its own with a veth as uplink, and a paused q35 VM with four
root ports and native PCIe hot-plug (%s), so that a NIC is let go at once and no guest's time is measured. The
ways take turns, each round begins with another one, %d rounds before are not counted, and 50 ms pass between two measurements.
So the first attach in a run of a VM is not in these numbers: it takes some milliseconds more, because it asks QEMU what is asked only once.

The floor is one thread with blocking system calls: the netlink messages of an attach (the macvtap created down with every attribute; alias;
allmulticast and addrgenmode; up), disable_ipv6, the queues opened, then QMP: connect, getfd for each queue, netdev_add, device_add, disconnect.
It decides nothing, looks for nothing (the PCIe port is known), verifies nothing and writes nothing down. A detach is: down, QMP connect,
device_del until DEVICE_DELETED, netdev_del, disconnect, delete.

libvirt is a libvirtd of its own, without security driver, cgroups and namespaces, so as fast as it can be. It does another job in places: it does not mark
the device nor read it back, leaves IPv6 and multicast as they are, keeps the link down while the CPUs stand still, and its device_add runs on
a QMP connection that is always open. By its API means go-libvirt. The macvtap for type=ethernet is made by ip before the clock starts and deleted
after it stopped. vmnetd via libvirt has a daemon and a libvirtd of its own, with the hook; its device is made and deleted while the clock runs.`, "`"+ejectsPaused+"`", warmUp)
	p.line("")
}

func (r result) writeScales(p page) {
	if len(r.scales) == 0 {
		return
	}
	p.line("## Beside many attachments")
	p.line("")
	p.line("One queue, milliseconds, median (90th percentile) of %d. The first %d attachments are NICs of %d paused QEMUs, %d each; the others are devices that the daemon", r.rounds, vmCount*nicsPerVM, vmCount, nicsPerVM)
	p.line("made for OpenTap and whose queues one process holds. The floor has as many macvtaps beside it, on an uplink of its own.")
	p.line("")
	p.row("existing attachments", "floor attach", "API attach", "×", "whole process attach", "floor detach", "API detach", "×")
	p.row("---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:")
	for _, sc := range r.scales {
		floor, _ := find(sc.pairs, wayFloor, 1)
		api, _ := find(sc.pairs, wayAPI, 1)
		command, _ := find(sc.pairs, wayCommand, 1)
		p.row(fmt.Sprint(sc.existing),
			times(floor.attach), times(api.attach), over(api.attach, floor.attach), times(command.attach),
			times(floor.detach), times(api.detach), over(api.detach, floor.detach))
	}
	p.line("")
}

func (r result) writeIdle(p page) {
	if len(r.idle) == 0 {
		return
	}
	p.line("## The daemon at rest")
	p.line("")
	p.line("Every NIC has its filter. Ready, and settled: how long after the start of another daemon in the place of one that was killed it answers, and how long")
	p.line("after it every device and filter is looked at and it rests; with the CPU time that it used until then.")
	p.line("")
	p.row("attachments", "resident memory", "CPU ticks (1/100 s)", "watched for", "ready, ms", "settled, ms", "CPU, ms")
	p.row("---:", "---:", "---:", "---:", "---:", "---:", "---:")
	for _, i := range r.idle {
		p.row(fmt.Sprint(i.attachments), mib(i.rssKiB), fmt.Sprint(i.ticks), i.watched.String(), ms(i.restart), ms(i.settled), fmt.Sprint(10*i.work))
	}
}

func over(a, b series) string {
	if b.median() == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", float64(a.median())/float64(b.median()))
}

func times(s series) string { return fmt.Sprintf("%s (%s)", ms(s.median()), ms(s.p90())) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

func mib(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

func plural(queues int) string {
	if queues == 1 {
		return "1 queue"
	}
	return fmt.Sprintf("%d queues", queues)
}
