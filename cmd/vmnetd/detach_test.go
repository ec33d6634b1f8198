package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func TestDetachPassesTheSelectorOn(t *testing.T) {
	for args, call := range map[string]string{
		"":                          "Detach vm1 {ID: MAC: All:false Live:false Config:false}",
		"--id net1":                 "Detach vm1 {ID:net1 MAC: All:false Live:false Config:false}",
		"--mac 52:54:00:00:00:0A":   "Detach vm1 {ID: MAC:52:54:00:00:00:0a All:false Live:false Config:false}",
		"--id net1 --live --config": "Detach vm1 {ID:net1 MAC: All:false Live:true Config:true}",
		"--all":                     "Detach vm1 {ID: MAC: All:true Live:false Config:false}",
	} {
		f := &fake{}
		got := do(t, f, append([]string{"detach", "vm1"}, strings.Fields(args)...)...)
		if diff := cmp.Diff([]string{call}, f.calls); diff != "" || got.code != 0 {
			t.Errorf("%q: %+v %s", args, got, diff)
		}
	}
}

func TestDetachTakesOneSelector(t *testing.T) {
	f := &fake{}
	got := do(t, f, "detach", "vm1", "--id", "net0", "--all")
	if got.code != 2 || f.calls != nil {
		t.Errorf("%+v, calls %v", got, f.calls)
	}
}

func TestDetachTellsGoneFromNotYet(t *testing.T) {
	gone, waits := nic("vm1", "net0"), nic("vm1", "net1")
	gone.Phase = vmnetd.Detaching
	waits.Phase, waits.Problem = vmnetd.Detaching, "the guest has not let go yet"
	got := do(t, &fake{nics: []vmnetd.Attachment{gone, waits}}, "detach", "vm1", "--all")
	want := "vm1/net0: detached\nvm1/net1: detaching: its traffic has ended, the daemon finishes the rest; the guest has not let go yet\n"
	if got.code != 0 || got.out != want {
		t.Errorf("%+v", got)
	}
}

func TestDetachThatTakesTooLongIsNoSuccess(t *testing.T) {
	other, late := nic("vm1", "net0"), nic("vm1", "net1")
	got := do(t, &fake{nics: []vmnetd.Attachment{other, late}}, "detach", "vm1", "--id", "net1")
	if got.code != 1 || got.out != "" || !strings.Contains(got.err, "still at it: vm1/net1\n") {
		t.Errorf("%+v", got)
	}
}
