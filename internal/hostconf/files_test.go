package hostconf

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestWhatIsNotReadIsSaidInASentenceAndTheRestCounts(t *testing.T) {
	const lan = "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\n"
	root := host(t, map[string]string{
		"etc/systemd/network/0.network": strings.Repeat("#", maxSize+1),
		"etc/systemd/network/2.network": lan,
		"etc/netplan/1.yaml":            "network: [",
		"etc/network/interfaces":        "source interfaces.d/*\nsource /nowhere/*/x\n",
		"etc/network/interfaces.d/a/b":  "a folder is no file, and needs no word\n",
	})
	if err := syscall.Mkfifo(filepath.Join(root, "etc/systemd/network/1.network"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody can read what a link points to that points to itself, not even root.
	if err := os.Symlink("x.conf", filepath.Join(root, "etc/network/interfaces.d/x.conf")); err != nil {
		t.Fatal(err)
	}
	h := Read(root)
	if got := inWords(h.Find(eno1)); !strings.Contains(got, "/etc/systemd/network/2.network:4 192.0.2.17/24") {
		t.Errorf("found %s", got)
	}
	want := []string{
		"/etc/network/interfaces.d/x.conf cannot be read: too many levels of symbolic links",
		fmt.Sprintf("/etc/systemd/network/0.network is larger than %d bytes, and is not read", maxSize),
		"/etc/systemd/network/1.network is no regular file, and is not read",
		"/etc/netplan/1.yaml is not read: it is no YAML",
	}
	if !slices.Equal(h.Unread, want) {
		t.Errorf("said is %q", h.Unread)
	}
}

func TestOnlySoManyFilesAreRead(t *testing.T) {
	root := host(t, map[string]string{"etc/netplan/1.yaml": "network: {}\n"})
	for i := range maxFiles {
		if err := os.WriteFile(filepath.Join(root, "etc/netplan", fmt.Sprintf("%04d.yaml", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("the host has more than %d files about its network, and not all are read", maxFiles)
	if h := Read(root); !slices.Equal(h.Unread, []string{want}) {
		t.Errorf("said is %q", h.Unread)
	}
}

func TestOnlySoManyBytesAreRead(t *testing.T) {
	root := host(t, map[string]string{"etc/systemd/network/9.network": "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\n"})
	long := []byte(strings.Repeat("#", maxSize))
	for i := range maxTotal / maxSize {
		if err := os.WriteFile(filepath.Join(root, "etc/systemd/network", fmt.Sprintf("%02d.network", i)), long, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("the host has more than %d bytes about its network, and not all are read", maxTotal)
	if h := Read(root); !slices.Equal(h.Unread, []string{want}) || len(h.Find(eno1)) != 0 {
		t.Errorf("said is %q", h.Unread)
	}
}

func TestAPatternStaysWhereItIs(t *testing.T) {
	r := &reader{root: host(t, map[string]string{
		"etc/network/interfaces.d/b": "", "etc/network/interfaces.d/a": "", "etc/network/interfaces.d/.hidden": "", "etc/network/c*": "", "etc/other/d": "",
	})}
	for pattern, want := range map[string][]string{
		"/etc/network/interfaces.d/*":      {"/etc/network/interfaces.d/a", "/etc/network/interfaces.d/b"},
		"/etc/*/[ad]":                      {"/etc/other/d"},
		"/etc/network/../../../etc/ot*/d":  {"/etc/other/d"},
		literal("/etc/network/c*"):         {"/etc/network/c*"},
		"/etc/network/[":                   nil,
		"/etc/nowhere/*":                   nil,
		"/etc/network/interfaces.d/.hid*":  {"/etc/network/interfaces.d/.hidden"},
		"/etc/network/interfaces.d/there?": nil,
	} {
		if got := r.paths(pattern); !slices.Equal(got, want) {
			t.Errorf("%s: %q", pattern, got)
		}
	}
	if len(r.unread) != 0 {
		t.Errorf("said is %q", r.unread)
	}
}

func TestAFileThatIncludesItselfIsReadOnce(t *testing.T) {
	root := host(t, map[string]string{
		"etc/network/interfaces":     "source interfaces\nsource-directory .\nsource /etc/network/./more/../interfaces\niface eno1 inet static\naddress 192.0.2.17/24\n",
		"etc/network/interfaces.bak": "iface eno1 inet static\naddress 192.0.2.18/24\n",
	})
	if got := find(root); len(got) != 1 {
		t.Errorf("found %s", inWords(got))
	}
}
