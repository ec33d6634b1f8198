package testkit

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vmnetd/vmnetd/internal/bootimage"
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
	return []string{"-kernel", i.Kernel, "-initrd", i.Initrd, "-append", bootimage.CommandLine}
}

// BuildGuestImage makes the initramfs in dir for the newest packaged kernel of
// this machine that has its modules. It takes a few milliseconds, so nothing
// is kept between runs that could be out of date. The guest has programs, static
// files of this machine, in its PATH.
func BuildGuestImage(ctx context.Context, dir string, programs ...string) (GuestImage, error) {
	version, err := bootimage.NewestKernel()
	if err != nil {
		return GuestImage{}, err
	}
	initrd, err := guestInitramfs(ctx, version, programs)
	if err != nil {
		return GuestImage{}, fmt.Errorf("cannot make an initramfs for kernel %s: %w", version, err)
	}
	image := GuestImage{Kernel: bootimage.KernelFile(version), Initrd: filepath.Join(dir, "initrd.cpio")}
	if err := os.WriteFile(image.Initrd, initrd, 0o600); err != nil {
		return GuestImage{}, err
	}
	return image, nil
}

func guestInitramfs(ctx context.Context, version string, programs []string) ([]byte, error) {
	var a bootimage.Archive
	for _, dir := range []string{"dev", "proc", "sys", "tmp"} {
		a.Dir(dir)
	}
	a.File("init", 0o755, guestInit)
	if err := a.AddBusybox(); err != nil {
		return nil, err
	}
	for _, file := range programs {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		a.File("bin/"+filepath.Base(file), 0o755, content)
	}
	if err := a.AddModules(ctx, version, guestModules...); err != nil {
		return nil, err
	}
	return a.Bytes(), nil
}
