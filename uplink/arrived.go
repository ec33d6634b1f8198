package uplink

import (
	"maps"
	"path/filepath"
)

// sighted is the NICs that have been given what is declared for them, so that
// what is changed by hand afterwards is drift and stays. It says so of one boot:
// a NIC comes out of every boot, and whenever it is plugged in, as its driver
// has it. The file is in RunDir, and so outlives the daemon and not the boot.
type sighted struct {
	Version int            `json:"version"`
	Boot    string         `json:"boot"`
	NICs    map[string]int `json:"nics"` // ifindexes by name
}

func (m *Manager) sightedFile() string { return filepath.Join(m.o.RunDir, "uplink-nics.json") }

// sighted is as it was kept; what cannot be read says nothing.
func (m *Manager) sighted() sighted {
	var s sighted
	if err := readJSON(m.sightedFile(), &s); err != nil || s.Boot != m.boot {
		return sighted{Boot: m.boot}
	}
	return s
}

// arrived is the NICs of uplinks that have come since they were last settled
// and are not held.
func (s sighted) arrived(is, want World, held map[string]bool) map[string]bool {
	fresh := map[string]bool{}
	for name, d := range is {
		fresh[name] = d.Kind == kindNIC && want.ours(name) && !want[name].Foreign && !held[name] && s.NICs[name] != d.Index
	}
	maps.DeleteFunc(fresh, func(_ string, is bool) bool { return !is })
	return fresh
}

// sight keeps that these NICs have what is declared for them.
func (m *Manager) sight(s sighted, is World, fresh map[string]bool) error {
	if len(fresh) == 0 {
		return nil
	}
	next := sighted{Version: storedVersion, Boot: m.boot, NICs: maps.Clone(s.NICs)}
	if next.NICs == nil {
		next.NICs = map[string]int{}
	}
	maps.DeleteFunc(next.NICs, func(name string, _ int) bool { return !is.there(name) })
	for name := range fresh {
		next.NICs[name] = is[name].Index
	}
	return writeJSON(m.sightedFile(), next)
}
