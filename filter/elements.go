package filter

import (
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// elements are what a set has.
type elements map[element]bool

// element is a value, or an interval: where it begins, and where what is outside
// begins again, "" when that is nowhere. The kernel has these two as elements of
// their own, and takes an interval only as a whole and from below
// (net/netfilter/nft_set_rbtree.c, __nft_rbtree_insert).
type element struct{ first, after string }

// interval says that a list's values may be ranges, and its set has intervals.
func (l list) interval() bool { return l.key.Name != nftables.TypeEtherAddr.Name }

// elements are what the list's set has.
func (l list) elements() elements {
	e := elements{}
	for _, v := range l.values {
		last := make([]byte, len(v.first))
		for i := range last {
			last[i] = v.first[i] | ^v.mask[i]
		}
		e.add(v.first, last, l.interval())
	}
	for _, r := range l.ranges {
		e.add(r[0], r[1], true)
	}
	return e
}

func (e elements) add(first, last []byte, interval bool) {
	k := element{first: string(first)}
	if interval {
		k.after = next(last)
	}
	e[k] = true
}

// next is the value after it, "" when it is the last.
func next(b []byte) string {
	after := append([]byte{}, b...)
	for i := len(after) - 1; i >= 0; i-- {
		after[i]++
		if after[i] != 0 {
			return string(after)
		}
	}
	return ""
}

// without are the elements that others do not have.
func (e elements) without(others elements) elements {
	left := elements{}
	for k := range e {
		if !others[k] {
			left[k] = true
		}
	}
	return left
}

func (s *session) elements(t table, set string) (elements, error) {
	msgs, err := s.ask(message(unix.NFT_MSG_GETSETELEM, netlink.Dump, text(unix.NFTA_SET_ELEM_LIST_TABLE, t.String()), text(unix.NFTA_SET_ELEM_LIST_SET, set)))
	if err != nil {
		return nil, err
	}
	var bounds []bound
	for _, m := range msgs {
		err := decode(m.Data[4:], func(ad *netlink.AttributeDecoder) {
			if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return
			}
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					bounds = append(bounds, bound{})
					list.Nested(bounds[len(bounds)-1].decode)
				}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return paired(bounds), nil
}

// bound is an element as the kernel has it.
type bound struct {
	key string
	end bool // NFT_SET_ELEM_INTERVAL_END
}

func (b *bound) decode(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_FLAGS:
			b.end = ad.Uint32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_KEY:
			ad.Nested(func(data *netlink.AttributeDecoder) error {
				for data.Next() {
					if data.Type() == unix.NFTA_DATA_VALUE {
						b.key = string(data.Bytes())
					}
				}
				return nil
			})
		}
	}
	return nil
}

// before puts bounds from below, and an end before the beginning beside it.
func (b bound) before(o bound) int {
	switch {
	case b.key != o.key:
		return strings.Compare(b.key, o.key)
	case b.end == o.end:
		return 0
	case b.end:
		return -1
	}
	return 1
}

func paired(bounds []bound) elements {
	slices.SortFunc(bounds, bound.before)
	e := elements{}
	for i, b := range bounds {
		k := element{first: b.key}
		if i+1 < len(bounds) && bounds[i+1].end {
			k.after = bounds[i+1].key
		}
		if !b.end {
			e[k] = true
		}
	}
	return e
}

// bounds are the elements as the kernel takes them.
func (e elements) bounds() []bound {
	var list []bound
	for k := range e {
		list = append(list, bound{key: k.first})
		if k.after != "" {
			list = append(list, bound{key: k.after, end: true})
		}
	}
	slices.SortFunc(list, bound.before)
	return list
}

func newSet(t table, l list, id int) netlink.Message {
	var flags uint32
	if l.interval() {
		flags = unix.NFT_SET_INTERVAL
	}
	return message(unix.NFT_MSG_NEWSET, netlink.Create,
		text(unix.NFTA_SET_TABLE, t.String()), text(unix.NFTA_SET_NAME, l.set), number(unix.NFTA_SET_FLAGS, flags),
		number(unix.NFTA_SET_KEY_TYPE, l.key.GetNFTMagic()), number(unix.NFTA_SET_KEY_LEN, l.key.Bytes), number(unix.NFTA_SET_ID, uint32(id)))
}

func dropSet(t table, name string) netlink.Message {
	return message(unix.NFT_MSG_DELSET, 0, text(unix.NFTA_SET_TABLE, t.String()), text(unix.NFTA_SET_NAME, name))
}

// changeElements adds or deletes elements; nothing when there are none.
func changeElements(kind int, t table, set string, e elements) []netlink.Message {
	if len(e) == 0 {
		return nil
	}
	var attrs []netlink.Attribute
	for _, k := range e.bounds() {
		var flags []netlink.Attribute
		if k.end {
			flags = []netlink.Attribute{number(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)}
		}
		attrs = append(attrs, nest(unix.NFTA_LIST_ELEM, append(flags, nest(unix.NFTA_SET_ELEM_KEY, raw(unix.NFTA_DATA_VALUE, []byte(k.key))))...))
	}
	return []netlink.Message{message(kind, netlink.Create,
		text(unix.NFTA_SET_ELEM_LIST_TABLE, t.String()), text(unix.NFTA_SET_ELEM_LIST_SET, set), nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, attrs...))}
}
