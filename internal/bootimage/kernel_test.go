package bootimage

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNewestKernelNeedsItsModulesAndCountsNumbers(t *testing.T) {
	boot, modules := t.TempDir(), t.TempDir()
	if _, err := newestKernel(boot, modules); err == nil {
		t.Error("a kernel was found in an empty directory")
	}
	for _, version := range []string{"6.1.0-9-amd64", "6.1.0-10-amd64", "6.12.1-amd64"} {
		touch(t, filepath.Join(boot, "vmlinuz-"+version))
		if version != "6.12.1-amd64" {
			touch(t, filepath.Join(modules, version, "modules.dep"))
		}
	}
	if got, err := newestKernel(boot, modules); err != nil || got != "6.1.0-10-amd64" {
		t.Errorf("newestKernel = %q, %v; want 6.1.0-10-amd64", got, err)
	}
}

func touch(t *testing.T, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
