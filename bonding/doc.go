// Package bonding knows the kernel's bonds: the options of each mode, what a
// change of one needs, and what the kernel says of a bond and its ports
// (Documentation/networking/bonding.rst, drivers/net/bonding).
package bonding
