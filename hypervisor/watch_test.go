package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// watch runs q.Run until the test ends.
func watch(t *testing.T, q *QMP) <-chan Sighting {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	seen, ended := make(chan Sighting, 100), make(chan error, 1)
	go func() { ended <- q.Run(ctx, func(s Sighting) { seen <- s }) }()
	select {
	case got := <-seen:
		if got != (Sighting{}) {
			t.Fatalf("saw %+v before the watch had begun", got)
		}
	case <-time.After(longEnough):
		t.Fatal("the watch does not begin")
	}
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
		case <-time.After(longEnough):
			t.Error("Run does not end")
		}
	})
	return seen
}

func expect(t *testing.T, seen <-chan Sighting, name, socket string, here bool) {
	t.Helper()
	want := Sighting{Name: name, Via: "qmp:" + socket, Socket: socket, Here: here}
	select {
	case got := <-seen:
		if got != want {
			t.Fatalf("saw %+v, want %+v", got, want)
		}
	case <-time.After(longEnough):
		t.Fatalf("nothing seen, want %+v", want)
	}
}

func expectNothing(t *testing.T, seen <-chan Sighting) {
	t.Helper()
	select {
	case got := <-seen:
		t.Errorf("saw %+v, want nothing", got)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestRunSeesVMsComeAndGo(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	first := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	seen := watch(t, q)
	expect(t, seen, first.Name, first.Socket, true)

	second := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	expect(t, seen, second.Name, second.Socket, true)

	soonest(t, time.Second, "seeing that it was killed", func() time.Duration {
		began := time.Now()
		first.Kill() // its socket stays
		expect(t, seen, first.Name, first.Socket, false)
		took := time.Since(began)
		first = testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, Name: first.Name})
		expect(t, seen, first.Name, first.Socket, true)
		return took
	})
	second.QMP("quit", nil) // removes its socket
	expect(t, seen, second.Name, second.Socket, false)
	expectNothing(t, seen)
}

func TestRunWaitsForDirectoriesThatAreNotThere(t *testing.T) {
	q, top := newQMP(t, Limits{})
	dir := filepath.Join(top, "a", "b")
	if err := q.Configure(Config{Sockets: []string{dir + "/{vm}.sock", top + "/c/{vm}/d/qmp.sock"}}); err != nil {
		t.Fatal(err)
	}
	seen := watch(t, q)
	mkdir(t, dir)
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	expect(t, seen, guest.Name, guest.Socket, true)

	deep := filepath.Join(top, "c", "vm7", "d")
	mkdir(t, deep)
	other := testkit.StartQEMU(t, testkit.QEMUOptions{Name: "vm7", Socket: filepath.Join(deep, "qmp.sock")})
	expect(t, seen, "vm7", other.Socket, true)
	other.Kill()
	expect(t, seen, "vm7", other.Socket, false)

	guest.Kill()
	expect(t, seen, guest.Name, guest.Socket, false)
	if err := os.RemoveAll(filepath.Join(top, "a")); err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir)
	third := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	expect(t, seen, third.Name, third.Socket, true)
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestRunFollowsNewPatterns(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	seen := watch(t, q)
	if err := q.Configure(Config{Sockets: []string{dir + "/{vm}.sock", filepath.Dir(guest.Socket) + "/{vm}.sock"}}); err != nil {
		t.Fatal(err)
	}
	expect(t, seen, guest.Name, guest.Socket, true)
	if got := q.Sockets(); len(got) != 1 || got[guest.Name] != guest.Socket {
		t.Errorf("Sockets = %v", got)
	}
}

func TestRunFollowsAVMWhoseSocketWasNamed(t *testing.T) {
	q, _ := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	seen := watch(t, q)
	if _, err := q.Find(t.Context(), guest.Name, "qmp:"+guest.Socket); err != nil {
		t.Fatal(err)
	}
	expect(t, seen, guest.Name, guest.Socket, true)
	guest.Kill()
	expect(t, seen, guest.Name, guest.Socket, false)
	if patterns, _ := q.followed(); len(patterns) != 1 {
		t.Errorf("%d patterns are followed after it went, want 1", len(patterns))
	}
}

func TestRunSeesTheEndOfAVMWhoseProcessIsNotKnown(t *testing.T) {
	q, dir := newQMP(t, Limits{Appear: 50 * time.Millisecond})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	socket := filepath.Join(dir, guest.Name+".sock")
	stop := proxy(t, socket, guest.Socket)
	seen := watch(t, q)
	expect(t, seen, guest.Name, socket, true)
	stop()
	remove(t, socket)
	expect(t, seen, guest.Name, socket, false)
}

func TestNodeIsThereBeforeAnybodyListens(t *testing.T) {
	q, dir := newQMP(t, Limits{Greeting: 50 * time.Millisecond}) // nobody ever accepts
	seen := watch(t, q)
	socket := filepath.Join(dir, "vm1.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	expectNothing(t, seen)
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	expect(t, seen, "vm1", socket, true)
}

func TestBusySocketIsSeenAllTheSame(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	open(t, guest.Socket, Limits{})
	seen := watch(t, q)
	expect(t, seen, guest.Name, guest.Socket, true)
}

func TestRunEndsWhileSocketsAreProbed(t *testing.T) {
	q, dir := newQMP(t, Limits{Appear: time.Hour})
	for i := range 10 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("%s/vm%d.sock", dir, i)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	within(t, longEnough, "Run", func() {
		if err := q.Run(ctx, func(s Sighting) {
			if s != (Sighting{}) {
				t.Errorf("saw %+v", s)
			}
		}); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestRunIgnoresWhatHasNothingToDoWithVMs(t *testing.T) {
	d, err := newDirWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	top := t.TempDir()
	p, err := parsePattern(top + "/x/{vm}.sock")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.follow([]pattern{p}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for name, want := range map[string]bool{"noise": false, "x": true} {
		mkdir(t, filepath.Join(top, name))
		events, err := d.read(buf)
		if err != nil {
			t.Fatal(err)
		}
		matters := false
		for _, ev := range events {
			matters = matters || d.matters(ev)
		}
		if matters != want {
			t.Errorf("%s matters: %v, want %v", name, matters, want)
		}
	}
}

func TestParentFoldersOfAFolderThatIsThereAreNotListenedTo(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "run", "qmp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := newDirWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	patterns, err := parsePatterns([]string{dir + "/{vm}.sock"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.follow(patterns); err != nil {
		t.Fatal(err)
	}
	for _, noise := range []string{filepath.Join(top, "x"), filepath.Join(top, "run", "x")} {
		if err := os.WriteFile(noise, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(top, "run"), filepath.Join(top, "ran")); err != nil {
		t.Fatal(err)
	}
	events, err := d.read(make([]byte, 4096))
	if err != nil || len(events) == 0 || events[0].mask&unix.IN_MOVE_SELF == 0 || !d.matters(events[0]) {
		t.Errorf("heard %+v, %v; want only that the folder has moved", events, err)
	}
}
