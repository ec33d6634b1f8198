package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/datapath"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestQuantilesInterpolateAndLeaveTheSeriesAsItIs(t *testing.T) {
	s := series{40, 10, 30, 20}
	if s.median() != 25 || s.p90() != 37 {
		t.Errorf("median %d and p90 %d, want 25 and 37", s.median(), s.p90())
	}
	if s[0] != 40 {
		t.Errorf("the series was sorted: %v", s)
	}
	if (series{}).median() != 0 || (series{7}).p90() != 7 {
		t.Error("a series of none or one is not handled")
	}
}

func TestThePageSaysWhatIsMissed(t *testing.T) {
	one := func(name string, d time.Duration) pair {
		return pair{name: name, queues: 1, attach: series{d}, detach: series{d}}
	}
	r := result{
		pairs: []pair{one(wayFloor, 10*time.Millisecond), one(wayAPI, 13*time.Millisecond), one(wayCommand, 20*time.Millisecond), one(wayLibvirt, 60*time.Millisecond)},
		idle:  []idle{{attachments: vmCount * nicsPerVM, watched: time.Minute, rssKiB: 20 * 1024, ticks: 1}},
	}
	want := map[string]string{"by the API": "1.30 × | **missed**", "virsh": "1/3.0 | met", "below 30 MiB": "20.0 MiB | met", "no CPU tick": "1 | **missed**"}
	var page bytes.Buffer
	r.write(&page)
	aims, _, _ := strings.Cut(page.String(), "## Attach")
	for what, verdict := range want {
		found := false
		for line := range strings.Lines(aims) {
			found = found || strings.Contains(line, what) && strings.Contains(line, verdict)
		}
		if !found {
			t.Errorf("no line with %q says %q:\n%s", what, verdict, aims)
		}
	}
}

func TestThePageSaysWhatTheHookAddsToAStart(t *testing.T) {
	r := result{starts: []start{
		{name: "type=direct", one: series{700 * time.Millisecond}, many: 18 * time.Second},
		{name: "ours", one: series{750 * time.Millisecond}, many: 22 * time.Second},
	}}
	var b bytes.Buffer
	r.writeStarts(page{&b})
	if want := "| ours | 750.0 (750.0) | 50.0 | 22000.0 |"; !strings.Contains(b.String(), want) {
		t.Errorf("no line %q in\n%s", want, b.String())
	}
}

// A floor that left something behind, or did not do what it is measured for,
// would make every ratio a lie.
func TestTheFloorAttachesAndLeavesNothingBehind(t *testing.T) {
	testkit.Require(t, "netns")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := newScope(ctx)
	t.Cleanup(s.close)
	h := newHost(s)
	vm := startVM(s, h, "floor-test", s.TempDir(), 1)
	f := newFloor(s, h, vm.Socket)
	for _, queues := range queueCounts {
		took, err := f.attach(ctx, queues)
		if err != nil || took <= 0 {
			t.Fatalf("%d queues: %v after %s", queues, err, took)
		}
		if nics := string(vm.QMP("query-rx-filter", nil)); !strings.Contains(nics, `"name": "`+floorNIC+`"`) {
			t.Errorf("%d queues: the VM has no NIC: %s", queues, nics)
		}
		if link := h.Link(t, ifname); !link.Up || !link.AllMulti || link.Queues != queues || link.IPv6 || link.Alias == "" {
			t.Errorf("%d queues: the device is not as the daemon makes it: %+v", queues, link)
		}
		if _, err := f.detach(ctx, queues); err != nil {
			t.Fatal(err)
		}
		if nics := string(vm.QMP("query-rx-filter", nil)); nics != "[]" {
			t.Errorf("the VM still has a NIC: %s", nics)
		}
		if _, err := h.Conn().LinkByName(ctx, ifname); err == nil {
			t.Error("the device is still there")
		}
	}
}

func TestThePageSaysWhatAMoveCosts(t *testing.T) {
	one := func(lost int, silence time.Duration) move {
		return move{lost: []int{lost, lost + 1}, gap: series{time.Second}, silence: series{silence}}
	}
	silent := one(9, 101*time.Millisecond)
	silent.ours, silent.silent = true, true
	r := result{moves: []move{one(5, 0), one(4, 0), silent, one(3, 0)}}
	var b bytes.Buffer
	r.writeMoves(page{&b})
	for _, want := range []string{
		"| guest that says nothing, ours | 9.5 | 10 | 1000.0 (1000.0) | 101.0 (101.0) |",
		"within one ping | 5.5 against 4.5 | met |", "9 times of 10 | 101.0 ms | **missed** |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no line with %q in\n%s", want, b.String())
		}
	}
}

func TestThePageSaysWhatAFilterLeavesOfAPath(t *testing.T) {
	path := datapath.Path{Mode: vmnetd.Bridge, Queues: 4}
	list := []datapath.Figures{
		{Path: path, Bits: 20e9, Frames: 200e3, Median: 10 * time.Microsecond, P99: 90 * time.Microsecond, CPU: 0.04},
		{Path: path, Filter: true, Bits: 10e9, Frames: 190e3, Median: 11 * time.Microsecond, P99: 91 * time.Microsecond, CPU: 0.05, BitsLeft: 0.5, FramesLeft: 0.96},
	}
	var b bytes.Buffer
	page{&b}.figures("title", list)
	page{&b}.filterAims(list)
	for _, want := range []string{
		"| macvtap bridge | 4 | on | 10.0 | 190000 | 11.0 | 91.0 | 0.050 |",
		"4 queues   filter off " + strings.Repeat("█", 50) + " 20.0\n", "4 queues   filter on  " + strings.Repeat("█", 25) + " 10.0\n",
		"Gb/s with the filter at least 95 % of those without | 50.0 % | **missed** |", "without | 96.0 % | met |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no line with %q in\n%s", want, b.String())
		}
	}
}
