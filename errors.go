package vmnetd

import (
	"errors"
	"fmt"
)

// Classes of failure. Every error that reaches an operator is one of them
// (errors.Is); anything else counts as ErrFailed.
var (
	ErrFailed      = errors.New("failed")
	ErrInvalid     = errors.New("invalid")
	ErrDenied      = errors.New("denied")
	ErrNotFound    = errors.New("not found")
	ErrBusy        = errors.New("busy")
	ErrUnsupported = errors.New("unsupported")
	ErrUnreachable = errors.New("daemon not reachable")
)

// Exit codes that are no class of failure.
const (
	ExitOK          = 0
	ExitExecFailed  = 125 // exec failed before QEMU ran
	ExitInterrupted = 130
)

// Class ties a sentinel to its exit code and to the last element of its D-Bus
// error name (org.vmnetd1.Error.NAME).
type Class struct {
	Err  error
	Name string
	Exit int
}

// Classes is the one table of failures, the fallback first.
var Classes = []Class{
	{ErrFailed, "Failed", 1},
	{ErrInvalid, "Invalid", 2},
	{ErrDenied, "Denied", 3},
	{ErrNotFound, "NotFound", 4},
	{ErrBusy, "Busy", 5},
	{ErrUnsupported, "Unsupported", 5},
	{ErrUnreachable, "Unreachable", 6},
}

// ClassOf finds the class of err; the class of ErrFailed when it has none.
func ClassOf(err error) Class {
	for _, c := range Classes {
		if errors.Is(err, c.Err) {
			return c
		}
	}
	return Classes[0]
}

// Error is what an operator reads: one sentence that says what is wrong, and
// what to type next.
type Error struct {
	Class error  // one of the sentinels above
	Text  string // one sentence, no full stop
	Next  string // what to do, "" when there is nothing to say
	cause error
}

// Errorf makes an Error; %w wraps a cause as in fmt.Errorf.
func Errorf(class error, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Class: class, Text: err.Error(), cause: errors.Unwrap(err)}
}

// WithNext adds what to do next.
func (e *Error) WithNext(next string) *Error {
	e.Next = next
	return e
}

func (e *Error) Error() string { return e.Text }

// Unwrap gives the class first, then the cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.cause}
}

// NextOf is what err says to do next, "" if nothing.
func NextOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Next
	}
	return ""
}
