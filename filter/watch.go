package filter

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// news is what the kernel tells of changes of its tables.
type news struct {
	sock *netlink.Conn
	once sync.Once
}

func openNews(conn *rtnl.Conn) (*news, error) {
	sock, err := dial(conn)
	if err != nil {
		return nil, err
	}
	if err := sock.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		_ = sock.Close()
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot hear of changes of nf_tables: %w", err)
	}
	return &news{sock: sock}, nil
}

func (n *news) close() error {
	var err error
	n.once.Do(func() { err = n.sock.Close() })
	return err
}

// Watch calls lost when somebody else removed or changed anything of our tables
// since Open, until ctx ends or the Host is closed; lost must not block. It is
// called once for what comes at once, and when there was more than the socket
// holds.
func (h *Host) Watch(ctx context.Context, lost func()) error {
	_ = h.news.sock.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = h.news.sock.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	tell := func() {
		h.nft.tables.stale.Store(true)
		lost()
	}
	for {
		msgs, err := h.news.sock.Receive()
		switch {
		case ctx.Err() != nil, errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			tell()
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot hear of changes of nf_tables: %w", err)
		case h.foreign(msgs):
			tell()
		}
	}
}

// foreign says whether any of the messages is of a change of our tables that we
// did not make. A chain that goes with its device is nobody's doing and has no
// message.
func (h *Host) foreign(msgs []netlink.Message) bool {
	for _, m := range msgs {
		if m.Header.Type>>8 == unix.NFNL_SUBSYS_NFTABLES && m.Header.PID != 0 && !h.nft.isOurs(m.Header.PID) && ofOurTable(m) {
			return true
		}
	}
	return false
}

// ofOurTable reads the table's name, which is attribute 1 of what is said of
// tables, chains, rules, sets and elements alike.
func ofOurTable(m netlink.Message) bool {
	if m.Header.Type&0xff == unix.NFT_MSG_NEWGEN || len(m.Data) < 4 || m.Data[0] != unix.NFPROTO_NETDEV {
		return false
	}
	name := ""
	err := decode(m.Data[4:], func(ad *netlink.AttributeDecoder) {
		if ad.Type() == 1 {
			name = ad.String()
		}
	})
	_, ours := tableNamed(name)
	return err == nil && ours
}
