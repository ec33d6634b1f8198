package filter

import (
	"hash/fnv"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// want is what the kernel is to have for one device.
type want struct {
	table  table
	ifname string
	hook   uint32
	rules  []newRule // none: no chain, no sets
	sets   []list
}

// newRule is a rule ready to be sent.
type newRule struct {
	rule
	body    []netlink.Attribute // the conditions
	verdict []byte
	print   uint64
}

func encoded(r rule) newRule {
	n := newRule{rule: r, verdict: expression(verdict(r.drop))}
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.name))
	_, _ = h.Write(n.verdict)
	for _, e := range r.when {
		b := expression(e)
		_, _ = h.Write(b)
		n.body = append(n.body, raw(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b))
	}
	n.print = h.Sum64()
	return n
}

// hooks are the numbers of the hooks (uapi/linux/netfilter.h).
var hooks = map[string]*uint32{Ingress: pointer(unix.NF_NETDEV_INGRESS), Egress: pointer(unix.NF_NETDEV_EGRESS)}

func pointer(n uint32) *uint32 { return &n }

func wanted(spec Spec) want {
	w := want{ifname: spec.Ifname, hook: *hooks[spec.Hook]}
	if !spec.Filtered() {
		return w
	}
	l := listsOf(spec)
	for _, r := range rulesOf(spec, l) {
		w.rules = append(w.rules, encoded(r))
	}
	used := setsUsed(w.rules)
	for _, l := range []list{l.macs, l.ip4, l.ip6, l.vlans} {
		if used[l.set] {
			w.sets = append(w.sets, l)
		}
	}
	return w
}

func setsUsed(rules []newRule) map[string]bool {
	used := map[string]bool{}
	for _, r := range rules {
		for _, e := range r.when {
			if lookup, ok := e.(*expr.Lookup); ok {
				used[lookup.SetName] = true
			}
		}
	}
	return used
}

func expression(e expr.Any) []byte {
	b, err := expr.Marshal(unix.NFPROTO_NETDEV, e)
	if err != nil { // an attribute of more than 64 KiB: nothing of ours is
		panic(err)
	}
	return b
}

// converge makes the kernel have what is wanted, in one transaction; it sends
// nothing when it has.
func (s *session) converge(w want) error {
	list, err := s.steps(w, s.read)
	if err != nil {
		return err
	}
	return s.commit(append(list, s.tables.emptied()...))
}

// steps are what makes what is wanted of what is read, in the device's own table
// and in others that have something of it.
func (s *session) steps(w want, read func(table, string) (state, error)) ([]netlink.Message, error) {
	strays := s.tables.strays(w.ifname)
	w.table = s.tables.home(w.ifname)
	if len(w.rules) > 0 {
		w.table = s.tables.settle(w.ifname)
	} else {
		s.tables.leave(w.ifname)
	}
	there, err := read(w.table, w.ifname)
	if err != nil {
		return nil, err
	}
	list := changes(w, there)
	for _, t := range strays {
		if there, err = read(t, w.ifname); err != nil {
			return nil, err
		}
		list = append(list, changes(want{table: t, ifname: w.ifname}, there)...)
	}
	return list, nil
}

// isFor says whether it is the chain that is wanted, but for its rules.
func (c chain) isFor(w want) bool {
	if len(w.rules) == 0 {
		return !c.there
	}
	return c == chain{there: true, hook: w.hook, policy: policyAccept, device: w.ifname}
}

// changes are what makes what is wanted of what is there.
func changes(w want, there state) []netlink.Message {
	var list []netlink.Message
	if there.chain.there && !there.chain.isFor(w) {
		list = append(list, dropChain(w.table, w.ifname))
		there.chain, there.rules = chain{}, nil
	}
	if len(w.rules) > 0 {
		list = append(list, makeAll(w, there)...)
	}
	return append(list, dropSets(w, there)...)
}

func makeAll(w want, there state) []netlink.Message {
	var list []netlink.Message
	if !there.chain.there {
		list = append(list, newTable(w.table))
	}
	for i, l := range w.sets {
		has, known := there.sets[l.set]
		if !known {
			list = append(list, newSet(w.table, l, i+1))
		}
		list = append(list, changeElements(unix.NFT_MSG_DELSETELEM, w.table, l.set, has.without(l.elements()))...)
		list = append(list, changeElements(unix.NFT_MSG_NEWSETELEM, w.table, l.set, l.elements().without(has))...)
	}
	if !there.chain.there {
		list = append(list, newChain(w))
	}
	return append(list, changeRules(w, there.rules)...)
}

// dropSets deletes the sets that no rule looks at any more.
func dropSets(w want, there state) []netlink.Message {
	used := setsUsed(w.rules)
	var list []netlink.Message
	for name := range there.sets {
		if !used[name] {
			list = append(list, dropSet(w.table, name))
		}
	}
	return list
}

// changeRules keeps the rules that are what they shall be, in their order, and
// puts the others before and behind them. A rule that changes takes with it what
// the one of its name and place has counted.
func changeRules(w want, there []oldRule) []netlink.Message {
	kept := keep(w.rules, there)
	counted := countsOf(there)
	var list []netlink.Message
	for _, r := range there {
		if !kept.old[r.handle] {
			list = append(list, dropRule(w, r.handle))
		}
	}
	nth := map[string]int{}
	for i, r := range w.rules {
		slot := slotOf(r.name, nth)
		if kept.at[i] == 0 {
			list = append(list, addRule(w, r, counted[slot], kept.after(i)))
		}
	}
	return list
}

// slot is a rule's name, and the how-manieth of that name it is.
type slot struct {
	name string
	nth  int
}

func slotOf(name string, nth map[string]int) slot {
	nth[name]++
	return slot{name, nth[name]}
}

func countsOf(rules []oldRule) map[slot]expr.Counter {
	counts, nth := map[slot]expr.Counter{}, map[string]int{}
	for _, r := range rules {
		counts[slotOf(r.name, nth)] = expr.Counter{Packets: r.packets, Bytes: r.bytes}
	}
	return counts
}

// keeping is which rules stay: by place in what is wanted the handle, 0 for a
// rule that has to be made, and by handle.
type keeping struct {
	at  []uint64
	old map[uint64]bool
}

func keep(wanted []newRule, there []oldRule) keeping {
	k := keeping{at: make([]uint64, len(wanted)), old: map[uint64]bool{}}
	from := 0
	for i, w := range wanted {
		for j := from; j < len(there); j++ {
			if there[j].print == w.print && there[j].name == w.name {
				k.at[i], from = there[j].handle, j+1
				k.old[there[j].handle] = true
				break
			}
		}
	}
	return k
}

// after is the handle of the next rule that stays, 0 where none does.
func (k keeping) after(i int) uint64 {
	for _, handle := range k.at[i:] {
		if handle != 0 {
			return handle
		}
	}
	return 0
}
