package main

import (
	"os"
	"slices"
	"strings"
	"testing"

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
