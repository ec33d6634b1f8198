package testkit

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// guestInit is the first program of a guest: it loads the modules and runs
// the commands that come over a virtio-serial port.
//
//go:embed guest-init.sh
var guestInit []byte

// guestModules is what a guest needs to take commands and to see a virtio NIC
// that is plugged while it runs; PCI hotplug itself is built into Debian's
// kernel.
var guestModules = []string{"virtio_pci", "virtio_console", "virtio_net"}

// GuestImage is what QEMU boots a guest from: a packaged kernel, and an
// initramfs of one program and a few modules.
type GuestImage struct {
	Kernel string // path
	Initrd string // path
}

// Args is the QEMU arguments that boot the image. The kernel speaks on the
// serial port and the command loop on a virtio-serial port.
func (i GuestImage) Args() []string {
	return []string{"-kernel", i.Kernel, "-initrd", i.Initrd, "-append", strings.Join([]string{
		"console=ttyS0", "quiet", "panic=-1",
		// None of these changes what a guest's network does; together they save a
		// quarter of the boot without KVM.
		"mitigations=off", "nokaslr", "no_timer_check", "cryptomgr.notests=1", "apparmor=0",
	}, " ")}
}

// BuildGuestImage makes the initramfs in dir for the newest packaged kernel of
// this machine that has its modules. It takes a few milliseconds, so nothing
// is kept between runs that could be out of date.
func BuildGuestImage(ctx context.Context, dir string) (GuestImage, error) {
	version, err := newestKernel("/boot", "/lib/modules")
	if err != nil {
		return GuestImage{}, err
	}
	initrd, err := guestInitramfs(ctx, version)
	if err != nil {
		return GuestImage{}, fmt.Errorf("cannot make an initramfs for kernel %s: %w", version, err)
	}
	image := GuestImage{Kernel: "/boot/vmlinuz-" + version, Initrd: filepath.Join(dir, "initrd.cpio")}
	if err := os.WriteFile(image.Initrd, initrd, 0o600); err != nil {
		return GuestImage{}, err
	}
	return image, nil
}

// newestKernel is the highest version that has a kernel in boot and its
// modules in modules.
func newestKernel(boot, modules string) (string, error) {
	kernels, err := filepath.Glob(filepath.Join(boot, "vmlinuz-*"))
	if err != nil {
		return "", err
	}
	var versions []string
	for _, k := range kernels {
		version := strings.TrimPrefix(filepath.Base(k), "vmlinuz-")
		if _, err := os.Stat(filepath.Join(modules, version, "modules.dep")); err == nil {
			versions = append(versions, version)
		}
	}
	if len(versions) == 0 {
		return "", errors.New("there is no packaged kernel in " + boot + " with its modules; apt-get install linux-image-amd64")
	}
	return slices.MaxFunc(versions, compareVersions), nil
}

// compareVersions orders kernel versions: 6.1.0-9 before 6.1.0-10.
func compareVersions(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsDigit(r) && !unicode.IsLetter(r) })
	}
	return slices.CompareFunc(split(a), split(b), func(x, y string) int {
		m, errM := strconv.Atoi(x)
		n, errN := strconv.Atoi(y)
		if errM != nil || errN != nil {
			return strings.Compare(x, y)
		}
		return m - n
	})
}

func guestInitramfs(ctx context.Context, version string) ([]byte, error) {
	busybox, err := staticBusybox()
	if err != nil {
		return nil, err
	}
	modules, err := modulesInOrder(ctx, version, guestModules)
	if err != nil {
		return nil, err
	}
	var a cpioArchive
	for _, dir := range []string{"bin", "dev", "mods", "proc", "sys", "tmp"} {
		a.dir(dir)
	}
	a.file("init", 0o755, guestInit)
	a.file("bin/busybox", 0o755, busybox)
	for i, file := range modules {
		content, err := moduleContent(ctx, file)
		if err != nil {
			return nil, err
		}
		a.file(fmt.Sprintf("mods/%02d", i), 0o644, content)
	}
	return a.bytes(), nil
}

func staticBusybox() ([]byte, error) {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		// A dynamically linked program names its loader, and would need it in the
		// image as well.
		if err == nil && bytes.Contains(content[:min(len(content), 4096)], []byte("/ld-linux")) {
			err = errors.New(path + " is not statically linked; apt-get install busybox-static")
		}
		return content, err
	}
	return nil, errors.New("there is no busybox; apt-get install busybox-static")
}

// modulesInOrder is the files of modules and of what they depend on, in the
// order in which they must be loaded.
func modulesInOrder(ctx context.Context, version string, modules []string) ([]string, error) {
	modprobe, err := lookSbin("modprobe")
	if err != nil {
		return nil, err
	}
	var files []string
	for _, m := range modules {
		out, err := exec.CommandContext(ctx, modprobe, "-S", version, "--show-depends", m).Output()
		if err != nil {
			return nil, fmt.Errorf("modprobe --show-depends %s: %w", m, err)
		}
		for line := range strings.Lines(string(out)) {
			// "insmod FILE [OPTIONS]", or "builtin NAME"
			if f := strings.Fields(line); len(f) > 1 && f[0] == "insmod" && !slices.Contains(files, f[1]) {
				files = append(files, f[1])
			}
		}
	}
	return files, nil
}

// moduleContent reads a module; distributions after Debian 12 compress them,
// and busybox's insmod does not read those.
func moduleContent(ctx context.Context, file string) ([]byte, error) {
	unpack, packed := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[path.Ext(file)]
	if !packed {
		return os.ReadFile(file)
	}
	out, err := exec.CommandContext(ctx, unpack, "-dc", file).Output()
	if err != nil {
		return nil, fmt.Errorf("%s -dc %s: %w", unpack, file, err)
	}
	return out, nil
}

// lookSbin finds an administrator's program also where PATH is an ordinary
// user's.
func lookSbin(name string) (string, error) {
	if file, err := exec.LookPath(name); err == nil {
		return file, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no %s on this machine; sudo make setup", name)
}
