package main

import (
	"context"
	"encoding/xml" //nolint:depguard // nothing of ours reads what this test looks at
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const onIpvtaps = `
uplinks:
  - {name: u0, nic: {match: {name: pa}}}
networks:
  - {name: one, uplinks: [u0], modes: [l2]}
  - {name: learned, uplinks: [u0], modes: [l2], ips: learn}
rules:
  - {vm: "*", networks: [one, learned]}
hypervisors: {libvirt: {uri: "URI"}}
`

// ipvtapRig is a libvirtRig whose guest gets ipvtaps on pa.
type ipvtapRig struct {
	*libvirtRig
	pings *testkit.Pings
}

func TestVMLibvirtsGuestOnAnIpvtap(t *testing.T) {
	b := &ipvtapRig{libvirtRig: newLibvirtRig(t, onIpvtaps, func(*libvirtRig) {})}
	go func() { _ = b.vm.WaitUp(t.Context()) }() // it takes its time, and the next command waits for it
	b.madeAtStart()
	nic := b.attach("saved", "--network", "one", "--ip", guestAddresses[0].String())
	b.lives("attached", nic)
	b.refused(5, []string{nic.MAC, "--handover fd"}, "attach", "saved", "--network", "learned")
	b.up(nic)
	b.setLink(nic)
	b.restarts(nic)
	b.savedAndRestored(nic)
	b.takenByVirsh(nic)
	b.learnedByFD()
}

// lives holds that a NIC's device is an ipvtap in vmnetd's own namespace, and that
// libvirt has it by its name.
func (b *ipvtapRig) lives(what string, nic vmnetd.Attachment) {
	t := b.t
	t.Helper()
	uplink := b.net.Host.Link(t, "pa")
	if nic.Kind != vmnetd.Ipvtap || nic.Mode != vmnetd.L2 || nic.MAC != uplink.MAC.String() || nic.Phase != vmnetd.Attached || nic.Link != "up" || nic.Ifindex == 0 {
		t.Errorf("%s: %+v", what, nic)
	}
	if b.there(nic.Ifname) {
		t.Errorf("%s: %s is in the host's namespace", what, nic.Ifname)
	}
	if text := b.Virsh("dumpxml", "saved"); !strings.Contains(text, "dev='"+nic.Ifname+"'") || !strings.Contains(text, nic.MAC) {
		t.Errorf("%s: libvirt has\n%s", what, text)
	}
	if tainted := b.Virsh("dominfo", "saved"); strings.Contains(tainted, "custom-monitor") {
		t.Errorf("%s: tainted: %s", what, tainted)
	}
	nodes, _ := filepath.Glob("/dev/tap[0-9]*") // that of a device elsewhere is the kernel's own
	if len(nodes) > 1 {
		t.Errorf("%s: nodes %v, and the device has the index %d", what, nodes, nic.Ifindex)
	}
}

// up has the guest configure its NIC, and the peer ping it from then on.
func (b *ipvtapRig) up(nic vmnetd.Attachment) {
	b.t.Helper()
	b.pings = b.libvirtRig.pings(nic)
	b.lap("the guest on " + nic.Network + " answers")
}

// goOn has more pings answered.
func (b *ipvtapRig) goOn(what string) {
	b.t.Helper()
	if !b.pings.Answered(5, slowGuest) {
		b.t.Fatalf("%s: %+v\n%+v", what, b.pings.Counts(), b.list())
	}
	b.lap(what)
}

// setLink: virsh domif-setlink is seen by the guest, wherever the device lives.
func (b *ipvtapRig) setLink(nic vmnetd.Attachment) {
	b.t.Helper()
	carrier := fmt.Sprintf("until f=$(grep -lix %s /sys/class/net/*/address); do sleep 0.1; done; until grep -q %%d ${f%%%%/address}/carrier; do sleep 0.1; done", nic.MAC)
	b.Virsh("domif-setlink", "saved", nic.Ifname, "down")
	b.inGuest(fmt.Sprintf(carrier, 0))
	b.Virsh("domif-setlink", "saved", nic.Ifname, "up")
	b.inGuest(fmt.Sprintf(carrier, 1))
	b.goOn("virsh domif-setlink")
}

// restarts: of libvirtd, of vmnetd, of both; suspended and resumed.
func (b *ipvtapRig) restarts(nic vmnetd.Attachment) {
	t := b.t
	t.Helper()
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"libvirtd killed", func() { b.Kill(); b.Start() }},
		{"vmnetd killed", func() { b.kill(); b.start() }},
		{"both killed", func() { b.kill(); b.Kill(); b.start(); b.Start() }},
		{"suspend and resume", func() {
			b.Virsh("suspend", "saved")
			b.eventually("its link is down", func() bool { return b.list()[0].Link == "down" })
			b.Virsh("resume", "saved")
		}},
	} {
		b.pings.Begin()
		c.do()
		b.attached(c.what)
		now := b.list()[0]
		if now.Ifindex != nic.Ifindex || now.MAC != nic.MAC || fmt.Sprint(now.IPs) != fmt.Sprint(nic.IPs) {
			t.Errorf("%s: %+v was %+v", c.what, now, nic)
		}
		b.lives(c.what, now)
		b.goOn(c.what)
		t.Logf("%s: %+v", c.what, b.pings.Counts())
	}
}

// attached waits until the only NIC is.
func (b *ipvtapRig) attached(what string) {
	b.t.Helper()
	b.eventually(what+": it is attached", func() bool {
		list := b.list()
		return len(list) == 1 && list[0].Phase == vmnetd.Attached && list[0].Link == "up"
	}, func() {
		domains, err := b.TryVirsh("list", "--all")
		xml, _ := b.TryVirsh("dumpxml", "saved")
		b.t.Logf("%+v\n%s %v\n%s\n%s", b.list(), domains, err, xml, b.Log())
	})
}

