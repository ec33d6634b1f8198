package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/datapath"
)

// aimFilter is how much of a path's throughput is left with the filter on.
const aimFilter = 0.95

// How long the ways between guests are measured.
var (
	byFDs      = datapath.Options{Rounds: 80, Turn: 25 * time.Millisecond}
	byFDsInVM  = datapath.Options{Rounds: 15, Turn: 100 * time.Millisecond}
	guestsTurn = 2 * time.Second
)

func pathsOf(vhost bool, modes ...vmnetd.Mode) (paths []datapath.Path) {
	for _, mode := range modes {
		for _, queues := range queueCounts {
			paths = append(paths, datapath.Path{Mode: mode, Queues: queues, VHost: vhost})
		}
	}
	return paths
}

// pathSection measures the ways between guests, and is a part of the page.
func pathSection(ctx context.Context, outer *scope, o options) (string, error) {
	var b bytes.Buffer
	p := page{&b}
	p.line("## From guest to guest")
	p.line("")
	p.line("%s", pathMethod)
	p.line("")
	s := outer.inner()
	say("frames from guest to guest by queue fds, about a minute")
	fds := datapath.ByFDs(ctx, s, byFDs, pathsOf(false, vmnetd.Bridge, vmnetd.Switched)...)
	s.close()
	p.figures("Without a QEMU, on this machine's kernel", fds)
	s = outer.inner()
	defer s.close()
	if o.blaster != "" {
		say("two guests with an operating system, 1 to 2 minutes")
		p.figures("Between guests with an operating system, emulated (QEMU's TCG: a guest's own work is most of this)",
			datapath.ByGuests(ctx, s, o.blaster, guestsTurn, pathsOf(false, vmnetd.Bridge, vmnetd.Switched)...))
	}
	if o.vmtier != "" {
		in, err := pathsInVM(ctx, o)
		if err != nil {
			return "", err
		}
		p.line("%s", strings.TrimSpace(in))
		p.line("")
	}
	p.filterAims(fds)
	return b.String(), ctx.Err()
}

const pathMethod = `Two guests' devices on one uplink, made as vmnetd makes them, and filtered as usual (MAC and IPv4 address pinned, no DHCP server, no RA). Without a QEMU
means: a program holds the queues of both, one thread for each queue, and is the guests. It sends TCP segments of 64 KiB (Gb/s: payload that arrives; as with TCP no
more than a window is on its way), UDP in frames of 60 bytes (frames/s), and a frame that comes back (µs there and back). Every path has its turn of some milliseconds
with and without the filter, one after the other, again and again; what counts is what one turn in ten exceeds, since what else the machine does only takes away;
what is left with the filter is the median part of the turn right beside.
CPU is what both guests and the kernel in their name use for 10^9 bit. With vhost the program has its frames in memory, in rings of 64 as a guest's driver has, and
vhost-net's workers carry them; theirs is not in the CPU.`

// pathsInVM has that measured which needs a kernel with ipvtap and vhost-net.
func pathsInVM(ctx context.Context, o options) (string, error) {
	say("frames from guest to guest in a VM: a minute or two")
	own, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, o.vmtier, "run", "-timeout", "10m", "--", own, "-vmnetd", o.program, "-paths-here")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return string(out), err
}

// pathsHere is the part that is measured in the VM.
func pathsHere(ctx context.Context, outer *scope) (string, error) {
	var b bytes.Buffer
	s := outer.inner()
	defer s.close()
	modes := []vmnetd.Mode{vmnetd.Bridge, vmnetd.Switched, vmnetd.L2}
	paths := slices.Concat(pathsOf(false, modes...), pathsOf(true, modes...))
	page{&b}.figures("Without a QEMU, in the VM of `make test-vm`: Debian's kernel, all of it emulated (TCG, two cores): only to be compared with each other",
		datapath.ByFDs(ctx, s, byFDsInVM, paths...))
	return b.String(), ctx.Err()
}

// figures is a table, and a chart of it.
func (p page) figures(title string, list []datapath.Figures) {
	p.line("### %s", title)
	p.line("")
	p.row("path", "queues", "filter", "Gb/s", "frames/s", "µs there and back, median", "99 %", "CPU s per Gb")
	p.row("---", "---:", "---", "---:", "---:", "---:", "---:", "---:")
	for _, f := range list {
		p.row(pathName(f), fmt.Sprint(f.Queues), onOff(f.Filter), number(f.Bits/1e9), fmt.Sprintf("%.0f", f.Frames), micros(f.Median), micros(f.P99), number(f.CPU))
	}
	p.line("")
	p.chart("Gb/s", list, func(f datapath.Figures) float64 { return f.Bits / 1e9 })
	p.chart("1000 frames/s", list, func(f datapath.Figures) float64 { return f.Frames / 1000 })
}

// chart is bars of text: they are read in a terminal, too.
func (p page) chart(unit string, list []datapath.Figures, of func(datapath.Figures) float64) {
	const width = 50
	most := 0.0
	for _, f := range list {
		most = max(most, of(f))
	}
	p.line("```text")
	p.line("%s", unit)
	for _, f := range list {
		p.line("%-28s %-10s filter %-3s %s %s", pathName(f), plural(f.Queues), onOff(f.Filter), strings.Repeat("█", max(int(width*of(f)/cmp.Or(most, 1)+0.5), 1)), number(of(f)))
	}
	p.line("```")
	p.line("")
}

// filterAims compares what is left with the filter on.
func (p page) filterAims(list []datapath.Figures) {
	p.row("aim", "measured", "")
	p.row("---", "---", "---")
	for _, a := range filterAims(list) {
		p.row(a.text, a.measured, a.verdict())
	}
	p.line("")
}

func filterAims(list []datapath.Figures) (aims []aim) {
	for _, f := range list {
		if !f.Filter {
			continue
		}
		for _, what := range []struct {
			name string
			left float64
		}{{"Gb/s", f.BitsLeft}, {"frames/s of 60 bytes", f.FramesLeft}} {
			aims = append(aims, aim{
				text:     fmt.Sprintf("%s, %s: %s with the filter at least %.0f %% of those without", pathName(f), plural(f.Queues), what.name, 100*aimFilter),
				measured: fmt.Sprintf("%.1f %%", 100*what.left), met: what.left >= aimFilter,
			})
		}
	}
	return aims
}

func pathName(f datapath.Figures) string {
	if f.VHost {
		return f.Name() + ", vhost"
	}
	return f.Name()
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// number has three digits that mean something.
func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	case f >= 1:
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.3f", f)
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1000) }
