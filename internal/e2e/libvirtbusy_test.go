package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
)

// TestRestartBesideABusyLibvirtdRemovesNothing: libvirtd lets vmnetd in, and does not
// tell of its VMs while the hook of one runs.
func TestRestartBesideABusyLibvirtdRemovesNothing(t *testing.T) {
	t.Parallel()
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
	b.Virsh("start", "vm1")
	att := b.attach("vm1", "--live")
	began, goOn := filepath.Join(b.Dir, "began"), filepath.Join(b.Dir, "goon")
	script := fmt.Sprintf("#!/bin/sh\n[ \"$2\" = reconnect ] || exit 0\ntouch %s\nuntil [ -e %s ]; do sleep 0.1; done\n", began, goOn)
	if err := os.WriteFile(filepath.Join(b.Hooks, "qemu.d/slow"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	started := make(chan struct{})
	go func() { defer close(started); b.Start() }()
	b.eventually("libvirtd runs the hook", 20*time.Second, func() error { _, err := os.Stat(began); return err })
	b.kill()
	b.start() // it waits for libvirtd as long as it likes
	now := b.list("vm1")
	if len(now) != 1 || now[0].Phase != vmnetd.Attached || now[0].Ifindex != att.Ifindex || !strings.Contains(now[0].Problem, "libvirtd does not answer") {
		t.Errorf("while libvirtd is busy: %+v was %+v", now, att)
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-started
	b.settled("vm1", "up", 1)
	b.hasProblem("vm1", att.Problem)
	if now := b.list("vm1"); now[0].Ifindex != att.Ifindex {
		t.Errorf("%+v was %+v", now[0], att)
	}
	b.must(0, "detach", "vm1")
	b.nothing()
}
