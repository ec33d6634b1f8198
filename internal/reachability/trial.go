package reachability

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Trial is what came of everybody's trying everybody.
type Trial struct{ rows map[string][]*path }

// still is how long what should not come is waited for after everything has come
// that should.
const still = 3 * time.Second

// Try has everybody in all rows try everybody else, all at once. What the table
// says to come is waited for; the rest has as long, and a while more.
func (l *Lab) Try(expected Table) Trial {
	l.t.Helper()
	all, stop := Trial{rows: map[string][]*path{}}, make(chan struct{})
	var start []func() // once all are ready: who speaks slows the others down
	var everything, wanted sync.WaitGroup
	for _, r := range l.Rows {
		ears := r.listen(l.t)
		for _, e := range ears {
			start = append(start, func() { e.run(stop) })
		}
		all.rows[r.NIC] = r.paths(l.t, ears)
		for _, p := range all.rows[r.NIC] {
			done := func() {}
			if expected.Says(r.NIC, p.column) == Yes {
				wanted.Add(1)
				done = wanted.Done
			}
			start = append(start, func() {
				defer done()
				p.came = p.try(stop)
			})
		}
	}
	for _, f := range start {
		everything.Go(f)
	}
	began := time.Now()
	waitFor(&wanted, patience)
	l.t.Logf("what should come came within %.1f s", time.Since(began).Seconds())
	time.Sleep(still)
	close(stop)
	everything.Wait()
	return all
}

// patience is never reached when all is well, also where all of it is emulated on a busy machine.
const patience = 4 * testkit.Patience

// listen has everybody but the host join the groups.
func (r *Row) listen(t testkit.TB) map[*Node]*ear {
	t.Helper()
	ears := map[*Node]*ear{r.Outside: r.Outside.listen(t)}
	for _, g := range r.Guests {
		ears[g] = g.listen(t)
	}
	return ears
}

func waitFor(g *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		g.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// Says is what a row of the trial says of a column: Yes, No, Nobody, or neither,
// where some came and some did not; why lists these.
func (t Trial) Says(nic, column string) (cell, why string) {
	var came, lost []string
	for _, p := range t.rows[nic] {
		switch {
		case p.column != column:
		case p.came:
			came = append(came, p.what)
		default:
			lost = append(lost, p.what)
		}
	}
	switch {
	case len(came)+len(lost) == 0:
		return Nobody, "there is nobody"
	case len(lost) == 0:
		return Yes, "came: " + strings.Join(came, ", ")
	case len(came) == 0:
		return No, "did not come: " + strings.Join(lost, ", ")
	}
	return "some", fmt.Sprintf("came: %s; did not come: %s", strings.Join(came, ", "), strings.Join(lost, ", "))
}
