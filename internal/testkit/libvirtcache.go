package testkit

import (
	"os"
	"path/filepath"
)

// What a QEMU can, libvirtd asks before the first domain that it starts, and writes
// down: in the VM tier that takes 10 s to 20 s. It believes what is written only of
// the same QEMU, libvirtd and kernel (qemu/qemu_capabilities.c, virQEMUCapsIsValid),
// so each libvirtd of ours is given what one before has written.

// LibvirtCacheDir is where that is kept for a tier's machine; "" where there is no
// place for it.
func LibvirtCacheDir(tier string) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "vmnetd", "libvirt"+tier)
}

// askedOfQEMU is what libvirtd has written, beneath its cache.
func (l *Libvirtd) askedOfQEMU() string { return filepath.Join(l.Dir, "cache/qemu/capabilities") }

// recall gives a libvirtd that is not started yet what another has written.
func (l *Libvirtd) recall() { copyFiles(LibvirtCacheDir(os.Getenv(TierEnv)), l.askedOfQEMU()) }

// remember keeps it for the next one.
func (l *Libvirtd) remember() { copyFiles(l.askedOfQEMU(), LibvirtCacheDir(os.Getenv(TierEnv))) }

// copyFiles copies the files of a folder, each as a whole or not at all. What
// cannot be copied is asked again.
func copyFiles(from, to string) {
	entries, err := os.ReadDir(from)
	if err != nil || len(entries) == 0 || os.MkdirAll(to, 0o700) != nil {
		return
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil || filepath.Ext(e.Name()) != ".xml" {
			continue
		}
		part, err := os.CreateTemp(to, "part")
		if err != nil {
			continue
		}
		_, err = part.Write(content)
		if closed := part.Close(); err == nil && closed == nil {
			_ = os.Rename(part.Name(), filepath.Join(to, e.Name()))
		}
		_ = os.Remove(part.Name())
	}
}