// savedAndRestored: the hook makes a fresh device before libvirtd opens it.
func (b *ipvtapRig) savedAndRestored(nic vmnetd.Attachment) {
	t := b.t
	t.Helper()
	file := b.vm.Save(t)
	b.nothingOfIpvtaps()
	b.lap("saved")
	b.Virsh("restore", file)
	b.attached("restored")
	now := b.list()[0]
	if now.Ifname != nic.Ifname || now.MAC != nic.MAC || fmt.Sprint(now.IPs) != fmt.Sprint(nic.IPs) {
		t.Errorf("restored as %+v, it was %+v", now, nic)
	}
	b.lives("restored", now)
	b.goOn("restored")
}

// nothingOfIpvtaps: no NIC, no device, no node.
func (b *ipvtapRig) nothingOfIpvtaps() {
	b.t.Helper()
	b.eventually("nothing is left", func() bool {
		nodes, _ := filepath.Glob("/dev/tap[0-9]*")
		return len(b.list()) == 0 && len(nodes) == 0
	}, func() {
		nodes, _ := filepath.Glob("/dev/tap[0-9]*")
		b.t.Logf("%+v, %v", b.list(), nodes)
	})
}

// takenByVirsh: somebody else detaches it.
func (b *ipvtapRig) takenByVirsh(nic vmnetd.Attachment) {
	b.t.Helper()
	b.pings.Stop()
	b.Virsh("detach-interface", "saved", "ethernet", "--mac", nic.MAC, "--live")
	b.without(nic)
	b.lap("detached by virsh")
}

// without waits until the guest has lost the NIC and nothing is left of it.
func (b *ipvtapRig) without(nic vmnetd.Attachment) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), slowGuest)
	defer cancel()
	mac, err := vmnetd.ParseMAC(nic.MAC)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.vm.WaitNoIface(ctx, mac); err != nil {
		b.t.Fatal(err)
	}
	b.nothingOfIpvtaps()
}

// learnedByFD: a NIC by fd, with an address that nobody has told.
func (b *ipvtapRig) learnedByFD() {
	t, address := b.t, guestAddresses[0].String()
	t.Helper()
	nic := b.attach("saved", "--network", "learned", "--handover", "fd", "--queues", "2")
	if nic.Kind != vmnetd.Ipvtap || !nic.VHost || nic.Queues != 2 || b.there(nic.Ifname) {
		t.Errorf("by fd: %+v", nic)
	}
	b.inGuest(fmt.Sprintf("until f=$(grep -lix %s /sys/class/net/*/address); do sleep 0.1; done; n=$(basename ${f%%/address}); ip address add %s/24 dev $n; ip link set $n up; ping -c 1 -W 20 %s",
		nic.MAC, address, testkit.PeerAddress))
	learned := func() bool { return slices.Contains(b.list()[0].Learned, address) }
	b.eventually("it is learned", learned, func() { t.Logf("%+v", b.list()) })
	b.pings = testkit.StartPings(t, b.net.Peer, 200*time.Millisecond, guestAddresses[:1]...)
	b.goOn("a NIC by fd, of which the address was learned")
	b.kill()
	b.start()
	b.attached("vmnetd killed")
	if !learned() {
		t.Errorf("after a restart: %+v", b.list())
	}
	b.goOn("vmnetd killed with a NIC by fd")
	b.pings.Stop()
	b.must("detach", "saved", "--all")
	b.without(nic)
	b.lap("detached")
}

// madeAtStart: a domain that is defined with it, with its address.
func (b *ipvtapRig) madeAtStart() {
	t := b.t
	t.Helper()
	out := b.must("xml", "vm2", "--network", "one", "--ip", "192.0.2.9", "--queues", "2")
	element, metadata := splitXML(t, out)
	testkit.StartLibvirtGuest(t, b.Libvirtd, testkit.LibvirtGuestOptions{
		Name: "vm2", Persistent: true, Paused: true, Interfaces: []string{element}, Metadata: metadata, QEMUArgs: testkit.EjectsPaused,
	})
	b.eventually("the hook's NIC is attached", func() bool {
		list := b.list()
		return len(list) == 1 && list[0].Phase == vmnetd.Attached
	})
	nic := b.list()[0]
	if nic.Kind != vmnetd.Ipvtap || nic.Link != "down" || nic.Queues != 2 || fmt.Sprint(nic.IPs) != "[192.0.2.9]" || b.there(nic.Ifname) {
		t.Errorf("%+v", nic)
	}
	b.Virsh("resume", "vm2")
	b.attached("resumed")
	b.Virsh("destroy", "vm2")
	b.nothingOfIpvtaps()
	b.lap("vm2 came and went")
}

// splitXML is the interface and what belongs into the metadata, of what vmnetd xml
// says.
func splitXML(t *testing.T, out string) (element, metadata string) {
	t.Helper()
	element, comment, ok := strings.Cut(out, "<!--")
	i := strings.Index(comment, "<vmnetd:nics")
	if !ok || i < 0 {
		t.Fatalf("vmnetd xml says nothing of metadata:\n%s", out)
	}
	metadata, _, _ = strings.Cut(comment[i:], "-->")
	if err := xml.Unmarshal([]byte(metadata), new(struct{})); err != nil {
		t.Fatalf("%v\n%s", err, metadata)
	}
	return element, metadata
}
