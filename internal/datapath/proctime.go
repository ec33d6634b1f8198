package datapath

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// processTime is the CPU time that a process has used (proc_pid_stat(5), utime and
// stime, in 1/100 s); 0 for one that has ended.
func processTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
