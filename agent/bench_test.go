package agent

import (
	"fmt"
	"testing"

	"github.com/vmnetd/vmnetd"
)

// crowd is a host with n attachments, one a VM.
func crowd(b *testing.B, n int) *host {
	b.Helper()
	w := newWorld()
	h := newHost(b, w, testConfig())
	a := h.start()
	for i := range n {
		vm := fmt.Sprintf("crowd%04d", i)
		w.StartVM(vm)
		if _, err := a.Attach(b.Context(), Caller{}, vmnetd.Request{VM: vm}); err != nil {
			b.Fatal(err)
		}
	}
	w.StartVM("one")
	return h
}

var crowds = []int{0, 100, 1000}

// BenchmarkAttachDetach is what one more NIC costs the agent itself.
func BenchmarkAttachDetach(b *testing.B) {
	for _, n := range crowds {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := crowd(b, n)
			for b.Loop() {
				if _, err := h.agent.Attach(b.Context(), Caller{}, vmnetd.Request{VM: "one"}); err != nil {
					b.Fatal(err)
				}
				if _, err := h.agent.Detach(b.Context(), Caller{}, "one", Selector{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFacts is what a decision asks for.
func BenchmarkFacts(b *testing.B) {
	for _, n := range crowds {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := crowd(b, n)
			req := vmnetd.Request{VM: "one"}
			vm, err := h.agent.o.Hypervisor.Find(b.Context(), "one", "")
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := h.agent.decide(b.Context(), req, vm); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStoreWrite is what one changed record costs.
func BenchmarkStoreWrite(b *testing.B) {
	for _, n := range crowds {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := crowd(b, n)
			r := record{Attachment: vmnetd.Attachment{VM: "one", ID: "net0"}}
			for b.Loop() {
				r.MTU++ // what did not change is not written
				if err := h.agent.store.put(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStatus is what `vmnetd status` costs the daemon.
func BenchmarkStatus(b *testing.B) {
	for _, n := range crowds {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := crowd(b, n)
			for b.Loop() {
				if got := len(h.agent.Status().Attachments); got != n {
					b.Fatalf("%d attachments, want %d", got, n)
				}
			}
		})
	}
}
