// Package packaging has no code: it is what a host needs around the program,
// and the tests that the Debian package made of it installs, and where.
package packaging
