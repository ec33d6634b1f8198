package vmtest

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd/internal/bootimage"
)

// initScript is the first program of the VM, startScript the second, or what
// systemd runs that systemdScript has become.
var (
	//go:embed init.sh
	initScript []byte
	//go:embed start.sh
	startScript []byte
	//go:embed systemd.sh
	systemdScript []byte
)

// bootModules is what the VM needs to get at the machine's file system and to
// speak to the program that runs it.
var bootModules = []string{"virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"}

// tierModules is what the tests need. The kernel would load most of it when it
// is asked for, but not on behalf of a namespace's root; bonding has an argument
// and is in start.sh.
var tierModules = []string{
	"team", "team_mode_activebackup", "team_mode_broadcast", "team_mode_loadbalance", "team_mode_random", "team_mode_roundrobin",
	"8021q", "macvlan", "macvtap", "ipvlan", "ipvtap", "vhost_net", "dummy", "bridge", "tun", "veth", "af_packet", "nf_tables",
}

// kernel and initramfs of one run.
type image struct {
	kernel string
	initrd string
}

// buildImage makes the initramfs in dir: the programs above, and what this run
// is about.
func buildImage(ctx context.Context, dir string, o Options, mark string) (image, error) {
	version, err := bootimage.NewestKernel()
	if err != nil {
		return image{}, err
	}
	var a bootimage.Archive
	for _, folder := range []string{"dev", "proc", "sys", "vm"} {
		a.Dir(folder)
	}
	a.File("init", 0o755, initScript)
	a.File("vm/start.sh", 0o755, startScript)
	if o.Systemd {
		a.File("vm/systemd.sh", 0o644, systemdScript)
	}
	a.File("vm/shares.sh", 0o644, o.sharesScript())
	a.File("vm/env.sh", 0o644, o.envScript(mark))
	a.File("vm/command.sh", 0o644, o.commandScript())
	if err := a.AddBusybox(); err != nil {
		return image{}, err
	}
	if err := a.AddModules(ctx, version, bootModules...); err != nil {
		return image{}, fmt.Errorf("cannot make an initramfs for kernel %s: %w", version, err)
	}
	i := image{kernel: bootimage.KernelFile(version), initrd: filepath.Join(dir, "initrd.cpio")}
	return i, os.WriteFile(i.initrd, a.Bytes(), 0o600)
}

// shares is the directories of the machine that can be written to, each with
// where it is in the VM. The tag of the mount is the place in the list.
func (o *Options) shares() [][2]string {
	var list [][2]string
	for _, dir := range o.Writable {
		list = append(list, [2]string{dir, dir})
	}
	if o.Lib != "" {
		list = append(list, [2]string{o.Lib, LibDir})
	}
	return list
}

func shareTag(i int) string { return fmt.Sprintf("share%d", i) }

// cache=none: what the VM writes is on the machine at once, also when the VM
// is killed in the next moment.
func (o *Options) sharesScript() []byte {
	var b bytes.Buffer
	for i, share := range o.shares() {
		fmt.Fprintf(&b, "share %s cache=none %s\n", shareTag(i), Quote("/newroot"+share[1]))
	}
	return b.Bytes()
}

func (o *Options) envScript(mark string) []byte {
	var b bytes.Buffer
	for _, setting := range o.environment(os.Getenv) {
		name, value, _ := strings.Cut(setting, "=")
		fmt.Fprintf(&b, "export %s=%s\n", name, Quote(value))
	}
	fmt.Fprintf(&b, "vm_mark=%s\nvm_modules=%s\n", Quote(mark), Quote(strings.Join(tierModules, " ")))
	if o.Terminal != nil {
		fmt.Fprintf(&b, "vm_rows=%d\nvm_cols=%d\n", o.Terminal.Rows, o.Terminal.Cols)
	}
	return b.Bytes()
}

func (o *Options) commandScript() []byte {
	return fmt.Appendf(nil, "cd %s && exec %s\n", Quote(o.Dir), Quote(o.Command...))
}

// Quote makes one line for a shell of words that it leaves as they are.
func Quote(words ...string) string {
	quoted := slices.Clone(words)
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
