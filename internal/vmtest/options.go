package vmtest

import (
	"io"
	"runtime"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// LibDir is where the VM has what outlives its reboot.
const LibDir = "/var/lib/vmnetd"

// TempDir is TMPDIR in the VM: a tmpfs, and short, because the path of a socket
// may have 107 bytes.
const TempDir = "/run/tmp"

// Options says what runs in the VM.
type Options struct {
	Command  []string // program and arguments, run by root
	Dir      string   // its working directory, / when ""
	Env      []string // NAME=VALUE, added to what every command in the VM has
	Writable []string // directories of the machine that can be written to from the VM, under their own paths
	Lib      string   // a directory of the machine that is LibDir in the VM; "" for one in memory

	// Systemd has systemd as process 1, with udev, journal and system bus, and the
	// command as a service of it. No module is loaded that nobody asks for.
	Systemd bool

	// Stdout and Stderr get what the command prints, and nothing else, while it
	// prints it. nil drops it.
	Stdout, Stderr io.Writer

	// Terminal gives the command a terminal instead, and Stdout what it shows.
	Terminal *Terminal

	// Started is called when the VM is up and the command starts; may be nil.
	Started func()

	// Limit is how long the command may run, counted from its start; 10 minutes
	// when 0. Afterwards the VM is killed.
	Limit time.Duration

	MemoryMiB int // 3072 when 0
	CPUs      int // as many as the machine has, but 2 at least and 4 at most, when 0
}

// Terminal is the other end of the terminal that a command in the VM has.
type Terminal struct {
	Input      io.Reader
	Name       string // TERM
	Rows, Cols int
}

const defaultLimit = 10 * time.Minute

// bootLimit is how long the VM may take until the command starts. It is 12 s on
// an idle machine without KVM.
const bootLimit = 4 * time.Minute

func (o *Options) setDefaults() {
	if o.Dir == "" {
		o.Dir = "/"
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Started == nil {
		o.Started = func() {}
	}
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 3072
	}
	if o.CPUs == 0 {
		o.CPUs = min(max(runtime.NumCPU(), 2), 4)
	}
}

// environment is what every command in the VM has, before o.Env.
func (o *Options) environment(getenv func(string) string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin",
		"HOME=/root", "USER=root", "LOGNAME=root", "TMPDIR=" + TempDir,
		testkit.TierEnv + "=vm", testkit.RequireEnv + "=vm,netns",
	}
	// Caches are where the machine has them: saved guests are in one.
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LANG"} {
		if value := getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	if o.Terminal != nil {
		env = append(env, "TERM="+o.Terminal.Name)
	}
	return append(env, o.Env...)
}
