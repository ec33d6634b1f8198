// Package dbusapi speaks org.vmnetd1 on the system bus: the server that the
// daemon runs, the client that the command line uses, and the socket through
// which file descriptors travel, because none may travel in a D-Bus message.
//
// vmnetd1.xml is the contract; a test compares the code with it.
package dbusapi
