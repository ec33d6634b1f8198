package uplink

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/atomicfile"
)

// storedVersion is of every file that is kept; one of another version was
// written by a newer vmnetd and is not guessed at.
const storedVersion = 1

// store is the files in which the uplinks outlive the daemon.
type store struct{ lib string }

func (s store) applied() string    { return filepath.Join(s.lib, "applied", "uplinks.json") }
func (s store) overrides() string  { return filepath.Join(s.lib, "uplinks", "overrides.json") }
func (s store) checkpoint() string { return filepath.Join(s.lib, "uplinks", "checkpoint.json") }
func (s store) undone() string     { return filepath.Join(s.lib, "uplinks", "undone.json") }
func (s store) lock() string       { return filepath.Join(s.lib, "uplinks", "lock") }

// open makes the folders; what is in them is for root alone.
func (s store) open() error {
	for _, path := range []string{s.applied(), s.lock()} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot make %s: %w", filepath.Dir(path), err)
		}
	}
	return nil
}

// applied is what was applied last and confirmed: what every start brings back.
type applied struct {
	Version int               `json:"version"`
	ID      string            `json:"id"` // of the apply that brought it
	At      time.Time         `json:"at"`
	Specs   []Spec            `json:"specs"`
	MACs    map[string]string `json:"macs"` // of uplinks at their first apply, kept from then on
	Made    map[string]string `json:"made"` // kinds of the devices that we made, by name
}

// undone tells the daemon of a rollback that another process carried out.
type undone struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Why     string    `json:"why"`
	Error   string    `json:"error,omitempty"` // what could not be taken back
}

// versioned is a file's version, before anything else of it is read.
type versioned struct {
	Version int `json:"version"`
}

// readJSON reads a file of ours into v; os.ErrNotExist where there is none.
func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var is versioned
	err = json.Unmarshal(b, &is)
	switch {
	case err != nil:
		return unreadable(path, err)
	case is.Version != storedVersion:
		return unreadable(path, fmt.Errorf("it has version %d, this vmnetd knows %d", is.Version, storedVersion))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return unreadable(path, err)
	}
	return nil
}

func unreadable(path string, err error) error {
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot read %s: %w", path, err).
		WithNext("move it away; the uplinks stay as they are, and  vmnetd uplink apply  writes it anew")
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(b, '\n'))
}

// loadApplied is what was applied last; ever is false where nothing ever was.
func (s store) loadApplied() (a applied, ever bool, err error) {
	err = readJSON(s.applied(), &a)
	if errors.Is(err, os.ErrNotExist) {
		return applied{}, false, nil
	}
	return a, err == nil, err
}

func (s store) saveApplied(a applied) error {
	a.Version = storedVersion
	return writeJSON(s.applied(), a)
}
