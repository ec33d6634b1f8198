package rtnl

import "github.com/vishvananda/netlink"

// ErrDumpInterrupted says that the links changed while they were listed
// (NLM_F_DUMP_INTR), each time it was tried.
var ErrDumpInterrupted = netlink.ErrDumpInterrupted
