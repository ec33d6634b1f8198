package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// hookProcess waits for the hook of a VM's start.
func (b *libvirtBed) hookProcess(vm string) (pid int) {
	b.t.Helper()
	want := strings.Join([]string{binary, "hook", "run", "qemu", vm, "prepare"}, "\x00")
	b.eventually("libvirt runs the hook", 10*time.Second, func() error {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			if line, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(line), want) {
				pid, err = strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return err
			}
		}
		return fmt.Errorf("no process runs it")
	})
	return pid
}

// TestHookKilledWhileItWaits: libvirt gives the start up, and what vmnetd makes
// meanwhile goes again.
func TestHookKilledWhileItWaits(t *testing.T) {
	t.Parallel()
	b := newLibvirtBed(t, libvirtConfig)
	setting, letGo := b.held(failpoint.ConvergeDevice)
	b.start(setting)
	b.define("hookless", b.must(0, "xml", "hookless").out)
	started := make(chan error, 1)
	go func() {
		_, err := b.TryVirsh("start", "--paused", "hookless")
		started <- err
	}()
	if err := unix.Kill(b.hookProcess("hookless"), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err == nil || !strings.Contains(err.Error(), "ook") {
		t.Errorf("virsh start: %v", err)
	} else {
		t.Log(err)
	}
	letGo()
	b.nothing()
	b.Virsh("start", "--paused", "hookless")
	b.settled("hookless", "down", 1)
	b.Virsh("destroy", "hookless")
	b.nothing()
}

// TestVmnetdKilledWhileAVMStarts: at each step of making the device of the second
// of two NICs. What is left goes when vmnetd is back, or with the next start.
func TestVmnetdKilledWhileAVMStarts(t *testing.T) {
	t.Parallel()
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1", b.must(0, "xml", "vm1", "--id", "net0").out, b.must(0, "xml", "vm1", "--id", "net1").out)
	b.stop()
	for _, p := range []failpoint.Point{failpoint.StoreWritten, failpoint.TapCreated, failpoint.TapMarked, failpoint.ConvergeDevice} {
		for _, next := range []string{"it is back", "the next start"} {
			what := fmt.Sprintf("%s, %s", p, next)
			b.start(failpoint.Env + "=" + string(p) + "=1+1*kill")
			if _, err := b.TryVirsh("start", "--paused", "vm1"); err == nil || !strings.Contains(err.Error(), "vmnetd: ") || strings.Count(err.Error(), "\n") > 2 {
				t.Errorf("%s: virsh start: %v", what, err)
			} else if next == "it is back" {
				t.Logf("%s: %v", p, err)
			}
			b.ended(10 * time.Second)
			if !b.daemon.signalled(9) {
				t.Fatalf("%s: it ended otherwise: %v\n%s", what, b.daemon.err, b.daemon.log)
			}
			b.start()
			if next == "it is back" {
				b.nothing()
			}
			b.Virsh("start", "--paused", "vm1")
			b.settled("vm1", "down", 2)
			b.Virsh("destroy", "vm1")
			b.nothing()
			b.stop()
		}
	}
}
