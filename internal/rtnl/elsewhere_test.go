package rtnl_test

import (
	"errors"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestLinkOfANamespaceThatOnlyItsNumberNamesIsSeenAndDeleted(t *testing.T) {
	testkit.Require(t, "netns")
	here, there := testkit.NewNetns(t), testkit.NewNetns(t)
	link := there.Create(t, rtnl.NewLink{Name: "far0", Kind: "bridge"})
	id, err := here.Conn().EnsureNSID(t.Context(), there.NS().Fd())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := here.Conn().LinkIn(t.Context(), id, link.Index); err != nil || got.Name != "far0" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range [][2]int{{id, 0}, {id, 4711}, {id + 1, link.Index}} {
		if _, err := here.Conn().LinkIn(t.Context(), c[0], c[1]); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("index %d in %d: %v", c[1], c[0], err)
		}
	}
	if err := here.Conn().DeleteIn(t.Context(), id, link.Index); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Conn().LinkByName(t.Context(), "far0"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
	if err := here.Conn().DeleteIn(t.Context(), id, link.Index); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}
