package rtnl

import (
	"maps"
	"slices"
	"sync"
)

// mirror is the links as they were last heard of, found by index, name and
// lower device.
type mirror struct {
	mu      sync.RWMutex
	byIndex map[int]Link
	byName  map[string]int
	byLower map[int]map[int]bool
}

func newMirror() *mirror {
	m := &mirror{}
	m.clear()
	return m
}

func (m *mirror) clear() {
	m.byIndex, m.byName, m.byLower = map[int]Link{}, map[string]int{}, map[int]map[int]bool{}
}

// replace makes the mirror show exactly links; with keep, what it showed and
// is not among links stays.
func (m *mirror) replace(links []Link, keep bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !keep {
		m.clear()
	}
	for _, l := range links {
		m.put(l)
	}
}

func (m *mirror) set(l Link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(l)
}

func (m *mirror) delete(index int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(index)
}

func (m *mirror) put(l Link) {
	m.drop(l.Index)
	m.byIndex[l.Index] = l
	m.byName[l.Name] = l.Index
	if !l.LowerHere {
		return
	}
	if m.byLower[l.Lower] == nil {
		m.byLower[l.Lower] = map[int]bool{}
	}
	m.byLower[l.Lower][l.Index] = true
}

func (m *mirror) drop(index int) {
	old, ok := m.byIndex[index]
	if !ok {
		return
	}
	delete(m.byIndex, index)
	if m.byName[old.Name] == index { // after a rename the name may be another's
		delete(m.byName, old.Name)
	}
	delete(m.byLower[old.Lower], index)
	if len(m.byLower[old.Lower]) == 0 {
		delete(m.byLower, old.Lower)
	}
}

func (m *mirror) name(name string) (Link, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	index, ok := m.byName[name]
	if !ok {
		return Link{}, false
	}
	return m.byIndex[index], true
}

func (m *mirror) index(index int) (Link, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	l, ok := m.byIndex[index]
	return l, ok
}

func (m *mirror) on(lower int) []Link {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var links []Link
	for _, index := range slices.Sorted(maps.Keys(m.byLower[lower])) {
		links = append(links, m.byIndex[index])
	}
	return links
}

func (m *mirror) all() []Link {
	m.mu.RLock()
	defer m.mu.RUnlock()
	links := make([]Link, 0, len(m.byIndex))
	for _, index := range slices.Sorted(maps.Keys(m.byIndex)) {
		links = append(links, m.byIndex[index])
	}
	return links
}
