// Package bus holds the connection to the D-Bus system bus: one goroutine owns
// it, comes back when the bus does, and owns the name again.
//
// The connection never negotiates file descriptors: godbus panics while
// decoding `ah` from any sender once it has (decoder.go, case 'h'), and no fd
// of ours travels in a D-Bus message.
package bus
