package tapdev

import (
	"context"
	"fmt"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func TestAMarkCountsMoreThanAName(t *testing.T) {
	for name, alias := range map[string]string{"another's": vmnetd.Alias("vm2", "net0"), "nobody's": ""} {
		l := newLab(t, nil)
		dev := l.endpoint(t, "vm1")
		l.ns.Set(t, dev.Ifname, rtnl.Name("eth0"))
		l.ns.Create(t, rtnl.NewLink{Name: dev.Ifname, Kind: "macvlan", Lower: l.u0.Index, MAC: mac(2), Group: Group, Data: rtnl.MacvlanMode("bridge")})
		if alias != "" {
			l.ns.Set(t, dev.Ifname, rtnl.Alias(alias))
		}
		if found, err := l.FindNIC(t.Context(), "vm1", "net0"); err != nil || found.Ifindex != dev.Ifindex {
			t.Errorf("beside %s device of its name: %+v, %v", name, found, err)
		}
	}
}

// BenchmarkFindNIC finds one device among so many.
func BenchmarkFindNIC(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLab(b, nil)
			for i := range n {
				vm := fmt.Sprint("vm", i)
				name := vmnetd.Ifname(vm, "net0")
				l.ns.Create(b, rtnl.NewLink{Name: name, Kind: "macvlan", Lower: l.u0.Index, MAC: mac(i + 1), Group: Group, Data: rtnl.MacvlanMode("bridge")})
				l.ns.Set(b, name, rtnl.Alias(vmnetd.Alias(vm, "net0")))
			}
			for b.Loop() {
				if _, err := l.FindNIC(context.Background(), "vm0", "net0"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
