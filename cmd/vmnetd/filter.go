package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// counters is what a NIC's filter has matched, what it dropped first; never nil.
// A NIC that has gone meanwhile, and one on a kernel or by a daemon that cannot
// count, has none.
func counters(ctx context.Context, c client, one vmnetd.Attachment) ([]vmnetd.Counter, error) {
	found, err := c.Counters(ctx, one.VM, one.ID)
	if errors.Is(err, vmnetd.ErrNotFound) || errors.Is(err, vmnetd.ErrUnsupported) {
		return []vmnetd.Counter{}, nil
	}
	list := append([]vmnetd.Counter{}, found...)
	slices.SortStableFunc(list, func(x, y vmnetd.Counter) int {
		switch {
		case x.Dropped == y.Dropped:
			return 0
		case x.Dropped:
			return -1
		}
		return 1
	})
	return list, err
}

// printFilter prints nothing where there is no filter.
func (a *app) printFilter(list []vmnetd.Counter) {
	if len(list) == 0 {
		return
	}
	t := table{columns: []column{{name: "FILTER", flex: true}, {name: "VERDICT"}, {name: "PACKETS", right: true}, {name: "BYTES", right: true}}}
	for _, n := range list {
		t.add(n.Rule, verdict(n), strconv.FormatUint(n.Packets, 10), strconv.FormatUint(n.Bytes, 10))
	}
	var text strings.Builder
	t.write(&text, max(0, a.io.width-gap), func(head string) string { return a.io.paint(bold, head) })
	a.printf("\n")
	for line := range strings.Lines(text.String()) {
		a.printf("  %s", line)
	}
}

func verdict(n vmnetd.Counter) string {
	if n.Dropped {
		return "dropped"
	}
	return "passed"
}
