package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// watch shows what vmnetd told since then, up to a line with that text. A second
// more: the command counts back from its own start, which is a little later.
func (r *redundancy) watch(ctx context.Context, since time.Time, until string) error {
	ctx, cancel := context.WithTimeout(ctx, testkit.Patience)
	defer cancel()
	ago := fmt.Sprintf("%.0fs", math.Ceil(time.Since(since).Seconds())+1)
	r.show.note("$ vmnetd watch --since %s", ago)
	cmd := r.command(ctx, "watch", "--since", ago)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Wait() }() // it has no end of its own
	defer cancel()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		r.show.quote(lines.Text())
		if strings.Contains(lines.Text(), until) {
			return nil
		}
	}
	return fmt.Errorf("vmnetd watch does not say %q", until)
}
