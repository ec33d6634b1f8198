package main

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/reachability"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// whoReachesWhom is the table of the documentation.
func whoReachesWhom(t *testing.T) reachability.Table {
	t.Helper()
	text, err := os.ReadFile("../../docs/modes.md")
	if err != nil {
		t.Fatal(err)
	}
	table, err := reachability.ParseTable(string(text))
	if err != nil {
		t.Fatalf("docs/modes.md: %v", err)
	}
	return table
}

func TestTheTableOfWhoReachesWhomHasEveryKindAndMode(t *testing.T) {
	table := whoReachesWhom(t)
	if !slices.Equal(table.NICs, reachability.Everything()) {
		t.Errorf("docs/modes.md has\n%q, there are\n%q", table.NICs, reachability.Everything())
	}
}

func TestVMWhoReachesWhomIsAsDocumented(t *testing.T) {
	testkit.Require(t, "vm")
	reachesAsDocumented(t, func(vmnetd.Mode) bool { return true })
}

// Kernels without ipvlan are not only those of tests.
func TestWhoReachesWhomIsAsDocumentedWithoutIpvlan(t *testing.T) {
	testkit.Require(t, "netns")
	reachesAsDocumented(t, func(m vmnetd.Mode) bool { return m.Info().Family != vmnetd.FamilyIpvlan })
}

// reachesAsDocumented tries every cell of the rows with those modes.
func reachesAsDocumented(t *testing.T, which func(vmnetd.Mode) bool) {
	t.Helper()
	table := whoReachesWhom(t)
	nics := slices.DeleteFunc(slices.Clone(table.NICs), func(nic string) bool {
		_, mode, _ := strings.Cut(nic, " ")
		return !which(vmnetd.Mode(mode))
	})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", testkit.StartBus(t))
	lab := reachability.NewLab(t, vmnetdProgram(t), nics...)
	for _, r := range lab.Rows {
		for range r.Room() {
			lab.AddGuest(r)
		}
	}
	trial := lab.Try(table)
	for _, nic := range nics {
		for _, column := range table.Columns {
			if is, why := trial.Says(nic, column); is != table.Says(nic, column) {
				t.Errorf("%s, %s: the table says %s, but it is %s: %s", nic, column, table.Says(nic, column), is, why)
			}
		}
	}
}

// In mode l3 the host routes what a guest sends, also to itself
// (drivers/net/ipvlan/ipvlan_core.c, ipvlan_process_v4_outbound takes RTN_LOCAL).
// Only its answers go astray.
func TestVMWhatAGuestInModeL3SendsToItsHostArrivesThere(t *testing.T) {
	testkit.Require(t, "vm")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", testkit.StartBus(t))
	lab := reachability.NewLab(t, vmnetdProgram(t), "ipvtap l3")
	r := lab.Rows[0]
	guest := lab.AddGuest(r)
	for _, to := range []netip.Addr{r.Host.IP4, r.Host.IP6} {
		if !datagramArrives(t, guest.Netns, r.Host.Netns, to) {
			t.Errorf("nothing that the guest sends to %s arrives", to)
		}
	}
}

// datagramArrives sends datagrams to an address until one arrives.
func datagramArrives(t *testing.T, from, at *testkit.Netns, to netip.Addr) bool {
	t.Helper()
	var listens, sends *net.UDPConn
	err := at.Do(func() (err error) {
		listens, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	err = from.Do(func() (err error) {
		sends, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(listens.LocalAddr().String())))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sends.Close()
	buf := make([]byte, 64)
	for deadline := time.Now().Add(testkit.Patience); time.Now().Before(deadline); {
		_, _ = sends.Write([]byte("hello")) // what is not sent does not arrive
		_ = listens.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := listens.Read(buf); err == nil && string(buf[:n]) == "hello" {
			return true
		}
	}
	return false
}
