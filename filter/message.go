package filter

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// message is one message of nf_tables (uapi/linux/netfilter/nfnetlink.h,
// nf_tables.h). All its numbers are big-endian.
func message(kind int, flags netlink.HeaderFlags, attrs ...netlink.Attribute) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{unix.NFPROTO_NETDEV, unix.NFNETLINK_V0, 0, 0}, encode(attrs)...),
	}
}

// batchEdge is the begin or the end of a transaction.
func batchEdge(kind int) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
	}
}

func encode(attrs []netlink.Attribute) []byte {
	b, err := netlink.MarshalAttributes(attrs)
	if err != nil { // an attribute of more than 64 KiB: nothing of ours is
		panic(err)
	}
	return b
}

func text(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

func number(kind uint16, n uint32) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint32(nil, n)}
}

func number64(kind uint16, n uint64) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint64(nil, n)}
}

func raw(kind uint16, b []byte) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: b}
}

func nest(kind uint16, attrs ...netlink.Attribute) netlink.Attribute {
	return netlink.Attribute{Type: kind | unix.NLA_F_NESTED, Data: encode(attrs)}
}

// commit makes all of the changes or none.
func (s *session) commit(changes []netlink.Message) error {
	if len(changes) == 0 {
		return nil
	}
	batch := append([]netlink.Message{batchEdge(unix.NFNL_MSG_BATCH_BEGIN)}, changes...)
	batch[len(batch)-1].Header.Flags |= netlink.Acknowledge // errors come without being asked for
	batch = append(batch, batchEdge(unix.NFNL_MSG_BATCH_END))
	if _, err := s.sock.SendMessages(batch); err != nil {
		return err
	}
	_, err := s.sock.Receive()
	return err
}

// rehearse says whether the changes could be made: a batch without an end is
// taken back (net/netfilter/nfnetlink.c, nfnetlink_rcv_batch).
func (s *session) rehearse(changes []netlink.Message) error {
	batch := append([]netlink.Message{batchEdge(unix.NFNL_MSG_BATCH_BEGIN)}, changes...)
	batch[len(batch)-1].Header.Flags |= netlink.Acknowledge
	if _, err := s.sock.SendMessages(batch); err != nil {
		return err
	}
	_, err := s.sock.Receive()
	return err
}

// ask is the answer to one question.
func (s *session) ask(m netlink.Message) ([]netlink.Message, error) {
	msgs, err := s.sock.Execute(m)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return nil, errInterrupted
		}
	}
	return msgs, nil
}
