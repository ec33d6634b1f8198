package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/atomicfile"
)

// hookMark stands in every hook that vmnetd has written, of any version.
const hookMark = `# Written by "vmnetd hook install".`

// hookText is the script. It is looked into by a shell at every step of every
// domain of the host, so a case decides before anything is started; nothing is at
// reconnect, where a failure kills the VM (src/qemu/qemu_process.c,
// qemuProcessReconnect). Where vmnetd was removed and the hook was not, it must
// not keep VMs from starting.
const hookText = `#!/bin/sh
%s See vmnetd(8), HOOK.
case "$2/$3" in
prepare/begin | stopped/end | release/end) ;;
*) exit 0 ;;
esac
[ -x %[2]s ] || exit 0
%[3]sexec %[2]s hook run qemu "$@"
`

func hookFile(dir string) string { return filepath.Join(dir, "qemu.d", "vmnetd") }

// hookScript is the hook of a program, which asks on the bus at address; ""
// is the system's.
func hookScript(program, address string) []byte {
	export := ""
	if address != "" {
		export = "export DBUS_SYSTEM_BUS_ADDRESS=" + shellQuoted(address) + "\n"
	}
	return fmt.Appendf(nil, hookText, hookMark, shellQuoted(program), export)
}

func shellQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// installHook writes the script unless it is there; changed tells.
func installHook(file string, script []byte) (changed bool, err error) {
	is, err := readHook(file)
	if err != nil {
		return false, err
	}
	if bytes.Equal(is.text, script) && is.mode == hookMode {
		return false, nil
	}
	if hooks := filepath.Dir(filepath.Dir(file)); !isDir(filepath.Dir(hooks)) {
		return false, vmnetd.Errorf(vmnetd.ErrUnsupported, "libvirt is not installed here: there is no %s", filepath.Dir(hooks)).
			WithNext("install it, or name its folder of hooks with --dir")
	}
	err = os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = atomicfile.WriteMode(file, script, hookMode)
	}
	if err != nil {
		return false, vmnetd.Errorf(vmnetd.ErrFailed, "cannot install the hook: %w", err).WithNext(asRoot(err))
	}
	return true, nil
}

// removeHook removes a hook of ours; changed says that there was one.
func removeHook(file string) (changed bool, err error) {
	is, err := readHook(file)
	if err != nil || is.text == nil {
		return false, err
	}
	if err := atomicfile.Remove(file); err != nil {
		return false, vmnetd.Errorf(vmnetd.ErrFailed, "cannot remove the hook: %w", err).WithNext(asRoot(err))
	}
	return true, nil
}

const hookMode = 0o755

// hookThere is a hook of ours that is there; text is nil where none is.
type hookThere struct {
	text []byte
	mode os.FileMode
}

// readHook reads the hook, and refuses what is not ours.
func readHook(file string) (hookThere, error) {
	info, err := os.Lstat(file)
	if errors.Is(err, os.ErrNotExist) {
		return hookThere{}, nil
	}
	notOurs := vmnetd.Errorf(vmnetd.ErrBusy, "%s was not written by vmnetd, so it is left as it is", file).
		WithNext("look at it, and move it away: libvirt runs every file in that folder")
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 1<<16) {
		return hookThere{}, notOurs
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return hookThere{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot read the hook that is there: %w", err).WithNext(asRoot(err))
	}
	if !bytes.Contains(text, []byte("\n"+hookMark)) {
		return hookThere{}, notOurs
	}
	return hookThere{text, info.Mode().Perm()}, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// asRoot is what to do about a file that cannot be read or written.
func asRoot(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "run it as root"
	}
	return ""
}
