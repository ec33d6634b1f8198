package testkit

import (
	"os"
	"strings"
	"testing"
)

func TestLibvirtdIsKilledAndStartedAgainUnderItsGuests(t *testing.T) {
	Require(t, "libvirt")
	l := StartLibvirtd(t, LibvirtdOptions{})
	file := l.Dir + "/vm1.xml"
	if err := os.WriteFile(file, []byte(`<domain type='qemu'><name>vm1</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Virsh("create", "--paused", file)
	before := strings.TrimSpace(l.Virsh("domid", "vm1"))
	l.Kill()
	if _, err := l.TryVirsh("list"); err == nil {
		t.Error("a killed libvirtd answers")
	}
	l.Start()
	if after := strings.TrimSpace(l.Virsh("domid", "vm1")); after != before || before == "" {
		t.Errorf("the guest's id was %q and is %q", before, after)
	}
}
