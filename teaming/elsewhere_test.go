package teaming

import (
	"errors"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestVMATeamdOfAnotherNamespaceIsLeftAlone(t *testing.T) {
	l, other := newLab(t), newLab(t)
	l.start(t, Config{Runner: Runner{Name: RoundRobin}})
	pid := l.pid(l.team)
	if err := other.Kill(t.Context(), l.team); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("killed from the other namespace: %v", err)
	}
	if c, err := other.Config(t.Context(), l.team); !errors.Is(err, ErrGone) {
		t.Errorf("the other namespace's: %+v, %v", c, err)
	}
	if l.pid(l.team) != pid {
		t.Error("it does not run any more")
	}
	l.is(t, Config{Runner: Runner{Name: RoundRobin}})
}
