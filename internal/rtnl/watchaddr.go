package rtnl

import (
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addrOn is an address on a link.
type addrOn struct {
	index        int
	prefix, peer netip.Prefix
}

// WithAddrs has a Watch hear of addresses too, for OnAddr.
func WithAddrs() WatchOption {
	return func(s *watchSettings) {
		s.groups = append(s.groups, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	}
}

// OnAddr adds a function that is called when a link gets an address or loses one.
// An address whose time is prolonged, as each router advertisement does, is no news
// once it is known; link-local ones never are. What an overrun loses is not told:
// OnChange says 0 then. The function must not block.
func (w *Watch) OnAddr(changed func(ifindex int, a Addr)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onAddr = append(w.onAddr, changed)
}

func (w *Watch) applyAddr(m syscall.NetlinkMessage) {
	if len(m.Data) < unix.SizeofIfAddrmsg {
		return
	}
	index := int(nl.DeserializeIfAddrmsg(m.Data).Index)
	a, ok := addrOf(m.Data, index)
	if !ok {
		return
	}
	on := addrOn{index, a.Prefix, a.Peer}
	if m.Header.Type == unix.RTM_DELADDR {
		delete(w.noPrefix, on)
	} else {
		was, known := w.noPrefix[on]
		if known && was == a.NoPrefix {
			return
		}
		w.noPrefix[on] = a.NoPrefix
	}
	w.mu.Lock()
	funcs := w.onAddr
	w.mu.Unlock()
	for _, f := range funcs {
		f(index, a)
	}
}
