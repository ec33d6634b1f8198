package hypervisor

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// lvBed is a libvirtd of the test's own in a network namespace, and ours that
// follows it.
type lvBed struct {
	*testkit.Libvirtd
	t    *testing.T
	ns   *testkit.Netns
	l    *Libvirt
	seen *seen
}

// seen is what Run told.
type seen struct {
	mu   sync.Mutex
	list []Sighting
	at   []time.Time
	news chan struct{}
}

func (s *seen) saw(x Sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.at = append(s.list, x), append(s.at, time.Now())
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

// wait waits until what comes after the first n sightings satisfies ok.
func (s *seen) wait(t *testing.T, n int, what string, ok func(Sighting) bool) time.Time {
	t.Helper()
	limit := time.After(longEnough)
	for {
		s.mu.Lock()
		for i := n; i < len(s.list); i++ {
			if ok(s.list[i]) {
				defer s.mu.Unlock()
				return s.at[i]
			}
		}
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-limit:
			t.Fatalf("%s was not seen; %+v was", what, s.list[n:])
		}
	}
}

func isVM(name string, here bool) func(Sighting) bool {
	return func(s Sighting) bool { return s.Name == name && s.Here == here && s.Via == viaLibvirt }
}

func begun(s Sighting) bool { return s == Sighting{} }

func testLogger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(testLog{t}, nil)) }

// startRun runs a Run until the test ends; done waits for that.
func startRun(t *testing.T, run func(context.Context, func(Sighting)) error) (*seen, func()) {
	t.Helper()
	s := &seen{news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, s.saw) }()
	done := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(done)
	return s, done
}

func newLvBed(t *testing.T, limits ...Limits) *lvBed {
	t.Helper()
	testkit.Require(t, "netns")
	testkit.Require(t, "libvirt")
	b := &lvBed{t: t, ns: testkit.NewNetns(t)}
	testkit.NewVeth(t, b.ns, "up0", b.ns, "up1")
	b.Libvirtd = testkit.StartLibvirtd(t, testkit.LibvirtdOptions{Netns: b.ns.Do})
	o := LibvirtOptions{Log: testLogger(t), Hooks: b.Hooks}
	if len(limits) > 0 {
		o.Limits = limits[0]
	}
	b.l = NewLibvirt(o)
	if err := b.l.Configure(b.URI); err != nil {
		t.Fatal(err)
	}
	b.seen, _ = startRun(t, b.l.Run)
	b.seen.wait(t, 0, "the beginning", begun)
	return b
}

// lvXMLOf is a q35 domain whose guest lets go of NICs without an operating
// system.
func lvXMLOf(name string, ports int, more string) string {
	var b strings.Builder
	for i := range ports {
		fmt.Fprintf(&b, "<controller type='pci' index='%d' model='pcie-root-port'/>", i+1)
	}
	return fmt.Sprintf(`<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>%s</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>
<metadata><vmnetd:nics xmlns:vmnetd="https://vmnetd.org/xmlns/1"><vmnetd:label name="tier" value="gold"/></vmnetd:nics><other xmlns="urn:other"><interface type='x'><target dev='vmnx'/></interface></other></metadata>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<devices><controller type='usb' model='none'/><controller type='pci' index='0' model='pcie-root'/>%s<memballoon model='none'/>%s</devices>
<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'/></qemu:commandline></domain>`, name, b.String(), more)
}

func (b *lvBed) file(content string) string {
	b.t.Helper()
	path := filepath.Join(b.Dir, fmt.Sprintf("f%d.xml", rand.Int64()))
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// create starts a transient domain, paused, and waits until it is in the mirror.
func (b *lvBed) create(name string) VM {
	b.t.Helper()
	n := b.seen.count()
	b.Virsh("create", "--paused", b.file(lvXMLOf(name, 3, "")))
	return b.whole(n, name)
}

// whole waits until a domain's definition is in the mirror.
func (b *lvBed) whole(n int, name string) (vm VM) {
	b.t.Helper()
	b.seen.wait(b.t, n, name, func(s Sighting) bool {
		if !isVM(name, true)(s) {
			return false
		}
		var err error
		vm, err = b.l.Find(b.t.Context(), name, "")
		return err == nil && vm.Ifnames != nil
	})
	return vm
}

// device makes a macvtap and returns the NIC that it is for.
func (b *lvBed) device(id string, queues int) NIC {
	b.t.Helper()
	mac := net.HardwareAddr{0x52, 0x54, 0, byte(rand.IntN(256)), byte(rand.IntN(256)), byte(rand.IntN(256))}
	nic := NIC{ID: id, Ifname: "vmn" + fmt.Sprintf("%x", []byte(mac[3:])), MAC: mac, MTU: 1400, Queues: queues}
	b.ns.Create(b.t, rtnl.NewLink{
		Name: nic.Ifname, Kind: "macvtap", Lower: b.ns.Link(b.t, "up0").Index, Index: 1<<20 + rand.IntN(1<<30),
		MAC: mac, MTU: nic.MTU, Queues: queues, Data: rtnl.MacvlanMode("bridge"),
	})
	return nic
}

func (b *lvBed) find(name string) VM {
	b.t.Helper()
	vm, err := b.l.Find(b.t.Context(), name, "")
	if err != nil {
		b.t.Fatalf("Find(%s): %v", name, err)
	}
	return vm
}

// netdevs is what QEMU has, by libvirt's monitor.
func (b *lvBed) netdevs(name string) string {
	b.t.Helper()
	return b.Virsh("qemu-monitor-command", name, "--hmp", "info network")
}

func (b *lvBed) has(name, ifname string) bool {
	b.t.Helper()
	return slices.Contains(b.find(name).Ifnames, ifname) && strings.Contains(b.Virsh("dumpxml", name), ifname)
}
