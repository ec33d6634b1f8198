// Package vmtest runs commands in a virtual machine that has the kernel this
// machine may lack: Debian's packaged one, with bonds, teams, VLANs, ipvtaps
// and vhost-net. It is the machinery of the VM tier; the program vmtier runs
// tests with it.
//
// The VM sees the file system of the machine it runs on, read-only over 9p and
// under an overlay in memory: every program that is installed is there, under
// its own path, and nothing that is written stays. What shall stay is written
// to a directory that Options names.
//
// Nothing of it needs a fixed path: two VMs may run side by side.
package vmtest
