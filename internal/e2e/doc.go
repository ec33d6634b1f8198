// Package e2e drives the program as a whole, with real parts only: the built
// binary as daemon and as command line, a private dbus-daemon, real QEMUs, real
// devices in namespaces of its own.
package e2e
