package tapdev

import (
	"errors"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func TestADeviceThatWasRenamedGetsItsNameBack(t *testing.T) {
	l := newLab(t, nil)
	dev, err := l.Ensure(t.Context(), l.spec(1, vmnetd.Bridge))
	if err != nil {
		t.Fatal(err)
	}
	l.ns.Set(t, dev.Ifname, rtnl.Name("mine"))
	for range 2 {
		if err := l.Rename(t.Context(), dev, dev.Ifname); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Find(t.Context(), dev.Ifname); err != nil {
		t.Error(err)
	}
	if err := l.Rename(t.Context(), Device{VM: "other", ID: "net0", Ifindex: dev.Ifindex}, "vmnother"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
}
