// Package rtnl speaks rtnetlink in one network namespace: the one in which a
// Conn or a Watch was opened, whatever thread uses it later.
//
// Conn asks and changes. Watch is the only subscriber to the kernel's news
// about links, and keeps a mirror of them.
package rtnl
