package failpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestNothingHappensUnlessSwitchedOn(t *testing.T) {
	var none Set
	for _, p := range Points {
		if err := none.Hit(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestCountIsUsedUp(t *testing.T) {
	set, err := Parse("attach.stored=2*error, store.write=error")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false, false} {
		if got := set.Hit(AttachStored) != nil; got != want {
			t.Errorf("hit %d failed: %v, want %v", i+1, got, want)
		}
	}
	for range 5 {
		if set.Hit(StoreWrite) == nil {
			t.Error("a point without a count stopped acting")
		}
	}
}

func TestPointPassesAsOftenAsItSkips(t *testing.T) {
	set, err := Parse("uplink.step=2+1*error")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true, false, false} {
		if got := set.Hit(UplinkStep) != nil; got != want {
			t.Errorf("hit %d failed: %v, want %v", i+1, got, want)
		}
	}
}

func TestDelayWaits(t *testing.T) {
	set, err := Parse("attach.stored=delay(30)")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := set.Hit(AttachStored); err != nil || time.Since(start) < 30*time.Millisecond {
		t.Errorf("returned %v after %v", err, time.Since(start))
	}
}

func TestHoldWaitsUntilItsFileGoes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "held")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := Parse("attach.stored=1*hold(" + file + ")")
	if err != nil {
		t.Fatal(err)
	}
	passed := make(chan error, 1)
	go func() { passed <- set.Hit(AttachStored) }()
	select {
	case err := <-passed:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(10 * holdPace):
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-passed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits on")
	}
}

func TestKillIsSIGKILL(t *testing.T) {
	if text := os.Getenv(Env); text != "" {
		set, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Fatalf("survived: %v", set.Hit(AttachStored))
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillIsSIGKILL$")
	cmd.Env = append(os.Environ(), Env+"=attach.stored=kill")
	if err := cmd.Run(); err == nil {
		t.Fatal("the process ended well")
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("ended by %v, want SIGKILL", cmd.ProcessState)
	}
}

func TestParseRefusesNonsense(t *testing.T) {
	for _, text := range []string{"attach.stored", "attach.stored=0*error", "attach.stored=x*error", "attach.stored=x+1*error", "attach.stored=1+error", "attach.stored=delay(x)", "attach.stored=hold(x)", "attach.stored=hold()", "nowhere=error", "attach.stored=explode"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) took it", text)
		}
	}
}
