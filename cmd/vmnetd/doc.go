// Vmnetd is the daemon and the command line of the VM host networking agent.
// One file holds one command; main only parses, and every command talks to the
// daemon through the small client interface in client.go.
package main
