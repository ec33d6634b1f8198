package bus_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const name = "org.vmnetd1.Test"

func start(t *testing.T, o bus.Options) (b *bus.Bus, ended chan error) {
	t.Helper()
	b = bus.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	go func() { ended <- b.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		cancel()
		_ = receive(t, ended)
	})
	return b, ended
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing within 10 s")
		panic("not reached")
	}
}

func TestTheNameIsOwnedAgainAfterTheBusWasAway(t *testing.T) {
	daemon := testkit.NewBus(t)
	ups := make(chan *dbus.Conn, 10)
	b, _ := start(t, bus.Options{Address: daemon.Address, Name: name, OnUp: func(c *dbus.Conn) error { ups <- c; return nil }})
	first := receive(t, ups)
	receive(t, b.Ready())
	daemon.Restart()
	second := receive(t, ups)
	if first == second || first.Connected() {
		t.Error("the same connection again")
	}
	var owner string
	if err := second.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, name).Store(&owner); err != nil || owner != second.Names()[0] {
		t.Errorf("owner %q, %v", owner, err)
	}
}

func TestAFailureOfOnUpIsTriedAgain(t *testing.T) {
	daemon := testkit.NewBus(t)
	failed := false
	b, _ := start(t, bus.Options{Address: daemon.Address, Name: name, OnUp: func(*dbus.Conn) error {
		if failed {
			return nil
		}
		failed = true
		return errors.New("not yet")
	}})
	receive(t, b.Ready())
	if !failed {
		t.Error("OnUp was not asked")
	}
}

func TestANameThatIsTakenIsBusyAtTheStartOnly(t *testing.T) {
	daemon := testkit.NewBus(t)
	ups := make(chan *dbus.Conn, 10)
	_, firstEnded := start(t, bus.Options{Address: daemon.Address, Name: name, OnUp: func(c *dbus.Conn) error { ups <- c; return nil }})
	receive(t, ups)
	_, ended := start(t, bus.Options{Address: daemon.Address, Name: name})
	if err := receive(t, ended); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("a second owner: %v", err)
	}
	// Somebody else is faster after a restart: the first waits.
	daemon.Stop()
	daemon.Start()
	thief, err := bus.Dial(t.Context(), daemon.Address, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	got, err := thief.RequestName(name, dbus.NameFlagDoNotQueue)
	if err != nil {
		t.Fatal(err)
	}
	if got == dbus.RequestNameReplyPrimaryOwner {
		select {
		case err := <-firstEnded:
			t.Fatalf("the first gave up: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
	thief.Close()
	receive(t, ups)
}

func TestAPolicyThatDeniesTheNameIsToldOnceWithWhatToDo(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.conf")
	if err := os.WriteFile(none, []byte("<busconfig/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := testkit.NewBusWithPolicy(t, none)
	watcher, err := bus.Dial(t.Context(), daemon.Address, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	tries := make(chan *dbus.Signal, 100) // connections that come and go
	watcher.Signal(tries)
	if err := watcher.AddMatchSignal(dbus.WithMatchMember("NameOwnerChanged")); err != nil {
		t.Fatal(err)
	}
	var log testkit.Output
	ctx, cancel := context.WithCancel(t.Context())
	b := bus.New(bus.Options{Address: daemon.Address, Name: name, Log: slog.New(slog.NewTextHandler(&log, nil))})
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	for range 6 {
		receive(t, tries)
	}
	cancel()
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
	if said := log.String(); strings.Count(said, "does not let us have the name") != 1 || strings.Count(said, "put the package's") != 1 {
		t.Errorf("said:\n%s", said)
	}
}

func TestTheFirstSocketThatAnswersIsTheBus(t *testing.T) {
	daemon := testkit.NewBus(t)
	log := slog.New(slog.DiscardHandler)
	conn, err := bus.Dial(t.Context(), "tcp:host=localhost,port=1;unix:path=/no/such,guid=00;unix:abstract=vmnetd-none;"+daemon.Address, log)
	if err != nil {
		t.Fatal(err)
	}
	if conn.SupportsUnixFDs() {
		t.Error("file descriptors were negotiated")
	}
	conn.Close()
	for _, bad := range []string{"nonsense", "tcp:host=x", "unix:path=/no/such", "unix:path=%zz", "unix:tmpdir=/tmp"} {
		if _, err := bus.Dial(t.Context(), bad, log); !errors.Is(err, vmnetd.ErrUnreachable) || vmnetd.NextOf(err) == "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestABusThatSaysNothingIsLeftWhenTheContextEnds(t *testing.T) {
	path := silentSocket(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := bus.Dial(ctx, "unix:path="+path, slog.New(slog.DiscardHandler))
		done <- err
	}()
	if err := receive(t, done); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

// silentSocket takes connections and never answers.
func silentSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnbus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
