package rtnl

import (
	"slices"
	"sync"
)

// mirror is the links as they were last heard of, found by index, name, lower device
// and master.
type mirror struct {
	mu       sync.RWMutex
	byIndex  map[int]Link
	byName   map[string]int
	byLower  map[int]map[int]bool
	byMaster map[int]map[int]bool
}

func newMirror() *mirror {
	m := &mirror{}
	m.clear()
	return m
}

func (m *mirror) clear() {
	m.byIndex, m.byName, m.byLower, m.byMaster = map[int]Link{}, map[string]int{}, map[int]map[int]bool{}, map[int]map[int]bool{}
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
	if l.LowerHere {
		enter(m.byLower, l.Lower, l.Index)
	}
	if l.Master != 0 {
		enter(m.byMaster, l.Master, l.Index)
	}
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
	leave(m.byLower, old.Lower, index)
	leave(m.byMaster, old.Master, index)
}

func enter(groups map[int]map[int]bool, of, index int) {
	if groups[of] == nil {
		groups[of] = map[int]bool{}
	}
	groups[of][index] = true
}

func leave(groups map[int]map[int]bool, of, index int) {
	delete(groups[of], index)
	if len(groups[of]) == 0 {
		delete(groups, of)
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
	return listed(m, m.byLower[lower])
}

func (m *mirror) ports(master int) []Link {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return listed(m, m.byMaster[master])
}

func (m *mirror) all() []Link {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return listed(m, m.byIndex)
}

// listed is the links with these indexes, by index.
func listed[T any](m *mirror, which map[int]T) []Link {
	indexes := make([]int, 0, len(which))
	for index := range which {
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	links := make([]Link, 0, len(indexes))
	for _, index := range indexes {
		links = append(links, m.byIndex[index])
	}
	return links
}
