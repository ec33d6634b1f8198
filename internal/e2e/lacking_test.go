package e2e

import (
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const ipvtapConfig = `
uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: cloud, uplinks: [u0], modes: [l2, l3], ips: learn}
  - {name: lan, uplinks: [u0], modes: [l2, bridge], ips: learn}
rules:
  - {vm: "*", networks: [cloud, lan]}
hypervisors: {libvirt: {uri: none}, qmp: {sockets: ["DIR/qmp/{vm}.sock"]}}
`

func TestWithoutIPVTapInTheKernelThatIsSaidAndAnotherModeIsTaken(t *testing.T) {
	b := newBed(t, ipvtapConfig)
	b.start()
	if b.ipvtap().Level == vmnetd.LevelOK {
		t.Skip("this kernel has ipvtap")
	}
	if c := b.ipvtap(); c.Level != vmnetd.LevelWarn || !strings.Contains(c.Text, "no ipvtap") || !strings.Contains(c.Do, "modprobe ipvtap") {
		t.Errorf("doctor says %+v", c)
	}
	b.vm("vm1", testkit.QEMUOptions{})
	for _, args := range [][]string{{}, {"--mode", "l2"}, {"--ip", "192.0.2.9"}, {"--mode", "l3", "--ip", "192.0.2.9"}} {
		r := b.must(5, append([]string{"attach", "vm1", "--json", "--network", "cloud"}, args...)...)
		failed := parse[struct{ Error, Name, Next string }](t, r.err)
		if failed.Name != vmnetd.ClassOf(vmnetd.ErrUnsupported).Name || strings.Count(failed.Error, "this kernel has no ipvtap") == 0 || failed.Next == "" {
			t.Errorf("attach %v: %+v", args, failed)
		}
		if r := b.must(5, append([]string{"explain", "vm1", "--network", "cloud"}, args...)...); !strings.Contains(r.out, "no ipvtap") {
			t.Errorf("explain %v: %s", args, r.out)
		}
	}
	if list, devices := b.list(), b.devices(); len(list)+len(devices) > 0 {
		t.Errorf("it left %v and %v", list, devices)
	}
	if a := b.attach("vm1", "--network", "lan"); a.Mode != vmnetd.Bridge {
		t.Errorf("%+v", a)
	}
}

// ipvtap is what doctor says of that kind of device.
func (b *bed) ipvtap() vmnetd.Check {
	b.t.Helper()
	for _, c := range parse[[]vmnetd.Check](b.t, b.run("doctor", "--json").out) {
		if c.Name == string(vmnetd.Ipvtap) {
			return c
		}
	}
	b.t.Fatal("doctor says nothing about ipvtap")
	return vmnetd.Check{}
}
