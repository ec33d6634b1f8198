package testkit

import (
	"context"
	"time"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Patience is how long a helper of this package waits for what must come. It
// is never reached when all is well.
const Patience = 20 * time.Second

// NewVeth makes a veth pair with one end in each namespace, both up and ready
// to carry frames. The ends may be in one namespace.
func NewVeth(t TB, a *Netns, nameA string, b *Netns, nameB string) {
	t.Helper()
	a.Create(t, rtnl.NewLink{Name: nameA, Kind: "veth", Data: rtnl.VethPeer(nameB, b.ns)})
	a.SetUp(t, nameA)
	b.SetUp(t, nameB)
	a.WaitRunning(t, nameA)
	b.WaitRunning(t, nameB)
}

// WaitRunning waits until a device that is up carries frames. The kernel works
// a change of carrier off in the background (net/core/link_watch.c).
func (n *Netns) WaitRunning(t TB, name string) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !n.Link(t, name).Running; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come up: %+v", name, n.Link(t, name))
		}
	}
}

// Create makes a device, down, and returns it.
func (n *Netns) Create(t TB, link rtnl.NewLink) rtnl.Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.conn.Create(ctx, link); err != nil {
		t.Fatalf("cannot make %s %s: %v", link.Kind, link.Name, err)
	}
	return n.Link(t, link.Name)
}

// Link is the device with that name as it is now.
func (n *Netns) Link(t TB, name string) rtnl.Link {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	l, err := n.conn.LinkByName(ctx, name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return l
}

// Set changes the device with that name.
func (n *Netns) Set(t TB, name string, attrs ...rtnl.Attr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.conn.Set(ctx, rtnl.Change{Index: n.Link(t, name).Index, Attrs: attrs}); err != nil {
		t.Fatalf("cannot change %s: %v", name, err)
	}
}

// SetUp sets the device with that name up.
func (n *Netns) SetUp(t TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.conn.SetUp(ctx, n.Link(t, name).Index, true); err != nil {
		t.Fatalf("cannot set %s up: %v", name, err)
	}
}

// Delete deletes the device with that name.
func (n *Netns) Delete(t TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.conn.Delete(ctx, n.Link(t, name).Index); err != nil {
		t.Fatalf("cannot delete %s: %v", name, err)
	}
}
