package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestWaitReturnsWhenTheProcessEnds(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := StartTime(cmd.Process.Pid)
	if err != nil || start == 0 {
		t.Fatalf("StartTime = %d, %v", start, err)
	}
	p, err := Open(cmd.Process.Pid, start)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait on a living process = %v", err)
	}
	in.Close()
	_ = cmd.Wait()
	long, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Wait(long); err != nil {
		t.Errorf("Wait after the end = %v", err)
	}
	if _, err := Open(cmd.Process.Pid, start); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of an ended process = %v", err)
	}
}

func TestAnotherRunIsNotTheSameProcess(t *testing.T) {
	start, err := StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(os.Getpid(), start+1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open with another start time = %v", err)
	}
}

func TestZombieHasEnded(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid, 0)
	if err == nil {
		defer p.Close()
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := StartTime(cmd.Process.Pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("StartTime of a zombie = %v", err)
	}
	_ = cmd.Wait()
}
