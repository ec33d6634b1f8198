package main

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestSuggestionsAreNear(t *testing.T) {
	for args, want := range map[string]string{
		"atach vm1 --mode bridge": "did you mean attach?",
		"attach vm1 --mod bridge": "did you mean --mode?",
		"attach vm1 --nework lan": "did you mean --network?",
		"detach vm1 --al":         "did you mean --all?",
	} {
		got := do(t, &fake{}, strings.Fields(args)...)
		if got.code != 2 || !strings.Contains(got.err, want) || strings.Count(got.err, "\n") > 2 {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

func TestShortFlagsAreSuggestedOnlyForWhatIsVeryNear(t *testing.T) {
	for args, want := range map[string]bool{"attach vm1 --mtu": false, "attach vm1 --bux": true, "attach vm1 --xad": false} {
		if got := do(t, &fake{}, strings.Fields(args)...); got.code != 2 || strings.Contains(got.err, "did you mean") != want {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

func TestWhatComesLaterIsRefusedByName(t *testing.T) {
	var lines []string
	for _, verb := range laterVerbs {
		lines = append(lines, verb, verb+" --help", verb+" list --whatever", "help "+verb)
	}
	f := &fake{}
	for _, line := range lines {
		got := do(t, f, strings.Fields(line)...)
		if got.code != 2 || !strings.Contains(got.err, "not in this version") || got.out != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
	if f.calls != nil {
		t.Errorf("the daemon was asked: %v", f.calls)
	}
}

// FuzzAttachOptions: no command line of attach panics, and what reaches the
// daemon is what names and MACs may be.
func FuzzAttachOptions(f *testing.F) {
	for _, line := range []string{
		"vm1", "vm1 --network lan --uplink u0 --mode bridge --mac 52:54:00:12:34:56 --queues 4 --id net0",
		"vm1 --via qmp:/run/x.sock --bus rp1 --addr 0x1 --dry-run", "vm1 --queues auto --json", "-- vm1", "vm1 --mac ff:ff:ff:ff:ff:ff",
		"../x", "vm1 --live", "vm1 --ip 192.0.2.1,2001:db8::1 --ip 192.0.2.2/24", "c1 --via netns:c1 --name eth0 --route default --mode l2",
		"c1 --via netns:../x --ip x", "vm1 --live --config --handover fd --incoming --via libvirt", "vm1 --handover x", "--mode=passthrough vm1", "-h", "vm1 --queues -1", "vm1 --network=", "vm1 -x", "vm1 --=", "vm1 --\xff", "vm1 -\xff",
	} {
		f.Add(strings.ReplaceAll(line, " ", "\x00"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		daemon := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}}
		var out, err bytes.Buffer
		code := testApp(daemon, &out, &err).run(t.Context(), append([]string{"attach"}, strings.Split(line, "\x00")...))
		if code != 0 && code != 2 {
			t.Fatalf("exit %d: %s", code, err.String())
		}
		if code == 2 && daemon.calls != nil {
			t.Fatalf("asked the daemon and refused: %s", err.String())
		}
		if daemon.calls != nil {
			checkRequest(t, daemon.req)
		}
	})
}

func checkRequest(t *testing.T, req vmnetd.Request) {
	t.Helper()
	if err := vmnetd.CheckVMName(req.VM); err != nil {
		t.Fatal(err)
	}
	if req.ID != "" && vmnetd.CheckID(req.ID) != nil {
		t.Fatalf("id %q", req.ID)
	}
	if mac, err := net.ParseMAC(req.MAC); req.MAC != "" && (err != nil || len(mac) != 6 || mac[0]&1 == 1) {
		t.Fatalf("MAC %q", req.MAC)
	}
	if req.Mode != "" && req.Mode.Info().Mode == "" {
		t.Fatalf("mode %q", req.Mode)
	}
	if req.Queues < 0 || req.Queues > maxQueues {
		t.Fatalf("queues %d", req.Queues)
	}
	if strings.Contains(req.Bus+req.Addr, ",") {
		t.Fatalf("bus %q addr %q", req.Bus, req.Addr)
	}
	if !slices.Contains([]string{"", "name", "fd"}, req.Handover) {
		t.Fatalf("handover %q", req.Handover)
	}
	if err := vmnetd.CheckNetns(req); err != nil {
		t.Fatal(err)
	}
	if again, err := vmnetd.CheckIPs(req.IPs); err != nil || !slices.Equal(again, req.IPs) {
		t.Fatalf("IPs %q: %v", req.IPs, err)
	}
	if rest, ok := strings.CutPrefix(req.Via, "qmp:"); ok && !strings.HasPrefix(rest, "/") {
		t.Fatalf("via %q", req.Via)
	}
}
