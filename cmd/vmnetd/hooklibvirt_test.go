package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// hookAgent is an agent that denies every hook; all else of it is missing.
type hookAgent struct {
	agent.API
	mu   sync.Mutex
	asks []string
	xml  string
}

func (*hookAgent) Subscribe(func(agent.Change)) func() { return func() {} }
func (*hookAgent) List(string) []vmnetd.Attachment     { return nil }
func (*hookAgent) Uplinks() []vmnetd.UplinkState       { return nil }

func (h *hookAgent) DomainHook(_ context.Context, _ agent.Caller, vm, op, sub, xml string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asks, h.xml = append(h.asks, strings.Join([]string{vm, op, sub}, " ")), xml
	return vmnetd.Errorf(vmnetd.ErrDenied, "no rule gives %s/net0 network lan", vm).WithNext("vmnetd explain " + vm)
}

// hookedLibvirtd is a libvirtd that found the hook when it started, and domains
// others, which has no NIC of ours, and ours.
func hookedLibvirtd(t *testing.T, bus string) *testkit.Libvirtd {
	t.Helper()
	testkit.Require(t, "libvirt")
	program, err := exec.LookPath("vmnetd") // this test, by the name that TestMain gave it
	if err != nil {
		t.Fatal(err)
	}
	l := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
	if _, err := installHook(hookFile(l.Hooks), hookScript(program, bus)); err != nil {
		t.Fatal(err)
	}
	l.Kill()
	l.Start()
	for name, nic := range map[string]string{"others": "", "ours": "<interface type='ethernet'><target dev='vmnhooktest01' managed='no'/><model type='virtio'/></interface>"} {
		file := filepath.Join(l.Dir, name+".xml")
		text := fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/>%s</devices></domain>`, name, nic)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l.Virsh("define", file)
	}
	return l
}

func TestLibvirtStartsOthersAndSaysWhyOursDoNotStart(t *testing.T) {
	l := hookedLibvirtd(t, testkit.StartBus(t))
	l.Virsh("start", "--paused", "others")
	l.Kill()
	l.Start() // reconnect
	if got := strings.TrimSpace(l.Virsh("domstate", "others")); got != "paused" {
		t.Errorf("after libvirtd was killed the other VM is %q", got)
	}
	_, err := l.TryVirsh("start", "--paused", "ours")
	if err == nil || !strings.Contains(err.Error(), "exit status 6: vmnetd: VM ours starts with a NIC of vmnetd, and vmnetd does not answer") ||
		!strings.Contains(err.Error(), "systemctl start vmnetd") {
		t.Errorf("without the daemon: %v", err)
	}
	l.Virsh("destroy", "others")
}

func TestLibvirtShowsWhyThePolicyDenies(t *testing.T) {
	address := testkit.StartBus(t)
	h := &hookAgent{}
	s := dbusapi.New(h, dbusapi.Options{Address: address, RunDir: t.TempDir()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case <-time.After(testkit.Patience):
		t.Fatal("the server is not ready")
	}
	l := hookedLibvirtd(t, address)
	l.Virsh("start", "--paused", "others")
	l.Virsh("destroy", "others")
	_, err := l.TryVirsh("start", "--paused", "ours")
	if err == nil || !strings.Contains(err.Error(), "exit status 3: vmnetd: no rule gives ours/net0 network lan; next: vmnetd explain ours") {
		t.Errorf("denied: %v", err)
	}
	if diff := cmp.Diff([]string{"ours prepare begin", "ours stopped end", "ours release end"}, h.asks); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(h.xml, "<name>ours</name>") || !hasOurNIC(h.xml) {
		t.Errorf("the XML is\n%s", h.xml)
	}
}
