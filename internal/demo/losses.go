package main

import (
	"fmt"
	"strings"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// loss is the pings that one thing has cost each guest.
type loss struct {
	what string
	of   []testkit.PingCount
}

// losses is the second table of the summary.
type losses struct {
	names []string // of the guests
	rows  []loss
}

func (l *losses) add(row loss) { l.rows = append(l.rows, row) }

// String is the table, "" without rows.
func (l *losses) String() string {
	if len(l.rows) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-43s", "PINGS LOST WHILE")
	for _, name := range l.names {
		fmt.Fprintf(&b, " %12s", strings.ToUpper(name))
	}
	for _, row := range l.rows {
		fmt.Fprintf(&b, "\n%-43s", row.what)
		for _, c := range row.of {
			fmt.Fprintf(&b, " %12s", fmt.Sprintf("%d of %d", c.Lost, c.Sent))
		}
	}
	return b.String() + "\n"
}
