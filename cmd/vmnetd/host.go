package main

import (
	"context"
	"fmt"

	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/config"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/uplink"
)

// hostWarnings is what a configuration wants and this host lacks. It is no
// mistake: many hosts share one configuration.
func hostWarnings(ctx context.Context, cfg agent.Config) []string {
	finder, stop, err := findUplinks(ctx)
	if err != nil {
		return []string{fmt.Sprintf("this host's devices cannot be compared with it: %v", err)}
	}
	defer stop()
	return config.Warnings(cfg, func(spec uplink.Spec) bool {
		s, err := finder.State(ctx, spec)
		return err != nil || s.Present // what cannot be looked at is not called missing
	})
}

func findUplinks(ctx context.Context) (f *uplink.Finder, stop func(), err error) {
	conn, err := rtnl.Open()
	if err != nil {
		return nil, nil, err
	}
	links, err := conn.Links(ctx)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return uplink.New(conn, snapshot(links)), func() { _ = conn.Close() }, nil
}

// snapshot is the links of one moment, for a command that does not stay.
type snapshot []rtnl.Link

func (s snapshot) All() []rtnl.Link { return s }

func (s snapshot) ByIndex(index int) (rtnl.Link, bool) {
	for _, l := range s {
		if l.Index == index {
			return l, true
		}
	}
	return rtnl.Link{}, false
}

func (s snapshot) On(lower int) []rtnl.Link {
	return s.only(func(l rtnl.Link) bool { return l.Lower == lower && l.LowerHere })
}

func (s snapshot) Ports(master int) []rtnl.Link {
	return s.only(func(l rtnl.Link) bool { return l.Master == master })
}

func (s snapshot) only(is func(rtnl.Link) bool) (list []rtnl.Link) {
	for _, l := range s {
		if is(l) {
			list = append(list, l)
		}
	}
	return list
}
