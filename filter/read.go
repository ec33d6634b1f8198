package filter

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// state is what the kernel has for one device.
type state struct {
	chain chain
	rules []oldRule
	sets  map[string]elements // by name
}

// chain is a base chain as the kernel has it.
type chain struct {
	there    bool
	hook     uint32
	priority uint32
	policy   uint32
	device   string
}

// oldRule is a rule as the kernel has it.
type oldRule struct {
	handle         uint64
	name           string
	print          uint64 // fingerprint of what we wrote
	dropped        bool
	packets, bytes uint64
}

// is says that nothing of what is wanted is missing, and nothing else there.
func (st state) is(w want) bool { return st.chain.isFor(w) && len(changes(w, st)) == 0 }

// read is what the kernel has for a device, asked for by names: the table is
// never listed.
func (s *session) read(t table, ifname string) (state, error) {
	st, err := s.outline(t, ifname)
	if err == nil && st.chain.there {
		st.rules, err = s.rules(t, ifname)
	}
	return st, err
}

// outline is read without the rules.
func (s *session) outline(t table, ifname string) (state, error) {
	var st state
	var err error
	if st.chain, err = s.chain(t, ifname); err != nil {
		return state{}, err
	}
	st.sets, err = s.sets(t, ifname)
	return st, err
}

func (s *session) chain(t table, name string) (chain, error) {
	msgs, err := s.ask(message(unix.NFT_MSG_GETCHAIN, 0, text(unix.NFTA_CHAIN_TABLE, t.String()), text(unix.NFTA_CHAIN_NAME, name)))
	if errors.Is(err, unix.ENOENT) {
		return chain{}, nil
	}
	if err != nil || len(msgs) != 1 {
		return chain{}, err
	}
	return chainIn(msgs[0])
}

func chainIn(m netlink.Message) (chain, error) {
	c := chain{there: true}
	err := decode(m.Data[4:], func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_CHAIN_POLICY:
			c.policy = ad.Uint32()
		case unix.NFTA_CHAIN_HOOK:
			ad.Do(c.decodeHook)
		}
	})
	return c, err
}

func (c *chain) decodeHook(b []byte) error {
	return decode(b, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_HOOK_HOOKNUM:
			c.hook = ad.Uint32()
		case unix.NFTA_HOOK_PRIORITY:
			c.priority = ad.Uint32()
		case unix.NFTA_HOOK_DEV:
			c.device = ad.String()
		}
	})
}

func (s *session) rules(t table, chain string) ([]oldRule, error) {
	msgs, err := s.ask(message(unix.NFT_MSG_GETRULE, netlink.Dump, text(unix.NFTA_RULE_TABLE, t.String()), text(unix.NFTA_RULE_CHAIN, chain)))
	if err != nil {
		return nil, err
	}
	rules := make([]oldRule, len(msgs))
	for i, m := range msgs {
		if err := rules[i].decode(m.Data[4:]); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

func (r *oldRule) decode(b []byte) error {
	return decode(b, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_RULE_HANDLE:
			r.handle = ad.Uint64()
		case unix.NFTA_RULE_USERDATA:
			r.name, r.print = parseMark(ad.Bytes())
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					list.Nested(r.decodeExpression)
				}
				return nil
			})
		}
	})
}

func (r *oldRule) decodeExpression(ad *netlink.AttributeDecoder) error {
	var name string
	for ad.Next() {
		switch {
		case ad.Type() == unix.NFTA_EXPR_NAME:
			name = ad.String()
		case name == "counter":
			ad.Do(func(b []byte) error {
				var c expr.Counter
				err := expr.Unmarshal(unix.NFPROTO_NETDEV, b, &c)
				r.packets, r.bytes = c.Packets, c.Bytes
				return err
			})
		case name == "immediate":
			ad.Do(func(b []byte) error {
				var v expr.Verdict
				err := expr.Unmarshal(unix.NFPROTO_NETDEV, b, &v)
				r.dropped = v.Kind == expr.VerdictDrop
				return err
			})
		}
	}
	return nil
}

// sets are the sets of a device that are there.
func (s *session) sets(t table, ifname string) (map[string]elements, error) {
	sets := map[string]elements{}
	for _, end := range setNames {
		e, err := s.elements(t, ifname+end)
		switch {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			return nil, err
		default:
			sets[ifname+end] = e
		}
	}
	return sets, nil
}

// nameIn is the place of a chain or set; false for those of others' tables.
func nameIn(m netlink.Message, nameAttr uint16) (place, bool) {
	var inside, name string
	err := decode(m.Data[4:], func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case 1: // NFTA_CHAIN_TABLE, NFTA_SET_TABLE
			inside = ad.String()
		case nameAttr:
			name = ad.String()
		}
	})
	t, ours := tableNamed(inside)
	return place{t, name}, err == nil && ours && m.Data[0] == unix.NFPROTO_NETDEV
}

func decode(b []byte, each func(*netlink.AttributeDecoder)) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		each(ad)
	}
	return ad.Err()
}

// markPrint is our piece of a rule's user data, beside the comment that nft(8)
// shows. It leaves pieces out that it does not know.
const markPrint userdata.Type = 0x76

func mark(name string, fingerprint uint64) []byte {
	b := userdata.AppendString(nil, userdata.TypeComment, name)
	return userdata.Append(b, markPrint, binary.BigEndian.AppendUint64(nil, fingerprint))
}

// parseMark does not trust what others may have written.
func parseMark(b []byte) (name string, fingerprint uint64) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		kind, piece := userdata.Type(b[0]), b[2:2+int(b[1])]
		switch {
		case kind == userdata.TypeComment:
			name = strings.TrimRight(string(piece), "\x00")
		case kind == markPrint && len(piece) == 8:
			fingerprint = binary.BigEndian.Uint64(piece)
		}
		b = b[2+len(piece):]
	}
	return name, fingerprint
}
