package testkit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vmnetd/vmnetd/internal/atomicfile"
)

// A guest of libvirt is saved on the machine, as virsh save does, and restored in the
// VM tier by virsh restore with an XML whose paths are those of the libvirtd there.

// SaveLibvirtGuest makes what RestoreLibvirtGuest restores for the same VCPUs,
// RootPorts and QEMUArgs, unless it is there. It says whether it made it.
func SaveLibvirtGuest(t TB, o LibvirtGuestOptions) (made bool) {
	t.Helper()
	o = o.shape()
	file := o.stateFile(t)
	if _, err := os.Stat(file); err == nil {
		return false
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	removeOldStates(filepath.Dir(file))
	l := StartLibvirtd(t, LibvirtdOptions{})
	g := BootLibvirtGuest(t, l, o)
	g.hangUp()
	state, err := os.ReadFile(g.Save(t))
	if err == nil {
		err = atomicfile.Write(file, state)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return true
}

// RestoreLibvirtGuest restores a saved guest and returns when it takes commands. It
// has no NIC, and RootPorts empty ports to plug one into. Its name is "saved": libvirt
// restores a domain under no other one. So a libvirtd has one such guest.
func RestoreLibvirtGuest(t TB, l *Libvirtd, o LibvirtGuestOptions) *LibvirtGuest {
	t.Helper()
	g := StartRestoredLibvirtGuest(t, l, o)
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	if err := g.WaitUp(ctx); err != nil {
		t.Fatalf("%v", err)
	}
	return g
}

// StartRestoredLibvirtGuest restores a saved guest, as RestoreLibvirtGuest does, and
// returns when its CPUs run. Its first command takes a while in the VM tier: nothing
// of it is translated yet by the QEMU that emulates it.
func StartRestoredLibvirtGuest(t TB, l *Libvirtd, o LibvirtGuestOptions) *LibvirtGuest {
	t.Helper()
	shape := o.shape()
	saved := shape.stateFile(t)
	if _, err := os.Stat(saved); err != nil {
		t.Fatalf("it was not saved before (testkit.SaveLibvirtGuest): %v", err)
	}
	xml, err := l.TryVirsh("save-image-dumpxml", saved)
	if err != nil {
		t.Fatalf("%v", err)
	}
	dir := filepath.Dir(l.guestImage(t).Initrd)
	was, _, _ := strings.Cut(betweenOf(xml, "<initrd>", "</initrd>"), "/initrd.cpio")
	xml = strings.ReplaceAll(xml, was, dir)
	file := filepath.Join(dir, shape.Name+".xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	l.Virsh("restore", saved, "--xml", file)
	g := &LibvirtGuest{Name: shape.Name, on: l}
	t.Cleanup(g.hangUp)
	return g
}

func betweenOf(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// shape is what must be the same when a guest is restored.
func (o LibvirtGuestOptions) shape() LibvirtGuestOptions {
	return LibvirtGuestOptions{Name: "saved", VCPUs: o.VCPUs, RootPorts: o.RootPorts, QEMUArgs: o.QEMUArgs}
}

// stateFile is named after all that the state depends on.
func (o LibvirtGuestOptions) stateFile(t TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	dir := t.TempDir()
	image, err := BuildGuestImage(ctx, dir)
	if err != nil {
		t.Fatalf("%v", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("%v", err)
	}
	hash := sha256.New()
	for _, program := range []string{qemuProgram, "libvirtd"} {
		version, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			t.Fatalf("%v", err)
		}
		hash.Write(version)
	}
	for _, path := range []string{image.Kernel, image.Initrd} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v", err)
		}
		hash.Write(content)
	}
	fmt.Fprint(hash, strings.ReplaceAll(o.XML(dir, image), dir, ""))
	return filepath.Join(cache, "vmnetd", "guests", fmt.Sprintf("libvirt-%x", hash.Sum(nil)[:16]))
}
