package hypervisor

import (
	"os"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestDoctorTellsOfTheHook(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	if _, err := b.l.Plug(t.Context(), vm, b.device("net0", 1)); err != nil {
		t.Fatal(err)
	}
	look := func(level, text string) {
		t.Helper()
		checks := b.l.Doctor(t.Context())
		if len(checks) != 1 || checks[0].Level != level || !strings.Contains(checks[0].Text, text) || !strings.Contains(checks[0].Text, "9.") || !strings.Contains(checks[0].Text, "domains: 1, NICs of ours: 1") {
			t.Errorf("want %s %q, have %+v", level, text, checks)
		}
	}
	look(vmnetd.LevelWarn, "the hook is not installed")
	if err := os.WriteFile(b.Hooks+"/qemu.d/vmnetd", []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	look(vmnetd.LevelWarn, "newer than libvirtd")
	b.Kill()
	b.Start()
	n := b.seen.count()
	b.Virsh("resume", "vm1") // it is followed again when this is told
	b.seen.wait(t, n, "the resume", isVM("vm1", true))
	look(vmnetd.LevelOK, "hook installed and loaded")
}
