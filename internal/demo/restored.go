package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// sockets is where QEMU listens, and the daemon looks for it.
func (r *redundancy) sockets() string { return filepath.Join(r.dir, "qmp") }

// restore starts two guests that were saved while they ran: in this VM, where an
// emulator runs in an emulator, a guest would boot for minutes. Reading them in
// takes half a minute, in which other things are shown.
func (r *redundancy) restore(ctx context.Context) error {
	if err := os.Mkdir(r.sockets(), 0o700); err != nil {
		return err
	}
	r.show.note("two guests are being restored: Debian's kernel, a shell, empty PCIe ports")
	for i, name := range []string{"vm1", "vm2"} {
		g, err := testkit.StartRestored(ctx, r.scope, testkit.GuestOptions{Name: name, QMPSocket: filepath.Join(r.sockets(), name+".sock")})
		if err != nil {
			return err
		}
		r.guests = append(r.guests, &guest{Guest: g, ip: fmt.Sprintf("192.0.2.%d", 11+i)})
		r.lost.names = append(r.lost.names, name)
	}
	return nil
}

// waitRestored returns when both take commands. The first one keeps IPv6 off:
// neighbour discovery would tell the switches where the guest is.
func (r *redundancy) waitRestored(ctx context.Context) error {
	return r.each(ctx, func(ctx context.Context, g *guest) error {
		out, err := g.Run(ctx, "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; ls /sys/class/net")
		if err == nil && out != "lo\n" {
			err = fmt.Errorf("%s has more than lo: %s", g.Name, out)
		}
		return err
	})
}

// introduceAll has the guests use their NICs, and the peer ping them. Guests and
// peer know each other's MAC from the start: no ARP tells the switches where a
// guest is, its answers alone do.
func (r *redundancy) introduceAll(ctx context.Context) error {
	peer := r.net.Peer.Link(r.scope, "peer0")
	knowing := fmt.Sprintf("arp -s %s %s", testkit.PeerAddress, peer.MAC)
	if err := r.each(ctx, func(ctx context.Context, g *guest) error { return r.configure(ctx, g, knowing) }); err != nil {
		return err
	}
	var to []netip.Addr
	for _, g := range r.guests {
		nics, err := r.nics(ctx, g.Name)
		if err != nil {
			return err
		}
		r.net.Peer.Run(r.scope, "ip", "neighbor", "replace", g.ip, "lladdr", nics[0].MAC, "dev", "peer0", "nud", "permanent")
		to = append(to, netip.MustParseAddr(g.ip))
	}
	r.pings = testkit.StartPings(r.scope, r.net.Peer, often, to...)
	if !r.pings.Answered(1, testkit.Patience) {
		return errors.New("not every guest answers")
	}
	r.show.note("the peer pings each guest every %v; they say nothing but their answers", often)
	return nil
}

// each does something to both guests at once: what they do takes seconds.
func (r *redundancy) each(ctx context.Context, do func(context.Context, *guest) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, g := range r.guests {
		group.Go(func() error { return do(ctx, g) })
	}
	return group.Wait()
}
