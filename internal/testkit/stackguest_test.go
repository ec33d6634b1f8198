package testkit_test

import (
	"context"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/tapdev"
)

func TestAStackGuestPingsThroughItsQueues(t *testing.T) {
	testkit.Require(t, "netns")
	host, peer := testkit.NewNetns(t), testkit.NewNetns(t)
	testkit.NewVeth(t, host, "up0", peer, "peer0")
	peer.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", "peer0")
	conn := host.Conn()
	h := tapdev.New(conn, nil, failpoint.Set{})
	defer h.Close()
	mac, _ := vmnetd.ParseMAC("52:54:00:00:00:01")
	dev, err := h.Ensure(t.Context(), tapdev.Spec{VM: "vm1", ID: "net0", Ifname: vmnetd.Ifname("vm1", "net0"), Lower: host.Link(t, "up0").Index, Mode: vmnetd.Bridge, MAC: mac, Queues: 2})
	if err != nil {
		t.Fatal(err)
	}
	set, err := h.Open(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := h.SetUp(context.Background(), dev, true); err != nil {
		t.Fatal(err)
	}
	g := testkit.NewStackGuest(t, set.Queues, 10, mac, false)
	g.Run(t, "ip", "address", "add", "192.0.2.9/24", "dev", testkit.GuestDevice)
	g.Run(t, "ping", "-c", "3", "-i", "0.1", "-W", "5", "192.0.2.1")
}
