package filter

import (
	"slices"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func newTable(t table) netlink.Message {
	return message(unix.NFT_MSG_NEWTABLE, netlink.Create, text(unix.NFTA_TABLE_NAME, t.String()), number(unix.NFTA_TABLE_FLAGS, 0))
}

func newChain(w want) netlink.Message {
	return message(unix.NFT_MSG_NEWCHAIN, netlink.Create,
		text(unix.NFTA_CHAIN_TABLE, w.table.String()), text(unix.NFTA_CHAIN_NAME, w.ifname),
		nest(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, w.hook), number(unix.NFTA_HOOK_PRIORITY, 0), text(unix.NFTA_HOOK_DEV, w.ifname)),
		number(unix.NFTA_CHAIN_POLICY, policyAccept), text(unix.NFTA_CHAIN_TYPE, "filter"))
}

// dropChain deletes a chain with its rules.
func dropChain(t table, name string) netlink.Message {
	return message(unix.NFT_MSG_DELCHAIN, 0, text(unix.NFTA_CHAIN_TABLE, t.String()), text(unix.NFTA_CHAIN_NAME, name))
}

func dropRule(w want, handle uint64) netlink.Message {
	return message(unix.NFT_MSG_DELRULE, 0, text(unix.NFTA_RULE_TABLE, w.table.String()), text(unix.NFTA_RULE_CHAIN, w.ifname), number64(unix.NFTA_RULE_HANDLE, handle))
}

// addRule puts a rule before the one with that handle, or behind all when it is
// 0.
func addRule(w want, r newRule, counted expr.Counter, before uint64) netlink.Message {
	list := slices.Concat(r.body, []netlink.Attribute{
		raw(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, expression(&counted)),
		raw(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, r.verdict),
	})
	attrs := []netlink.Attribute{
		text(unix.NFTA_RULE_TABLE, w.table.String()), text(unix.NFTA_RULE_CHAIN, w.ifname),
		nest(unix.NFTA_RULE_EXPRESSIONS, list...), raw(unix.NFTA_RULE_USERDATA, mark(r.name, r.print)),
	}
	flags := netlink.Create | netlink.Append
	if before != 0 {
		attrs = append(attrs, number64(unix.NFTA_RULE_POSITION, before))
		flags = netlink.Create
	}
	return message(unix.NFT_MSG_NEWRULE, flags, attrs...)
}

const policyAccept = 1 // NF_ACCEPT (uapi/linux/netfilter.h)
