package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAttachListShowDetach(t *testing.T) {
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()

	att := b.attach("vm1", "--mode", "bridge", "--queues", "4")
	if att.Phase != vmnetd.Attached || att.Kind != vmnetd.Macvtap || att.Mode != vmnetd.Bridge || att.Queues != 4 || !att.Changed || att.Link != "up" {
		t.Errorf("attached as %+v", att)
	}
	if again := b.attach("vm1", "--mode", "bridge", "--queues", "4"); again.Changed || again.ID != att.ID {
		t.Errorf("the second time: %+v", again)
	}
	if list := b.list(); len(list) != 1 || list[0].FullName() != "vm1/net0" {
		t.Errorf("list: %+v", list)
	}
	for _, name := range []string{"vm1/net0", att.Ifname, att.MAC} {
		if r := b.must(0, "show", name); !strings.Contains(r.out, att.Ifname) {
			t.Errorf("show %s: %s", name, r.out)
		}
	}
	if r := b.must(0, "detach", "vm1"); b.devices() != nil {
		t.Errorf("left after detach: %v\n%s", b.devices(), r.out)
	}
	if list := b.list(); len(list) != 0 {
		t.Errorf("listed after detach: %+v", list)
	}
	b.stop()
}

func TestExitCodesTellWhatWentWrong(t *testing.T) {
	b := newBed(t, basicConfig)
	b.vm("vm1", ejecting(1))
	b.start()
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{3, "INC-4711", []string{"attach", "evil1", "--via", "qmp:" + b.path("qmp/vm1.sock")}},
		{4, "qmp/nosuch.sock", []string{"attach", "nosuch"}},
		{4, "nonet", []string{"attach", "vm1", "--network", "nonet"}},
		{4, "vm1", []string{"detach", "vm1"}},
		{2, "'/'", []string{"attach", "a/b"}},
		{2, "128", []string{"attach", strings.Repeat("x", 129)}},
		{2, "multicast", []string{"attach", "vm1", "--mac", "01:00:5e:00:00:01"}},
		{2, "zero", []string{"attach", "vm1", "--mac", "00:00:00:00:00:00"}},
		{3, "allowed is bridge, private, vepa", []string{"attach", "vm1", "--mode", "l2"}},
		{4, "no network namespace", []string{"attach", "vm1", "--via", "netns:/run/nosuch"}},
		{5, "libvirt is not asked", []string{"attach", "vm1", "--via", "libvirt"}},
		{3, "passthru", []string{"attach", "vm1", "--network", "lan", "--mode", "passthru"}},
	} {
		if c.code == 3 && c.args[1] == "evil1" {
			b.ejectingVM("evil1")
			c.args = c.args[:2]
		}
		if r := b.must(c.code, c.args...); !strings.Contains(r.err, c.says) {
			t.Errorf("vmnetd %v says %q, want something with %q", c.args, r.err, c.says)
		}
	}
	b.must(0, "attach", "vm1")
	if r := b.must(5, "attach", "vm1", "--id", "net1"); !strings.Contains(r.err, "pcie-root-port") {
		t.Errorf("no free place: %s", r.err)
	}
	if list := b.list(); len(list) != 1 || len(b.devices()) != 1 {
		t.Errorf("after all that: %+v, %v", list, b.devices())
	}
	b.stop()
	if r := b.run("list"); r.code != 6 || !strings.Contains(r.err, "serve") {
		t.Errorf("without a daemon: exit %d, %s", r.code, r.err)
	}
}

func TestListedNICsAreMadeWheneverTheSocketAppears(t *testing.T) {
	b := newBed(t, basicConfig+"vms:\n  - {vm: vm1, nics: [{id: net0, network: lan}, {id: net1, network: lan, mode: private}]}\n")
	b.start()
	for range 2 {
		vm := b.ejectingVM("vm1")
		b.eventually("VM started", 10*time.Second, func() error {
			list := b.list("vm1")
			if len(list) != 2 || list[0].Phase != vmnetd.Attached || list[1].Phase != vmnetd.Attached {
				return fmt.Errorf("%+v", list)
			}
			return nil
		})
		vm.Kill()
		b.eventually("VM ended", 10*time.Second, func() error {
			if list := b.list("vm1"); len(list) > 0 || len(b.devices()) > 0 {
				return fmt.Errorf("%+v, %v", list, b.devices())
			}
			return nil
		})
	}
	b.stop()
}

func TestDeviceDeletedOrUplinkGoneIsRepaired(t *testing.T) {
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	att := b.attach("vm1", "--mode", "private")
	well := func() error {
		list := b.list()
		if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Ifindex == att.Ifindex || list[0].MAC != att.MAC {
			return fmt.Errorf("%+v", list)
		}
		return nil
	}
	b.host.Delete(t, att.Ifname)
	b.eventually("device deleted", 5*time.Second, well)

	b.host.Delete(t, "u0")
	b.eventually("uplink gone", testkit.Patience, func() error {
		if list := b.list(); len(list) != 1 || list[0].Phase != vmnetd.Broken || !strings.Contains(list[0].Problem, "u0") {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	if r := b.must(1, "status", "--check"); !strings.Contains(r.out+r.err, "u0") {
		t.Errorf("status --check: %s%s", r.out, r.err)
	}
	b.newUplink()
	b.eventually("uplink back", 5*time.Second, well)
	b.must(0, "status", "--check")
	b.stop()
}
