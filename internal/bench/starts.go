package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// start is how long virsh start takes of a paused domain with one NIC, and of many
// at once.
type start struct {
	name string
	one  series
	many time.Duration // until the last of crowdOfStarts
}

// crowdOfStarts is how many domains are started at once.
const crowdOfStarts = 50

// starter is domains of one kind of NIC, defined and shut off.
type starter struct {
	name string
	l    *libvirt
	nic  func(n int) string
}

func startDomain(n int) string { return fmt.Sprintf("start%d", n) }

func startMAC(n int) string { return fmt.Sprintf("52:54:00:f3:00:%02x", n) }

// measureStarts starts one domain in turn with the others, and then all.
func measureStarts(ctx context.Context, s *scope, rounds int, starters []starter) []start {
	list := make([]start, len(starters))
	for i, st := range starters {
		list[i].name = st.name
		for n := range crowdOfStarts {
			st.l.Virsh("define", st.l.write(s, startDomain(n), fmt.Sprintf(libvirtDomain, startDomain(n), st.nic(n), ejectsPaused)))
		}
	}
	for round := range warmUp + rounds {
		for i := range starters {
			i = (i + round) % len(starters)
			took, err := starters[i].once(ctx, 0)
			s.must(err)
			s.must(starters[i].stop(ctx, 0))
			s.must(pause(ctx, settle))
			if round >= warmUp {
				list[i].one = append(list[i].one, took)
			}
		}
	}
	for i, st := range starters {
		list[i].many = st.all(ctx, s)
	}
	return list
}

func (st starter) once(ctx context.Context, n int) (time.Duration, error) {
	return st.l.virsh(ctx, "start", "--paused", startDomain(n))
}

func (st starter) stop(ctx context.Context, n int) error {
	_, err := st.l.virsh(ctx, "destroy", startDomain(n))
	return err
}

// all starts every domain at once and ends them again.
func (st starter) all(ctx context.Context, s *scope) time.Duration {
	began := time.Now()
	s.must(together(func(n int) error {
		_, err := st.once(ctx, n)
		return err
	}))
	took := time.Since(began)
	s.must(together(func(n int) error { return st.stop(ctx, n) }))
	return took
}

func together(f func(n int) error) error {
	errs := make([]error, crowdOfStarts)
	var all sync.WaitGroup
	for n := range crowdOfStarts {
		all.Go(func() { errs[n] = f(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (r result) writeStarts(p page) {
	if len(r.starts) == 0 {
		return
	}
	p.line("## Starts by libvirt")
	p.line("")
	p.line("`virsh start --paused` of a domain with one NIC, whole process, milliseconds, median (90th percentile) of %d; and %d such domains", r.rounds, crowdOfStarts)
	p.line("started at once, each by a virsh of its own, until the last was there.")
	p.line("")
	p.row("", "start", "added", fmt.Sprintf("%d at once", crowdOfStarts))
	p.row("---", "---:", "---:", "---:")
	for _, st := range r.starts {
		p.row(st.name, times(st.one), ms(st.one.median()-r.starts[0].one.median()), ms(st.many))
	}
	p.line("")
}
