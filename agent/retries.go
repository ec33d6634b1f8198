package agent

import (
	"sync"
	"time"
)

// retries has failed records looked at again, each time after twice as long, up
// to a hundred times the first wait. A record that is well has no timer.
type retries struct {
	first   time.Duration
	mu      sync.Mutex
	wait    map[key]time.Duration
	timers  map[key]*time.Timer
	stopped bool
}

const backoffLimit = 100

func (s *retries) later(k key, again func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	wait := s.wait[k]
	if wait == 0 {
		wait = s.first
	}
	s.set(wait, k, again)
	s.wait[k] = min(2*wait, backoffLimit*s.first)
}

// in has a record looked at again after a fixed while.
func (s *retries) in(wait time.Duration, k key, again func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.set(wait, k, again)
	}
}

func (s *retries) set(wait time.Duration, k key, again func()) {
	if s.wait == nil {
		s.wait, s.timers = map[key]time.Duration{}, map[key]*time.Timer{}
	}
	if t := s.timers[k]; t != nil {
		t.Stop()
	}
	s.timers[k] = time.AfterFunc(wait, again)
}

func (s *retries) done(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.timers[k]; t != nil {
		t.Stop()
	}
	delete(s.timers, k)
	delete(s.wait, k)
}

func (s *retries) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, t := range s.timers {
		t.Stop()
	}
}
