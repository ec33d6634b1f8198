package bootimage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// NewestKernel is the version of the newest packaged kernel of this machine
// that has its modules.
func NewestKernel() (string, error) { return newestKernel("/boot", "/lib/modules") }

// KernelFile is where the kernel of that version is.
func KernelFile(version string) string { return "/boot/vmlinuz-" + version }

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
