package hypervisor

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

func TestOnlyWhatLiesBeneathADirectoryWithoutLinksIsOpened(t *testing.T) {
	base, outside := t.TempDir(), t.TempDir()
	for _, dir := range []string{base + "/vms/a", outside + "/b"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, socket := range []string{base + "/vms/a/sock", outside + "/b/sock"} {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	err := errors.Join(
		os.WriteFile(base+"/file", nil, 0o600),
		os.Symlink(outside, base+"/link"), os.Symlink(outside+"/b/sock", base+"/vms/sock"), os.Symlink("a", base+"/vms/near"),
		os.Symlink(base, outside+"/base"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for rel, want := range map[string]error{
		"vms/a/sock":    nil,
		"vms/b/sock":    unix.ENOENT,
		"vms/a/no":      unix.ENOENT,
		"file/sock":     unix.ENOTDIR,
		"link/b/sock":   vmnetd.ErrDenied,
		"vms/sock":      vmnetd.ErrDenied,
		"vms/near/sock": vmnetd.ErrDenied,
		"../" + filepath.Base(outside) + "/b/sock": vmnetd.ErrDenied,
		"vms/../vms/a/sock":                        vmnetd.ErrDenied,
		"vms/a":                                    vmnetd.ErrInvalid,
		"vms/..":                                   vmnetd.ErrDenied,
	} {
		before := openFDs(t, os.Getpid())
		n, err := openNode(base, rel)
		if err == nil {
			n.close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", rel, err, want)
		}
		if after := openFDs(t, os.Getpid()); after != before {
			t.Errorf("%s: %d descriptors were open and %d are", rel, before, after)
		}
	}
	n, err := openNode(outside+"/base", "vms/a/sock")
	if err != nil {
		t.Fatalf("a base that is a link is what its operator wrote: %v", err)
	}
	n.close()
}
