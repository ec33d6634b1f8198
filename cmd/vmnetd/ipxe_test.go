package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/reachability"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// bootFile is what a guest without a disk gets from the outside. It begins nothing
// that can be booted.
const bootFile = "greeting"

// bootServer is a server for guests that boot by the network, beyond a row's uplink.
func bootServer(t *testing.T, r *reachability.Row) *testkit.Output {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, bootFile), []byte(strings.Repeat("hello ", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	var says testkit.Output
	prefix := strings.TrimSuffix(r.Outside.IP4.String(), "1")
	cmd := r.Outside.Netns.Command(t.Context(), "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0",
		"--interface="+r.Outside.Device, "--bind-dynamic", "--log-facility=-", "--pid-file=", "--dhcp-leasefile="+filepath.Join(dir, "leases"),
		"--dhcp-authoritative", "--no-ping", "--dhcp-range="+prefix+"100,"+prefix+"150", "--dhcp-boot="+bootFile, "--enable-tftp", "--tftp-root="+dir)
	cmd.Stdout, cmd.Stderr = &says, &says
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	return &says
}

// A guest that has nothing but a firmware, which asks by DHCP and loads a file by
// TFTP: the address is learned before the guest can hear of it (learn/uplink.go).
func TestVMAGuestWithoutADiskBootsFromOutsideOnAnIpvtap(t *testing.T) {
	testkit.Require(t, "vm")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", testkit.StartBus(t))
	lab := reachability.NewLab(t, vmnetdProgram(t), "ipvtap l2")
	r := lab.Rows[0]
	server := bootServer(t, r)
	vm := testkit.StartQEMU(t, testkit.QEMUOptions{Machine: "pc", Netns: lab.Host.Do, MemoryMiB: 128})
	lab.PlugUnknown(r, vm.Name, vm.Socket)
	vm.QMP("cont", nil)
	sent := "sent " // what dnsmasq says of a file that a client has got and acknowledged
	for deadline := time.Now().Add(slowGuest); !strings.Contains(server.String(), sent); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the guest does not boot from the outside:\n%s", server)
		}
	}
	_, after, _ := strings.Cut(server.String(), sent)
	line, _, _ := strings.Cut(after, "\n")
	fields := strings.Fields(line)
	address := fields[len(fields)-1]
	list, err := lab.Client.List(t.Context(), vm.Name)
	if err != nil || len(list) != 1 || !slices.Contains(list[0].Learned, address) {
		t.Errorf("the guest has %s, and vmnetd says %+v, %v", address, list, err)
	}
}
