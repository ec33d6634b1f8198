package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// options is how much is measured, and of what.
type options struct {
	program string // vmnetd
	out     string // the file to write, "" for standard output only
	rounds  int
	idle    time.Duration
	many    int // the largest number of attachments
	libvirt bool
	vmtier  string // runs what needs bond and team in a VM; empty to leave it out
	section bool   // measure that here, and nothing else
	moves   bool   // measure live migrations, and nothing else
	paths   bool   // measure the ways between guests, and nothing else
	here    bool   // of these only what is measured in the VM, on this kernel
	blaster string // what guests run to measure the way between them; empty to leave them out
}

func main() {
	var o options
	flag.StringVar(&o.program, "vmnetd", "bin/vmnetd", "the `PROGRAM` to measure")
	flag.StringVar(&o.out, "o", "docs/benchmarks.md", "the `FILE` to write; empty for none")
	flag.IntVar(&o.rounds, "rounds", 20, "how many times each thing is measured")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long the idle daemon is watched; 0 to leave it out")
	flag.IntVar(&o.many, "many", 1000, "attachments of the largest scale; 0 to leave scale out")
	flag.BoolVar(&o.libvirt, "libvirt", true, "measure libvirt too")
	flag.StringVar(&o.vmtier, "vmtier", "bin/vmtier", "the `PROGRAM` that runs what needs bond and team in a VM; empty to leave it out")
	flag.BoolVar(&o.section, "uplinks", false, "measure provisioning and failover alone, on this kernel, and print these sections")
	flag.BoolVar(&o.moves, "moves", false, "measure live migrations alone, and print that section")
	flag.BoolVar(&o.paths, "paths", false, "measure the ways between guests alone, and print that section")
	flag.BoolVar(&o.here, "paths-here", false, "of these only what is measured in the VM, on this kernel")
	flag.StringVar(&o.blaster, "blaster", "bin/vmnetd-blaster", "the `PROGRAM` that guests run to measure the way between them, static; empty to leave guests out")
	flag.Parse()
	os.Exit(run(o))
}

// run returns the exit code.
func run(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	page, err := perform(ctx, o)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "bench: interrupted; nothing is left behind")
		return vmnetd.ExitInterrupted
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	fmt.Println(page)
	if o.out == "" || o.part() {
		return 0
	}
	if err := os.WriteFile(o.out, []byte(page), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// part says that a part of the page is measured, and printed.
func (o options) part() bool { return o.section || o.moves || o.paths || o.here }

// measurePart measures a part of the page.
func measurePart(ctx context.Context, s *scope, o options) (string, error) {
	switch {
	case o.section:
		s.tmp = os.TempDir() // the VM's disk cannot be written to
		return provisionSection(s, o.program, o.rounds) + "\n" + failoverSection(s, o.program), ctx.Err()
	case o.moves:
		return movesSection(ctx, s, o), ctx.Err()
	case o.here:
		s.tmp = os.TempDir()
		return pathsHere(ctx, s)
	}
	return pathSection(ctx, s, o)
}

// perform measures everything and returns the page to write.
func perform(ctx context.Context, o options) (page string, err error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("only root can make network namespaces; type: sudo make bench")
	}
	if o.program, err = filepath.Abs(o.program); err != nil {
		return "", err
	}
	s := newScope(ctx)
	defer s.close()
	defer s.recoverFatal(&err)
	if o.part() {
		return measurePart(ctx, s, o)
	}
	r := result{options: o, machine: describeMachine(ctx), date: time.Now()}
	r.pairs, r.starts = compare(ctx, s, o)
	if o.libvirt {
		r.moves = measureMoves(ctx, s, o)
	}
	if o.many > 0 || o.idle > 0 {
		r.idle, r.scales = crowd(ctx, s, o)
	}
	if o.blaster != "" {
		if r.paths, err = pathSection(ctx, s, o); err != nil {
			return "", err
		}
	}
	if o.vmtier != "" {
		if r.uplinks, err = inVM(ctx, o); err != nil {
			return "", err
		}
	}
	var b bytes.Buffer
	r.write(&b)
	return b.String(), ctx.Err()
}

// say tells somebody who waits what is being done.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
