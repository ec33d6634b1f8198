package dbusapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/policy"
)

const nobody = 65534

// TestMain is also the entry of the processes that tests run as another user.
func TestMain(m *testing.M) {
	if name := os.Getenv("DBUSAPI_TEST_AS"); name != "" {
		os.Exit(runAs(name))
	}
	before := openFDs()
	code := m.Run()
	if after := openFDs(); code == 0 && len(after) > len(before)+2 { // the runtime's own poller
		fmt.Fprintf(os.Stderr, "file descriptors left open: %v, before: %v\n", after, before)
		code = 1
	}
	os.Exit(code)
}

func runAs(name string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	text, err := otherUser[name](ctx)
	if err != nil {
		text = vmnetd.ClassOf(err).Name + ": " + err.Error() + " | " + vmnetd.NextOf(err)
	}
	fmt.Print(text)
	return 0
}

// asNobody runs one function of otherUser in a process of user nobody, and
// returns what it says.
func asNobody(t *testing.T, name string, env ...string) string {
	t.Helper()
	testkit.Require(t, "netns")                               // root, to become another user
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe") // the test binary lies in a folder of root's
	cmd.Env = append(append(os.Environ(), "DBUSAPI_TEST_AS="+name, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("as nobody: %v: %s", err, out)
	}
	return string(out)
}

// fake is an agent that does as its fields say.
type fake struct {
	mu          sync.Mutex
	attachments []vmnetd.Attachment
	on          func(agent.Change)
	callers     []agent.Caller
	requests    []vmnetd.Request
	selectors   []agent.Selector
	more        []vmnetd.UplinkState // of Uplinks
	verbs       []string             // what was asked about uplinks and domains

	fail    error                                                           // of Attach, Detach, Explain, Reload
	hold    func(ctx context.Context)                                       // called by Attach
	events  []vmnetd.Event                                                  //
	queues  func() (*queuefd.Set, error)                                    // of Claim
	claimed func(token []byte, owner agent.Owner, err error)                // told by Claim's done
	finish  func(err error, a vmnetd.Attachment) (vmnetd.Attachment, error) // done's result
}

func (f *fake) Attach(ctx context.Context, who agent.Caller, req vmnetd.Request) (vmnetd.Attachment, error) {
	if f.hold != nil {
		f.hold(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers, f.requests = append(f.callers, who), append(f.requests, req)
	if f.fail != nil {
		return vmnetd.Attachment{}, f.fail
	}
	id := req.ID
	if id == "" {
		id = fmt.Sprintf("net%d", len(f.attachments))
	}
	for _, a := range f.attachments {
		if a.VM == req.VM && a.ID == id {
			return a, nil
		}
	}
	a := sample(req.VM, id)
	f.attachments = append(f.attachments, a)
	if f.on != nil {
		f.on(agent.Change{Attachment: &a, Event: &vmnetd.Event{Time: time.Now(), Event: "attached", VM: a.VM, ID: a.ID, Uplink: a.Uplink, Text: "x"}})
	}
	a.Changed = true
	return a, nil
}

func sample(vm, id string) vmnetd.Attachment {
	return vmnetd.Attachment{
		ID: id, VM: vm, Network: "lan", Uplink: "wan", Kind: vmnetd.Macvtap, Mode: vmnetd.Bridge, Ifname: vmnetd.Ifname(vm, id), Ifindex: 77,
		MAC: "52:54:00:00:00:01", IPs: []string{"10.0.0.1"}, MTU: 1500, VLAN: 5, Queues: 4, VHost: true, VHostReason: "because", Via: "qmp:/x",
		Link: "up", Phase: vmnetd.Attached, Problem: "none\xff\x00", Rule: "f:3", Reasons: []string{"a", "b"},
	}
}

func (f *fake) Detach(_ context.Context, _ agent.Caller, vm string, sel agent.Selector) ([]vmnetd.Attachment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.selectors = append(f.selectors, sel)
	if f.fail != nil {
		return nil, f.fail
	}
	var gone, stay []vmnetd.Attachment
	for _, a := range f.attachments {
		if a.VM == vm && (sel.All || sel.ID == a.ID || sel.MAC == a.MAC) {
			gone = append(gone, a)
			f.on(agent.Change{Attachment: &a, Gone: true})
			continue
		}
		stay = append(stay, a)
	}
	f.attachments = stay
	return gone, nil
}

func (f *fake) Explain(_ context.Context, who agent.Caller, req vmnetd.Request, all bool) ([]policy.Explanation, error) {
	return []policy.Explanation{{VM: req.VM, ID: req.ID, Granted: all, Mode: string(req.Mode), ExitCode: int(who.UID)}}, f.fail
}

func (f *fake) OpenTap(_ context.Context, _ agent.Caller, req vmnetd.Request) (vmnetd.Attachment, []byte, error) {
	return sample(req.VM, "net0"), []byte(strings.Repeat("t", tokenSize)), f.fail
}

func (f *fake) Claim(_ context.Context, token []byte, owner agent.Owner) (*queuefd.Set, func(error) (vmnetd.Attachment, error), error) {
	set, err := f.queues()
	return set, func(err error) (vmnetd.Attachment, error) {
		if f.claimed != nil {
			f.claimed(token, owner, err)
		}
		a := sample("vm1", "net0")
		if f.finish != nil {
			return f.finish(err, a)
		}
		return a, err
	}, err
}

func (f *fake) List(vm string) (found []vmnetd.Attachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.attachments {
		if vm == "" || vm == a.VM {
			found = append(found, a)
		}
	}
	return found
}

func (f *fake) VMs() []string { return []string{"vm1", "vm2"} }

func (f *fake) Uplinks() []vmnetd.UplinkState {
	return append([]vmnetd.UplinkState{{Name: "wan.100", Kind: "nic", Ifname: "eno1", Ifindex: 2, MAC: "m", MTU: 9000, State: "up", Guests: 3, Problem: "p"}}, f.more...)
}

func (f *fake) Refresh(context.Context, string) {}

func (f *fake) Status() vmnetd.Status { return vmnetd.Status{Host: "h", Uplinks: f.Uplinks()} }

func (f *fake) Doctor(context.Context) []vmnetd.Check {
	return []vmnetd.Check{{Level: "ok", Name: "n"}}
}

func (f *fake) Events(since time.Time) (found []vmnetd.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if !e.Time.Before(since) {
			found = append(found, e)
		}
	}
	return found
}

func (f *fake) Subscribe(on func(agent.Change)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
	return func() {}
}

func (f *fake) Reload(context.Context) error { return f.fail }

func (f *fake) tell(c agent.Change) {
	f.mu.Lock()
	on := f.on
	f.mu.Unlock()
	on(c)
}

// serve runs a Server on a bus until the test ends.
func serve(t testing.TB, address string, f *fake, change ...func(*Options)) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnrun")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := Options{Address: address, RunDir: dir}
	for _, c := range change {
		c(&o)
	}
	s := New(f, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := within(ended); err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := os.Stat(filepath.Join(o.RunDir, fdSocketName)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the fd socket is still there: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("Run: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("not ready in 10 s")
	}
	return s
}

func within(ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		return errors.New("still running after 10 s")
	}
}

func client(t testing.TB, address string) *Client {
	t.Helper()
	c, err := dial(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pair is a served fake and a client of it.
func pair(t testing.TB, f *fake) (*Client, string) {
	t.Helper()
	address := testkit.StartBus(t)
	serve(t, address, f)
	return client(t, address), address
}

// openFDs is what this process has open, apart from what looking needs.
func openFDs() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var open []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") {
			open = append(open, e.Name()+" "+to)
		}
	}
	return open
}

// eventually waits for something that no event tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func eventfds(n int) []int {
	var fds []int
	for range n {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			panic(err)
		}
		fds = append(fds, fd)
	}
	return fds
}

