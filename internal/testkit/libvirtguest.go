package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// LibvirtGuest is a guest with an operating system that a libvirtd of our own
// runs. It takes commands again by itself after libvirtd was started anew, after
// save and restore, after a reboot and on the host that it was moved to.
type LibvirtGuest struct {
	Name string

	on *Libvirtd

	mu     sync.Mutex // one command at a time
	lastID int
	line   *guestLine // nil before the first command
}

// guestLine is one connection to the guest's command loop.
type guestLine struct {
	*guestChannel
	conn  net.Conn
	ended chan struct{}
}

// StartLibvirtGuest starts a guest and does not wait for its kernel. It ends with
// its libvirtd.
func StartLibvirtGuest(t TB, l *Libvirtd, o LibvirtGuestOptions) *LibvirtGuest {
	t.Helper()
	file := filepath.Join(l.guestDir(t), o.Name+".xml")
	if err := os.WriteFile(file, []byte(o.XML(l.guestDir(t), l.guestImage(t))), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	paused := []string{}
	if o.Paused {
		paused = append(paused, "--paused")
	}
	if o.Persistent {
		l.Virsh("define", file)
		l.Virsh(append([]string{"start", o.Name}, paused...)...)
	} else {
		l.Virsh(append([]string{"create", file}, paused...)...)
	}
	g := &LibvirtGuest{Name: o.Name, on: l}
	t.Cleanup(g.hangUp)
	return g
}

// BootLibvirtGuest starts a guest and returns when it takes commands.
func BootLibvirtGuest(t TB, l *Libvirtd, o LibvirtGuestOptions) *LibvirtGuest {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	g := StartLibvirtGuest(t, l, o)
	if err := g.WaitUp(ctx); err != nil {
		t.Fatalf("%v", err)
	}
	return g
}

// guestDir is a folder that has one path inside libvirtd's mount namespace and
// outside.
func (l *Libvirtd) guestDir(t TB) string {
	t.Helper()
	dir := filepath.Join(l.Dir, "guest")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	return dir
}

// guestImage is the image that this libvirtd's guests boot.
func (l *Libvirtd) guestImage(t TB) GuestImage {
	t.Helper()
	l.imageOnce.Do(func() {
		var err error
		if l.image, err = BuildGuestImage(context.Background(), l.guestDir(t)); err != nil {
			t.Fatalf("%v", err)
		}
	})
	return l.image
}

// WaitUp waits until the guest takes commands.
func (g *LibvirtGuest) WaitUp(ctx context.Context) error {
	if _, err := g.Run(ctx, "true"); err != nil {
		return fmt.Errorf("it did not come up: %w", err)
	}
	return nil
}

// errLineEnded: the command's answer is lost, since QEMU ended or libvirt saved it.
var errLineEnded = errors.New("the line to the guest ended")

// Run runs a shell script in the guest and returns what it printed, stdout and
// stderr together. A code that is not 0 is a *GuestExitError. It waits for a guest
// that does not run yet, or not any more, until ctx ends; when that is first, the
// script is killed in the guest as well.
func (g *LibvirtGuest) Run(ctx context.Context, script string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	out, code, err := g.run(ctx, script)
	switch {
	case err != nil:
		return out, fmt.Errorf("guest %s: %w\n%s", g.Name, err, g.postMortem())
	case code != 0:
		return out, &GuestExitError{Code: code, Output: out}
	}
	return out, nil
}

// run dials again when the line has ended. What is written before the guest listens
// waits in the socket (QEMU hw/char/virtio-console.c, chr_can_read).
func (g *LibvirtGuest) run(ctx context.Context, script string) (out string, code int, err error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultRunLimit)
		defer cancel()
	}
	for {
		if err := g.connect(ctx); err != nil {
			return "", 0, err
		}
		out, code, err = g.line.run(ctx, script)
		g.lastID = g.line.lastID
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET): // it was not told
			g.hangUpLocked()
			continue
		case errors.Is(err, errGuestEnded):
			err = errLineEnded
		}
		return out, code, err
	}
}

// connect makes a line where there is none, or none any more.
func (g *LibvirtGuest) connect(ctx context.Context) error {
	if g.line != nil {
		select {
		case <-g.line.ended:
			g.hangUpLocked()
		default:
			return nil
		}
	}
	conn, err := g.dial(ctx)
	if err != nil {
		return err
	}
	l := &guestLine{conn: conn, ended: make(chan struct{})}
	l.guestChannel = newGuestChannel(conn, l.ended)
	l.lastID = g.lastID // what a command that was given up answers late has another
	l.isReady()
	go func() {
		defer close(l.ended)
		l.read(conn)
	}()
	g.line = l
	return nil
}

// hangUp ends the line.
func (g *LibvirtGuest) hangUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hangUpLocked()
}

func (g *LibvirtGuest) hangUpLocked() {
	if g.line == nil {
		return
	}
	_ = g.line.conn.Close()
	<-g.line.ended
	g.line = nil
}

// dial waits for QEMU, which makes the socket anew whenever it starts.
func (g *LibvirtGuest) dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := net.Dial("unix", channelFile(filepath.Join(g.on.Dir, "guest"), g.Name))
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// WaitIface waits until the guest has a NIC with that MAC and returns what the
// guest calls it.
func (g *LibvirtGuest) WaitIface(ctx context.Context, mac net.HardwareAddr) (string, error) {
	return waitIface(ctx, g, mac)
}

// WaitNoIface waits until the guest has no NIC with that MAC any more.
func (g *LibvirtGuest) WaitNoIface(ctx context.Context, mac net.HardwareAddr) error {
	return waitNoIface(ctx, g, mac)
}

// Save has virsh save write the guest's state to a file, which ends its QEMU, and
// returns the file's path.
func (g *LibvirtGuest) Save(t TB) string {
	t.Helper()
	file := filepath.Join(g.on.guestDir(t), g.Name+".save")
	g.on.Virsh("save", g.Name, file)
	return file
}

// postMortem is the end of what the guest's kernel and libvirtd said.
func (g *LibvirtGuest) postMortem() string {
	console, _ := os.ReadFile(consoleFile(filepath.Join(g.on.Dir, "guest"), g.Name))
	qemu, _ := os.ReadFile(filepath.Join(g.on.Dir, "log/qemu", g.Name+".log"))
	var b strings.Builder
	for _, part := range []struct{ name, text string }{{"console", string(console)}, {"QEMU", string(qemu)}, {"libvirtd", g.on.Log()}} {
		fmt.Fprintf(&b, "--- %s of guest %s\n%s\n", part.name, g.Name, part.text[max(0, len(part.text)-2000):])
	}
	return b.String()
}
