package uplink

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/hostconf"
)

func TestAnAddressThatTheNextBootGivesToAPortIsRefused(t *testing.T) {
	s := hostconf.Source{Tool: hostconf.Networkd, File: "/etc/systemd/network/a.network", Line: 4, Addresses: []string{"192.0.2.17/24"}}
	mind, checks := bootOf(s, "eno1", "wan", false)
	if len(checks) != 1 || checks[0].Level != vmnetd.LevelFail || !strings.Contains(checks[0].Text, "/etc/systemd/network/a.network:4 gives 192.0.2.17 to eno1") || !strings.Contains(checks[0].Do, "Name=wan") {
		t.Errorf("checks %+v", checks)
	}
	if len(mind) != 1 || !strings.Contains(mind[0], "networkctl reload") {
		t.Errorf("mind %q", mind)
	}
	if mind, checks = bootOf(s, "eno1", "wan", true); len(checks) != 0 || !strings.Contains(mind[0], "still gives") {
		t.Errorf("with wan named: %q, %+v", mind, checks)
	}
	s.Dynamic = true
	if mind, checks = bootOf(s, "eno1", "wan", false); len(checks) != 0 || !strings.Contains(mind[0], "have it ask on wan") {
		t.Errorf("by DHCP: %q, %+v", mind, checks)
	}
}

func TestVMAnApplyThatTheNextBootWouldCutOffIsRefusedUnlessForced(t *testing.T) {
	h := newHost(t, "eno1")
	interfaces := filepath.Join(h.lib, "root/etc/network/interfaces")
	if err := os.MkdirAll(filepath.Dir(interfaces), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(interfaces, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("auto eno1\niface eno1 inet static\n  address 192.0.2.17/24\n")
	specs := []Spec{bridge("br0", "eno1")}
	_, err := h.Apply(t.Context(), specs, vmnetd.ApplyOptions{NoConfirm: true})
	if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), "/etc/network/interfaces:2") || !strings.Contains(vmnetd.NextOf(err), "iface br0 inet static") {
		t.Fatalf("got %v, next %q", err, vmnetd.NextOf(err))
	}
	if h.there(t, "br0") {
		t.Fatal("refused, and made all the same")
	}
	write("auto br0\niface br0 inet static\n  address 192.0.2.17/24\n")
	h.apply(t, specs, vmnetd.ApplyOptions{NoConfirm: true})
	write("iface eno1 inet static\n  address 192.0.2.17/24\n")
	h.apply(t, nil, vmnetd.ApplyOptions{NoConfirm: true}) // nobody becomes a port
	h.apply(t, specs, vmnetd.ApplyOptions{NoConfirm: true, Force: true})
}
