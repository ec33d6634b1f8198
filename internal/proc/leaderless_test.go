package proc_test

import (
	"testing"

	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAProcessWithoutItsFirstThreadRuns(t *testing.T) {
	pid, settle := testkit.Leaderless(t)
	start, err := proc.StartTime(pid)
	if err != nil || !proc.SeveralThreads(pid) {
		t.Fatalf("start %d, %v; several threads: %v", start, err, proc.SeveralThreads(pid))
	}
	p, err := proc.Open(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	settle()
	if now, err := proc.StartTime(pid); err != nil || now != start || proc.SeveralThreads(pid) {
		t.Errorf("after its execve: start %d, was %d, %v; several threads: %v", now, start, err, proc.SeveralThreads(pid))
	}
}
