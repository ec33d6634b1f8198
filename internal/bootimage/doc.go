// Package bootimage finds and makes what QEMU boots: the packaged kernel of
// this machine, its modules, a static shell, and an initramfs of them.
package bootimage
