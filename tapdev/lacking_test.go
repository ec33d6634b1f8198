package tapdev

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// TestAKindThatIsLackingIsNotAskedForAgainUntilItsModuleIsThere: for each question
// the kernel would start a process that looks for the module.
func TestAKindThatIsLackingIsNotAskedForAgainUntilItsModuleIsThere(t *testing.T) {
	loaded, err := os.ReadDir("/sys/module")
	if err != nil || len(loaded) == 0 {
		t.Fatalf("this kernel shows no modules: %v", err)
	}
	h := newHad()
	h.lacked[vmnetd.Ipvtap] = lack{unix.EOPNOTSUPP, time.Now()}
	if h.lacks(kind{name: vmnetd.Ipvtap, module: "no-such-module"}) == nil {
		t.Error("it is asked for again at once")
	}
	if h.lacks(kind{name: vmnetd.Ipvtap, module: loaded[0].Name()}) != nil {
		t.Error("it is not asked for although its module is there")
	}
	h.lacked[vmnetd.Ipvtap] = lack{unix.EOPNOTSUPP, time.Now().Add(-lackFor)}
	if h.lacks(kind{name: vmnetd.Ipvtap, module: "no-such-module"}) != nil {
		t.Error("it is never asked for again")
	}
}
