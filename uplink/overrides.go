package uplink

import (
	"errors"
	"maps"
	"os"
	"slices"
	"time"
)

// overrides is what was said by hand and holds until it is taken back, over
// restarts and reboots. Everything that converges respects it.
type overrides struct {
	Version   int                  `json:"version"`
	Drained   map[string][]string  `json:"drained,omitempty"`   // ports kept off the active path, by uplink
	Held      map[string]time.Time `json:"held,omitempty"`      // until when an uplink is not converged
	Pinned    map[string]string    `json:"pinned,omitempty"`    // the member that an anchor was moved to
	Temporary map[string]temporary `json:"temporary,omitempty"` // what was changed in a team by hand
}

// temporary is ports of a team that were added or taken out by hand, until the
// team is applied again.
type temporary struct {
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

func (s store) loadOverrides() (overrides, error) {
	var o overrides
	err := readJSON(s.overrides(), &o)
	if errors.Is(err, os.ErrNotExist) {
		return overrides{}, nil
	}
	return o, err
}

func (s store) saveOverrides(o overrides) error {
	o.Version = storedVersion
	return writeJSON(s.overrides(), o)
}

// clone shares nothing with o that is changed.
func (o overrides) clone() overrides {
	c := overrides{Drained: map[string][]string{}, Held: map[string]time.Time{}, Pinned: map[string]string{}, Temporary: map[string]temporary{}}
	for name, ports := range o.Drained {
		c.Drained[name] = slices.Clone(ports)
	}
	maps.Copy(c.Held, o.Held)
	maps.Copy(c.Pinned, o.Pinned)
	for name, t := range o.Temporary {
		c.Temporary[name] = temporary{slices.Clone(t.Added), slices.Clone(t.Removed)}
	}
	return c
}

// held says whether an uplink is not to be converged now.
func (o overrides) held(name string, now time.Time) bool { return now.Before(o.Held[name]) }

// nextHold is when the first hold ends, zero when nothing is held.
func (o overrides) nextHold(now time.Time) time.Time {
	var next time.Time
	for _, until := range o.Held {
		if now.Before(until) && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	return next
}

// drain puts a port on the list or takes it off.
func (o overrides) drain(uplink, port string, on bool) {
	ports := slices.DeleteFunc(o.Drained[uplink], func(p string) bool { return p == port })
	if on {
		ports = sortedSet(append(ports, port))
	}
	if len(ports) == 0 {
		delete(o.Drained, uplink)
		return
	}
	o.Drained[uplink] = ports
}

// tried notes a port that was added to a team or taken out of it by hand; back
// to what is declared leaves nothing to note.
func (o overrides) tried(team, port string, added bool) {
	t := o.Temporary[team]
	is := func(p string) bool { return p == port }
	wasAdded, wasRemoved := slices.ContainsFunc(t.Added, is), slices.ContainsFunc(t.Removed, is)
	t.Added, t.Removed = slices.DeleteFunc(t.Added, is), slices.DeleteFunc(t.Removed, is)
	switch {
	case added && !wasRemoved:
		t.Added = append(t.Added, port)
	case !added && !wasAdded:
		t.Removed = append(t.Removed, port)
	}
	o.Temporary[team] = t
}

// forget drops what an apply puts right, and all that was said of uplinks that
// are no more.
func (o overrides) forget(specs []Spec, touched []string) {
	known := map[string]Spec{}
	for _, s := range specs {
		known[s.Name] = s
	}
	for _, name := range touched {
		delete(o.Temporary, name)
	}
	for name := range o.Temporary {
		if _, ok := known[name]; !ok {
			delete(o.Temporary, name)
		}
	}
	for name, ports := range o.Drained {
		o.Drained[name] = slices.DeleteFunc(ports, func(p string) bool { return !slices.Contains(known[name].Under(), p) })
		if len(o.Drained[name]) == 0 {
			delete(o.Drained, name)
		}
	}
	for name, member := range o.Pinned {
		if !slices.Contains(known[name].Under(), member) {
			delete(o.Pinned, name)
		}
	}
}