func (f *fake) DomainHook(_ context.Context, who agent.Caller, vm, op, sub, xml string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers, f.verbs = append(f.callers, who), append(f.verbs, strings.Join([]string{"hook", vm, op, sub, xml}, " "))
	return f.fail
}

func (f *fake) DomainXML(_ context.Context, _ agent.Caller, req vmnetd.Request) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, req)
	return "<interface/>", f.fail
}

func (f *fake) Import(_ context.Context, _ agent.Caller, vm string, o vmnetd.ImportOptions) (vmnetd.Import, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verbs = append(f.verbs, fmt.Sprintf("import %s %+v", vm, o))
	return vmnetd.Import{VM: vm, Applied: o.Apply}, f.fail
}

func (f *fake) Counters(_ context.Context, vm, id string) ([]vmnetd.Counter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verbs = append(f.verbs, "counters "+vm+" "+id)
	return []vmnetd.Counter{{Rule: "source MAC", Packets: 1 << 40, Bytes: 180, Dropped: true}, {Rule: "x\xff", Packets: 3}}, f.fail
}

func (f *fake) HostLink(_ context.Context, who agent.Caller, req vmnetd.HostLinkRequest) (vmnetd.HostLink, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers, f.verbs = append(f.callers, who), append(f.verbs, fmt.Sprintf("host-link %+v", req))
	return vmnetd.HostLink{Network: req.Network, IPs: req.IPs, Changed: !req.Remove}, f.fail
}

func (f *fake) HostLinks() []vmnetd.HostLink { return []vmnetd.HostLink{{Network: "lan"}} }
