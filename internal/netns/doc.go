// Package netns runs code in another network namespace than the process's own.
//
// A network namespace belongs to a thread (setns(2)), a goroutine wanders
// between threads: whoever changes the namespace holds on to the thread until
// it is back, and lets the thread die when it cannot come back.
package netns
