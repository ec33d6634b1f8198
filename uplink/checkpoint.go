package uplink

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"time"

	"github.com/vmnetd/vmnetd/internal/atomicfile"
	"github.com/vmnetd/vmnetd/internal/proc"
)

// checkpoint is all that is needed to take an apply back, written down before
// the first step: whoever finds it, the daemon, the guard or the next daemon,
// compares what is with Before and takes the difference back. It does not
// matter which of the steps were done.
type checkpoint struct {
	Version int           `json:"version"`
	ID      string        `json:"id"`
	Boot    string        `json:"boot"` // the boot it was made in: later ones have nothing to take back
	At      time.Time     `json:"at"`
	Until   time.Time     `json:"until"` // taken back then unless confirmed
	Due     time.Duration `json:"due"`   // the same on the clock of this boot, which nobody sets
	Phase   phase         `json:"phase"`
	Before  World         `json:"before"`
	Steps   []Step        `json:"steps"`
	After   applied       `json:"after"` // what a confirmation keeps
}

// phase is how far an apply is.
type phase string

const (
	changing phase = "changing" // under way, by who holds the lock; nobody holds it: it was killed
	waiting  phase = "waiting"  // verified, to be confirmed until Until
)

// newID names an apply.
func newID() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// touched is every device that the apply may have made or changed.
func (c checkpoint) touched() []string {
	names := c.Before.names()
	for _, s := range c.Steps {
		names = append(names, s.Device)
		if s.Master != "" {
			names = append(names, s.Master)
		}
	}
	return sortedSet(names)
}

// back is the World that a rollback brings, from what is now: Before, and
// without the devices that were not there then.
func (c checkpoint) back(is World) World {
	want := World{}
	for name, d := range is {
		want[name] = d
	}
	for _, name := range c.touched() {
		was, known := c.Before[name]
		if !known {
			was = Device{Name: name, Kind: want[name].Kind, Absent: true}
		}
		want[name] = was
	}
	return want
}

// due says whether the apply is to be taken back now: its time is up, or it was
// killed on its way. Whoever asks holds the lock.
func (c checkpoint) due(now time.Duration) bool {
	return c.Phase == changing || now >= c.Due
}

// until sets when it is taken back.
func (c *checkpoint) until(after time.Duration) {
	c.Until, c.Due = time.Now().Add(after), proc.SinceBoot()+after
}

// loadCheckpoint is the apply that is under way or waits; os.ErrNotExist when
// none does.
func (s store) loadCheckpoint() (checkpoint, error) {
	var c checkpoint
	err := readJSON(s.checkpoint(), &c)
	return c, err
}

func (s store) saveCheckpoint(c checkpoint) error {
	c.Version = storedVersion
	return writeJSON(s.checkpoint(), c)
}

func (s store) dropCheckpoint() error { return atomicfile.Remove(s.checkpoint()) }

// settled says whether a checkpoint's apply was confirmed, and only the end of
// that was lost.
func (s store) settled(c checkpoint) bool {
	a, ever, err := s.loadApplied()
	return err == nil && ever && a.ID == c.ID
}

// tell leaves word of a rollback for the daemon.
func (s store) tell(u undone) error {
	u.Version = storedVersion
	return writeJSON(s.undone(), u)
}

// told takes the word of a rollback, if there is one.
func (s store) told() (undone, bool) {
	var u undone
	err := readJSON(s.undone(), &u)
	if errors.Is(err, os.ErrNotExist) {
		return u, false
	}
	_ = atomicfile.Remove(s.undone()) // also what cannot be read: it is news, not state
	return u, err == nil
}
