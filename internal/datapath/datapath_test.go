package datapath

import (
	"os"
	"os/exec"
	"path/filepath"
	stdtesting "testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *stdtesting.M) { testkit.LeakCheck(m) }

func TestFramesComeThroughEveryPathAndAreCounted(t *stdtesting.T) {
	testkit.Require(t, "netns")
	var paths []Path
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.Switched} {
		paths = append(paths, Path{Mode: mode, Queues: 1}, Path{Mode: mode, Queues: 4})
	}
	all := ByFDs(t.Context(), t, Options{Rounds: 4, Turn: 25 * time.Millisecond}, paths...)
	if len(all) != 2*len(paths) {
		t.Fatalf("%d figures", len(all))
	}
	for _, f := range all {
		if f.Filter != (f.BitsLeft > 0 && f.FramesLeft > 0) {
			t.Errorf("%+v", f)
		}
		if f.Bits <= 0 || f.Frames <= 0 || f.CPU <= 0 || f.Median <= 0 || f.P99 < f.Median {
			t.Errorf("%+v", f)
		}
		t.Logf("%-18s q%d filter=%-5v %6.2f Gb/s %7.0f kpps p50 %v p99 %v cpu/Gb %.3f", f.Name(), f.Queues, f.Filter, f.Bits/1e9, f.Frames/1000, f.Median, f.P99, f.CPU)
	}
}

func TestGuestsMeasureTheirWay(t *stdtesting.T) {
	testkit.Require(t, "netns")
	program := filepath.Join(t.TempDir(), "blaster")
	build := exec.Command("go", "build", "-o", program, "./blaster")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := ByGuests(t.Context(), t, program, 300*time.Millisecond, Path{Mode: vmnetd.Bridge, Queues: 1}, Path{Mode: vmnetd.Switched, Queues: 4})
	if len(all) != 4 {
		t.Fatalf("%d figures", len(all))
	}
	for _, f := range all {
		if f.Bits <= 0 || f.Frames <= 0 || f.CPU <= 0 || f.Median <= 0 || f.P99 < f.Median {
			t.Errorf("%+v", f)
		}
		t.Logf("%-18s q%d filter=%-5v %6.2f Gb/s %7.0f kpps p50 %v p99 %v cpu/Gb %.3f", f.Name(), f.Queues, f.Filter, f.Bits/1e9, f.Frames/1000, f.Median, f.P99, f.CPU)
	}
}

// An ipvtap is in its own namespace, as vmnetd has it; vhost-net is not on every
// kernel.
func TestVMFramesComeThroughIpvtapsAndVHostNet(t *stdtesting.T) {
	testkit.Require(t, "vm")
	paths := []Path{{Mode: vmnetd.L2, Queues: 1}, {Mode: vmnetd.L2, Queues: 4}}
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.Switched, vmnetd.L2} {
		paths = append(paths, Path{Mode: mode, Queues: 1, VHost: true}, Path{Mode: mode, Queues: 4, VHost: true})
	}
	for _, f := range ByFDs(t.Context(), t, Options{Rounds: 3, Turn: 100 * time.Millisecond}, paths...) {
		if f.Bits <= 0 || f.Frames <= 0 || f.P99 < f.Median {
			t.Errorf("%+v", f)
		}
		t.Logf("%-18s q%d vhost=%-5v filter=%-5v %6.2f Gb/s %7.0f kpps p50 %v p99 %v cpu/Gb %.3f", f.Name(), f.Queues, f.VHost, f.Filter, f.Bits/1e9, f.Frames/1000, f.Median, f.P99, f.CPU)
	}
}
