package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

type owner struct{ name, owner string }

func TestClientComesBackAndHearsOfOwners(t *testing.T) {
	testkit.Require(t, "netns")
	daemon := testkit.NewBus(t)
	heard := make(chan owner, 64)
	c := bus.NewClient(daemon.Address, nil, "org.vmnetd.test", func(name, o string) { heard <- owner{name, o} })
	if _, err := c.Call(t.Context(), "org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId"); !errors.Is(err, vmnetd.ErrUnreachable) {
		t.Errorf("before Run: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	next := func() owner {
		t.Helper()
		select {
		case o := <-heard:
			return o
		case <-time.After(testkit.Patience):
			t.Fatal("nothing is heard")
			return owner{}
		}
	}
	for range 2 {
		if got := next(); got != (owner{}) {
			t.Errorf("connected: %v", got)
		}
		other, err := dbus.Connect(daemon.Address)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"org.vmnetd.other", "org.vmnetd.test.a"} {
			if _, err := other.RequestName(name, 0); err != nil {
				t.Fatal(err)
			}
		}
		if got := next(); got.name != "org.vmnetd.test.a" || got.owner == "" {
			t.Errorf("%v", got)
		}
		if out, err := c.Call(t.Context(), "org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetConnectionUnixProcessID", "org.vmnetd.test.a"); err != nil || len(out) != 1 {
			t.Errorf("%v, %v", out, err)
		}
		other.Close()
		if got := next(); got != (owner{"org.vmnetd.test.a", ""}) {
			t.Errorf("%v", got)
		}
		daemon.Restart()
	}
	e := &bus.CallError{}
	if got := next(); got != (owner{}) {
		t.Errorf("connected: %v", got)
	}
	if _, err := c.Call(t.Context(), "org.vmnetd.nobody", "/", "a.b.C"); !errors.As(err, &e) || e.Name != "org.freedesktop.DBus.Error.NameHasNoOwner" || e.Error() == "" {
		t.Errorf("%v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
