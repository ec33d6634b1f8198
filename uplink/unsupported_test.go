package uplink

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// A kind that no kernel has is answered as one whose module is missing.
func TestAKernelThatCannotMakeADeviceIsSaidWithWhatToLoad(t *testing.T) {
	testkit.Require(t, "netns")
	const kind = "no-such-kind"
	modules[kind] = "no_such_module"
	t.Cleanup(func() { delete(modules, kind) })
	ns := testkit.NewNetns(t)
	err := (&kernel{conn: ns.Conn()}).run(t.Context(), Step{Verb: verbMake, Device: "x0", Kind: kind})
	if !errors.Is(err, vmnetd.ErrUnsupported) || vmnetd.NextOf(err) != "modprobe no_such_module" || !strings.Contains(err.Error(), "this kernel cannot make a ") {
		t.Errorf("%v, next %q", err, vmnetd.NextOf(err))
	}
	if _, err := ns.Conn().LinkByName(t.Context(), "x0"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("something was made: %v", err)
	}
}
