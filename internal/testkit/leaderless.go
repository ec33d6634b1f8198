package testkit

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// leaderlessEnv makes a test program a process whose first thread has ended.
const leaderlessEnv = "VMNETD_TEST_LEADERLESS"

// Leaderless starts a process whose first thread has ended, as it has for a moment
// when another thread calls execve(2), and which holds files. settle has it run cat,
// which ends with the test.
func Leaderless(t TB, files ...*os.File) (pid int, settle func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("%v", err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), leaderlessEnv+"=yes")
	cmd.ExtraFiles = files
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("%v", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line := bufio.NewReader(out)
	said := func(want string) {
		t.Helper()
		if got, err := line.ReadString('\n'); got != want+"\n" {
			t.Fatalf("a process without its first thread says %q, %v; want %q", got, err, want)
		}
	}
	said("leaderless")
	return cmd.Process.Pid, func() {
		t.Helper()
		_, _ = io.WriteString(in, "\nsettled\n")
		said("settled")
	}
}

func init() { //nolint:gochecknoinits // the first thread is the one that initialises the program
	if os.Getenv(leaderlessEnv) == "" {
		return
	}
	runtime.LockOSThread()
	go leaderless()
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // of the thread alone
}

func leaderless() {
	runtime.LockOSThread()
	for waited := false; !waited; {
		entries, err := os.ReadDir("/proc/self/fd")
		waited = err == nil && len(entries) == 0
		runtime.Gosched()
	}
	_, _ = os.Stdout.WriteString("leaderless\n")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
	panic(unix.Exec("/bin/cat", []string{"cat"}, os.Environ()))
}
