package testkit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A saved guest is one that has been booted once on the machine and saved while
// it waits for commands. In the VM tier, where an emulator runs in an emulator, a
// guest needs minutes to boot and seconds to be restored.

// savedFor is how long the state of a guest is kept that nobody saves again.
const savedFor = 30 * 24 * time.Hour

// SaveGuest makes the state that RestoreGuest restores for the same Machine, SMP
// and RootPorts, unless it is there. It says whether it made it. Other options
// do not count.
func SaveGuest(ctx context.Context, o GuestOptions) (made bool, err error) {
	// Not in the cache: a socket path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "vmnsave")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	o = o.shape()
	image, err := BuildGuestImage(ctx, dir)
	if err != nil {
		return false, err
	}
	file, err := o.stateFile(ctx, image)
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(file); err == nil {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return false, err
	}
	removeOldStates(filepath.Dir(file))
	o.Name, o.QMPSocket = "saved", filepath.Join(dir, "qmp")
	if err := o.save(ctx, dir, image, file); err != nil {
		return false, fmt.Errorf("cannot save a guest: %w", err)
	}
	return true, nil
}

// save boots the guest and writes its state to file, as a whole or not at all.
func (o GuestOptions) save(ctx context.Context, dir string, image GuestImage, file string) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	g, err := launchGuest(dir, o, append(o.command(dir), image.Args()...))
	if err != nil {
		return err
	}
	defer g.Kill()
	if err := g.WaitUp(ctx); err != nil {
		return err
	}
	// The first command costs the most, as programs are read in: not in the VM.
	if _, err := g.Run(ctx, "true"); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(file), "part")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	if err := part.Close(); err != nil {
		return err
	}
	if err := migrate(ctx, o.QMPSocket, "exec:cat > "+shellWord(part.Name())); err != nil {
		return err
	}
	return os.Rename(part.Name(), file)
}

// RestoreGuest restores a saved guest and returns when it takes commands. It
// has no NIC, and RootPorts empty ports to plug one into.
func RestoreGuest(t TB, o GuestOptions) *Guest {
	t.Helper()
	return RestoreGuests(t, o)[0]
}

// RestoreGuests restores guests side by side.
func RestoreGuests(t TB, options ...GuestOptions) []*Guest {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	var guests []*Guest
	for _, o := range options {
		g, err := StartRestored(ctx, t, o)
		if err != nil {
			t.Fatalf("cannot restore guest %s: %v", o.Name, err)
		}
		guests = append(guests, g)
	}
	for _, g := range guests {
		if _, err := g.Run(ctx, "true"); err != nil {
			t.Fatalf("a restored guest takes no commands: %v", err)
		}
	}
	return guests
}

// StartRestored starts a saved guest's QEMU and does not wait for its state to be
// read in; the first command does.
func StartRestored(ctx context.Context, t TB, o GuestOptions) (*Guest, error) {
	dir := t.TempDir()
	image, err := BuildGuestImage(ctx, dir)
	if err != nil {
		return nil, err
	}
	o.saved = true
	file, err := o.shape().stateFile(ctx, image)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("it was not saved before (testkit.SaveGuest): %w", err)
	}
	// Kernel and initramfs as well: the firmware's tables, which name them, are
	// part of the state.
	argv := append(o.command(dir), image.Args()...)
	g, err := launchGuest(dir, o, append(argv, "-incoming", "exec:cat "+shellWord(file)))
	if err != nil {
		return nil, err
	}
	t.Cleanup(g.Kill)
	g.channel.isReady() // it said so before it was saved
	return g, nil
}

// StartIncoming starts a guest's QEMU that waits at a URI for the guest to be
// migrated here; the first command does, too. o must make the same machine as
// that of the QEMU where the guest was booted.
func StartIncoming(ctx context.Context, t TB, o GuestOptions, uri string) (*Guest, error) {
	dir := t.TempDir()
	image, err := BuildGuestImage(ctx, dir)
	if err != nil {
		return nil, err
	}
	g, err := launchGuest(dir, o, append(append(o.command(dir), image.Args()...), "-incoming", uri))
	if err != nil {
		return nil, err
	}
	t.Cleanup(g.Kill)
	g.channel.isReady() // it said so where it was booted
	return g, nil
}

// shape is what must be the same when a guest is restored.
func (o GuestOptions) shape() GuestOptions {
	return GuestOptions{Machine: o.Machine, SMP: o.SMP, RootPorts: o.RootPorts, saved: true}
}

// stateFile is where the state of a guest of that shape is: named after all that
// it depends on.
func (o GuestOptions) stateFile(ctx context.Context, image GuestImage) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, qemuProgram, "--version").Output()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s%q%q", version, o.command(""), image.Kernel)
	for _, file := range []string{image.Kernel, image.Initrd} {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		hash.Write(content)
	}
	return filepath.Join(cache, "vmnetd", "guests", fmt.Sprintf("%x", hash.Sum(nil)[:16])), nil
}

// removeOldStates keeps the cache from growing with every new kernel.
func removeOldStates(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > savedFor {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// migrate has QEMU write the state of its guest and waits until it has.
func migrate(ctx context.Context, socket, uri string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	dec := json.NewDecoder(conn)
	if _, err := nextReply(dec); err != nil { // the greeting
		return err
	}
	for _, step := range []struct {
		command string
		args    any
	}{
		{"qmp_capabilities", nil},
		{"migrate-set-capabilities", map[string]any{"capabilities": []any{map[string]any{"capability": "events", "state": true}}}},
		{"migrate", map[string]any{"uri": uri}},
	} {
		if _, err := ask(conn, dec, step.command, step.args); err != nil {
			return fmt.Errorf("%s: %w", step.command, err)
		}
	}
	return migrated(dec)
}

// migrated waits for the event that ends a migration (qapi/migration.json).
func migrated(dec *json.Decoder) error {
	for {
		var m struct {
			Event string
			Data  struct{ Status string }
		}
		if err := dec.Decode(&m); err != nil {
			return err
		}
		switch {
		case m.Event != "MIGRATION":
		case m.Data.Status == "completed":
			return nil
		case m.Data.Status == "failed":
			return errors.New("QEMU could not write the state")
		}
	}
}

// shellWord quotes a word for sh, which runs what follows "exec:".
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
