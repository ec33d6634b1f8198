// Package uplink finds the uplinks that are declared among the devices that
// are there. In this version an uplink is a device that somebody else set up:
// it is watched and used, never changed.
package uplink
