package testkit

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { LeakCheck(m) }

func TestCommandRunsInTheNamespaceUnderItsOwnPID(t *testing.T) {
	Require(t, "netns")
	a, b := NewNetns(t), NewNetns(t)
	NewVeth(t, a, "only-a", b, "only-b")
	for n, want := range map[*Netns]string{a: "only-a", b: "only-b"} {
		out, err := n.Command(t.Context(), "ip", "-o", "link").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "eth0") {
			t.Errorf("%v: %s", err, out)
		}
	}
	cmd := a.Command(t.Context(), "sh", "-c", "echo $$")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || pid != cmd.Process.Pid {
		t.Errorf("runs as %s, started as %d", out, cmd.Process.Pid)
	}
}

func TestFramesAreHeardByTheOtherEndAndNotByTheSender(t *testing.T) {
	Require(t, "netns")
	a, b := NewNetns(t), NewNetns(t)
	NewVeth(t, a, "v0", b, "v1")
	near, far := a.OpenWire(t, "v0"), b.OpenWire(t, "v1")
	near.Send(t, Frame{Dst: Broadcast, Src: a.Link(t, "v0").MAC, Text: "first"})
	near.Send(t, Frame{Dst: Broadcast, Src: a.Link(t, "v0").MAC, Text: "second"})
	others, heard := far.Hear(t, "second", Patience)
	if !heard || len(others) != 1 || others[0].Text != "first" {
		t.Errorf("heard %v, before it %v", heard, others)
	}
	far.Send(t, Frame{Dst: Broadcast, Src: b.Link(t, "v1").MAC, Text: "back"})
	if others, heard := near.Hear(t, "back", Patience); !heard || len(others) != 0 {
		t.Errorf("heard %v, before it %v", heard, others)
	}
}

// leaky is set in the child whose only test leaves a descriptor open.
const leaky = "TESTKIT_TEST_LEAK"

func TestLeakCheckFailsOnALeftDescriptor(t *testing.T) {
	if os.Getenv(leaky) != "" {
		f, err := os.Open("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		kept = f
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLeakCheckFailsOnALeftDescriptor$")
	cmd.Env = append(os.Environ(), leaky+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/dev/zero") {
		t.Errorf("ended with %v: %s", err, out)
	}
}

var kept *os.File

// recorder is a Skipper that writes down what it was told.
type recorder struct {
	*testing.T
	failed, skipped bool
}

func (r *recorder) Fatalf(string, ...any) { r.failed = true }
func (r *recorder) Skipf(string, ...any)  { r.skipped = true }

func TestRequiredTierFailsWhereAnotherIsSkipped(t *testing.T) {
	for env, wantFail := range map[string]bool{"": false, "netns": false, "netns,moon": true, "moon": true} {
		t.Setenv(RequireEnv, env)
		r := &recorder{T: t}
		Require(r, "moon") // a tier that no machine has
		if r.failed != wantFail || r.skipped == wantFail {
			t.Errorf("%s=%q: failed %v, skipped %v", RequireEnv, env, r.failed, r.skipped)
		}
	}
}
