package nexthop

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// withCaps runs f on a thread that has those capabilities alone and ends with it.
func withCaps(t *testing.T, f func() error, caps ...uint) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		var data [2]unix.CapUserData
		for _, c := range caps {
			data[c/32].Effective |= 1 << (c % 32)
			data[c/32].Permitted |= 1 << (c % 32)
		}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func loadAndClose() error {
	p, err := loaded()
	if err != nil {
		return err
	}
	return p.Close()
}

func TestTheProgramTakesTwoCapabilities(t *testing.T) {
	testkit.Require(t, "netns")
	if err := withCaps(t, loadAndClose, unix.CAP_BPF, unix.CAP_NET_ADMIN); err != nil {
		t.Errorf("with both: %v", err)
	}
	for name, caps := range map[string][]uint{"none": nil, "without CAP_BPF": {unix.CAP_NET_ADMIN}, "without CAP_NET_ADMIN": {unix.CAP_BPF}} {
		err := withCaps(t, loadAndClose, caps...)
		if !errors.Is(err, vmnetd.ErrUnsupported) || !strings.Contains(err.Error(), "CAP_BPF and CAP_NET_ADMIN") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
