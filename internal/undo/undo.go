// Package undo collects what must be taken back when a later step fails.
package undo

import "errors"

// Stack is a list of steps back. The zero value is ready to use; it has one
// user at a time.
type Stack struct{ steps []func() error }

// Add puts a step back on the stack.
func (s *Stack) Add(back func() error) { s.steps = append(s.steps, back) }

// Forget drops every step: what was done stays done.
func (s *Stack) Forget() { s.steps = nil }

// Run takes everything back, last step first, and gives what failed on the
// way. After Forget it does nothing, so it can be deferred.
func (s *Stack) Run() error {
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		errs = append(errs, s.steps[i]())
	}
	s.steps = nil
	return errors.Join(errs...)
}
