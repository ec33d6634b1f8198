// Package datapath measures what frames cost on their way from one guest to
// another of the same host: by queue fds without a QEMU, and between guests with
// an operating system.
package datapath
