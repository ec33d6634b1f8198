package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/vmnetd/vmnetd/internal/netns"
)

// RequireEnv lists the tiers whose tests must run: where one of them cannot,
// it fails instead of being skipped. Continuous integration sets it.
const RequireEnv = "VMNETD_REQUIRE"

// TierEnv says which tier's machine a test runs on; the VM tier sets it to vm.
const TierEnv = "VMNETD_TIER"

// Skipper is a TB that can also be skipped, as testing.TB can.
type Skipper interface {
	TB
	Skipf(format string, args ...any)
}

// Require skips the test where the machine cannot run its tier ("netns",
// "libvirt", "vm"), and fails it where VMNETD_REQUIRE lists that tier.
func Require(t Skipper, tier string) {
	t.Helper()
	err := able(tier)
	switch {
	case err == nil:
	case slices.Contains(strings.Split(os.Getenv(RequireEnv), ","), tier):
		t.Fatalf("tier %s is required (%s): %v", tier, RequireEnv, err)
	default:
		t.Skipf("tier %s: %v", tier, err)
	}
}

// programs are what a tier runs, beyond namespaces.
var programs = map[string][]string{
	"netns":   nil,
	"libvirt": {"libvirtd", "virsh", "qemu-system-x86_64"},
	"vm":      {"teamd", "dbus-daemon", "ip"},
}

var canNamespace = sync.OnceValue(func() error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	return ns.Close()
})

func able(tier string) error {
	needs, known := programs[tier]
	if !known {
		return fmt.Errorf("there is no tier %q", tier)
	}
	if tier == "vm" && os.Getenv(TierEnv) != tier {
		return fmt.Errorf("it runs in the VM tier only: make test-vm")
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can do this")
	}
	for _, p := range needs {
		if _, err := exec.LookPath(p); err != nil {
			return err
		}
	}
	return canNamespace()
}
