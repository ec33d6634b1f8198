package config

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestMistakesTogetherSayOneThingToDo(t *testing.T) {
	s, dir := etc(t, "vmnetd.yaml", "rules: []\n", "conf.d/a.yaml", "rules:\n- {vm: a, modes: [bridg]}\nnetworks: [{nam: x}]\n")
	_, err := s.Candidate()
	var es Errors
	if !errors.As(err, &es) || len(es) < 2 || es[0].Next == "" {
		t.Fatalf("mistakes: %v", err)
	}
	want := "mend them, then  vmnetd check " + filepath.Join(dir, "vmnetd.yaml") + " && vmnetd reload"
	if got := vmnetd.NextOf(err); got != want {
		t.Errorf("next = %q, want %q", got, want)
	}
	if !errors.Is(err, vmnetd.ErrInvalid) {
		t.Error("mistakes are not invalid")
	}
}
