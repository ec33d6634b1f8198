package filter

import (
	"fmt"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"slices"
	"testing"
	"time"
)

func TestExp(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	s := g.strict()
	w := wanted(s)
	var lk, rd, bd, cm, tcq []time.Duration
	// keep egress key on
	l.set(t, Spec{Ifname: "u0", Hook: Egress, RA: true})
	for i := range 1000 {
		n := fmt.Sprintf("x%d", i)
		l.ns.Create(t, rtnl.NewLink{Name: n, Kind: "macvtap", Lower: l.ns.Link(t, "u0").Index, Data: rtnl.MacvlanMode("bridge")})
		x := s
		x.Ifname = n
		l.set(t, x)
	}
	for range 100 {
		t0 := time.Now()
		link, _ := l.conn.LinkByName(ctx(), s.Ifname)
		t1 := time.Now()
		l.nft.run(ctx(), func(ss *session) error {
			t2 := time.Now()
			there, _ := ss.readFor(w)
			t3 := time.Now()
			ch := changes(w, there)
			t4 := time.Now()
			err := ss.commit(ch)
			t5 := time.Now()
			rd = append(rd, t3.Sub(t2))
			bd = append(bd, t4.Sub(t3))
			cm = append(cm, t5.Sub(t4))
			return err
		})
		t6 := time.Now()
		l.setBandwidth(ctx(), link.Index, s)
		tcq = append(tcq, time.Since(t6))
		lk = append(lk, t1.Sub(t0))
		l.Remove(ctx(), s.Ifname)
		time.Sleep(20 * time.Millisecond)
	}
	for n, v := range map[string][]time.Duration{"link": lk, "read": rd, "build": bd, "commit": cm, "tc": tcq} {
		slices.Sort(v)
		fmt.Println(n, v[0], v[len(v)/4], v[len(v)/2], v[len(v)*9/10])
	}
}
