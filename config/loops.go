package config

import (
	"slices"
	"strings"
)

// checkLoops reports uplinks that stand on themselves by way of others, each
// loop once, where it closes.
func (b *builder) checkLoops() {
	l := looper{builder: b, done: map[*standing]bool{}}
	for _, s := range b.stack.all {
		l.from(s)
	}
}

type looper struct {
	*builder
	done map[*standing]bool // everything below was followed
	path []*standing        // from the top to where it is now
}

func (l *looper) from(s *standing) {
	if l.done[s] {
		return
	}
	l.path = append(l.path, s)
	for _, r := range s.under {
		below := l.below(r)
		switch at := slices.Index(l.path, below); {
		case below == nil, below == s: // the latter was reported as one that stands on itself
		case at >= 0:
			l.closes(l.path[at:], r)
		default:
			l.from(below)
		}
	}
	l.path = l.path[:len(l.path)-1]
	l.done[s] = true
}

func (l *looper) closes(loop []*standing, r ref) {
	names := make([]string, 0, len(loop)+1)
	for _, s := range loop {
		names = append(names, s.name)
	}
	names = append(names, loop[0].name)
	l.addOnce(r.at, "a loop: %s", strings.Join(names, " stands on ")).do("take one out of what another stands on")
}
