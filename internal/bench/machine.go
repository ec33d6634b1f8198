package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what the numbers were measured on.
type machine struct {
	cpu, kernel, qemu, libvirt, goVersion, load string
	cores                                       int
	vhost, stateInMemory                        bool
}

func describeMachine(ctx context.Context) machine {
	m := machine{
		cpu: cpuModel(), cores: runtime.NumCPU(), goVersion: runtime.Version(), kernel: kernelRelease(),
		qemu: firstLine(ctx, "qemu-system-x86_64", "--version"), libvirt: firstLine(ctx, "libvirtd", "--version"),
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load, _, _ = strings.Cut(string(b), " ")
	}
	_, err := os.Stat("/dev/vhost-net")
	m.vhost = err == nil
	var fs unix.Statfs_t
	m.stateInMemory = unix.Statfs("/dev/shm", &fs) == nil && fs.Type == unix.TMPFS_MAGIC
	return m
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown (" + runtime.GOARCH + ")"
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func firstLine(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "none"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
