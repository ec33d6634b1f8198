package testkit

// TB is the part of testing.TB that the helpers of this package need. A
// program that is not a test, such as the demo, satisfies it with a type of
// its own.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(f func())
	Name() string
	TempDir() string
	Failed() bool
}
