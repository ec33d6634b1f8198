package hypervisor

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bootimage"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// lvGuest is a guest of libvirt's that takes commands.
type lvGuest struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// boot boots testkit's guest with 4 vCPUs under libvirtd.
func (b *lvBed) boot(name string) (VM, *lvGuest) {
	b.t.Helper()
	image, err := testkit.BuildGuestImage(b.t.Context(), b.Dir)
	if err != nil {
		b.t.Fatal(err)
	}
	socket := filepath.Join(b.Dir, name+".chan")
	xml := lvXMLOf(name, 5, "<channel type='unix'><source mode='bind' path='"+socket+"'/><target type='virtio' name='commands'/></channel>")
	xml = strings.Replace(xml, "<vcpu>2<", "<vcpu>4<", 1)
	xml = strings.Replace(xml, "<memory unit='MiB'>64<", "<memory unit='MiB'>160<", 1)
	xml = strings.Replace(xml, "bridge-support=off", "bridge-support=on", 1)
	xml = strings.Replace(xml, "</os>", "<kernel>"+image.Kernel+"</kernel><initrd>"+image.Initrd+"</initrd><cmdline>"+bootimage.CommandLine+"</cmdline></os>", 1)
	n := b.seen.count()
	b.Virsh("create", b.file(xml))
	vm := b.whole(n, name)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	g := &lvGuest{t: b.t, conn: conn, in: bufio.NewReader(conn)}
	_ = conn.SetReadDeadline(time.Now().Add(3 * time.Minute))
	for {
		line, err := g.in.ReadString('\n')
		if err != nil {
			b.t.Fatalf("the guest does not come up: %v", err)
		}
		if strings.TrimSpace(line) == "vmnetd-guest ready" {
			return vm, g
		}
	}
}

// run runs a shell script in the guest.
func (g *lvGuest) run(script string) string {
	g.t.Helper()
	_ = g.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(g.conn, "1 50 %s\n", base64.StdEncoding.EncodeToString([]byte(script))); err != nil {
		g.t.Fatal(err)
	}
	line, err := g.in.ReadString('\n')
	var id, code, size int
	if n, _ := fmt.Sscanf(line, "vmnetd-guest %d %d %d", &id, &code, &size); err != nil || n != 3 {
		g.t.Fatalf("the guest says %q, %v", line, err)
	}
	out := make([]byte, size)
	if _, err := io.ReadFull(g.in, out); err != nil || code != 0 {
		g.t.Fatalf("%s: code %d, %v: %s", script, code, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestANICWhoseDeviceHasGoneIsCutOff(t *testing.T) {
	b := newLvBed(t)
	vm, guest := b.boot("vm1")
	for _, queues := range []int{1, 4} {
		nic := b.device(fmt.Sprintf("net%d", queues), queues)
		if _, err := b.l.Plug(t.Context(), vm, nic); err != nil {
			t.Fatal(err)
		}
		b.ns.SetUp(t, nic.Ifname)
		iface := guest.run(fmt.Sprintf("until f=$(grep -lix %s /sys/class/net/*/address); do sleep 0.1; done; basename ${f%%/address}", nic.MAC))
		guest.run("ip link set " + iface + " up; until [ $(cat /sys/class/net/" + iface + "/carrier) = 1 ]; do sleep 0.1; done; ls -d /sys/class/net/" + iface + "/queues/*")
		b.ns.Delete(t, nic.Ifname)
		if err := b.l.CutOff(t.Context(), vm, nic); err != nil {
			t.Fatalf("%d queues: CutOff: %v", queues, err)
		}
		guest.run("until [ $(cat /sys/class/net/" + iface + "/carrier) = 0 ]; do sleep 0.1; done")
		if err := b.l.CutOff(t.Context(), vm, nic); err != nil {
			t.Errorf("%d queues: once more: %v", queues, err)
		}
		err := b.l.Unplug(t.Context(), vm, nic)
		for errors.Is(err, ErrEjecting) {
			err = b.l.Unplug(t.Context(), vm, nic)
		}
		if err != nil {
			t.Errorf("%d queues: Unplug: %v", queues, err)
		}
		guest.run(fmt.Sprintf("while grep -qix %s /sys/class/net/*/address; do sleep 0.1; done", nic.MAC))
		if tainted := strings.Contains(b.Virsh("dominfo", "vm1"), "custom monitor"); tainted != (queues > 1) {
			t.Errorf("%d queues: tainted is %v", queues, tainted)
		}
		if text := b.netdevs("vm1"); strings.Contains(text, "hostnet") {
			t.Errorf("%d queues: QEMU still has %s", queues, text)
		}
		if err := b.l.CutOff(t.Context(), vm, nic); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("%d queues: when it has gone: %v", queues, err)
		}
	}
}
