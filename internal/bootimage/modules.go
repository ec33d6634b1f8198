package bootimage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// AddModules adds modules and what they depend on as mods/00, mods/01, … in
// the order in which they must be loaded.
func (a *Archive) AddModules(ctx context.Context, version string, modules ...string) error {
	files, err := modulesInOrder(ctx, version, modules)
	if err != nil {
		return err
	}
	a.Dir("mods")
	for i, file := range files {
		content, err := moduleContent(ctx, file)
		if err != nil {
			return err
		}
		a.File(fmt.Sprintf("mods/%02d", i), 0o644, content)
	}
	return nil
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
		out, err := output(ctx, modprobe, "-S", version, "--show-depends", m)
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
	out, err := output(ctx, unpack, "-dc", file)
	if err != nil {
		return nil, fmt.Errorf("%s -dc %s: %w", unpack, file, err)
	}
	return out, nil
}

// output runs a program. When it was killed because ctx has ended, the error is why.
func output(ctx context.Context, program string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out, err
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
