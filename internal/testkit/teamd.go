package testkit

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TeamdPID is the pid of the teamd that runs a team, whoever started it; 0 when
// none does. /run/teamd is of all network namespaces.
func TeamdPID(team string) int {
	b, err := os.ReadFile("/run/teamd/" + team + ".pid")
	pid := 0
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(b), &pid); err != nil || pid <= 0 || unix.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// EndTeamd ends the teamd that runs a team, and removes what it would leave.
func EndTeamd(team string) {
	if pid := TeamdPID(team); pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	for _, end := range []string{".pid", ".sock"} {
		_ = os.Remove("/run/teamd/" + team + end)
	}
}
