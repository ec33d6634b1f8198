package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/policy"
)

// fake is a daemon whose answers a test writes down; calls is what it was
// asked.
type fake struct {
	calls     []string
	req       vmnetd.Request
	err       error
	nics      []vmnetd.Attachment
	uplinks   []vmnetd.UplinkState
	status    vmnetd.Status
	checks    []vmnetd.Check
	past      []vmnetd.Event
	live      []vmnetd.Event
	explained []policy.Explanation
	fds       *queuefd.Set
	xml       string // of DomainXML, or what DomainHook was given
	hookErr   error
	imported  vmnetd.Import
	plan      vmnetd.Plan
	applied   vmnetd.Applied
	answer    string // of a team
	converted vmnetd.Conversion
	counters  []vmnetd.Counter
	countErr  error // of Counters
	link      vmnetd.HostLink
	linked    vmnetd.HostLinkRequest // what HostLink was asked
	links     []vmnetd.HostLink
	hang      chan struct{} // closed once a call hangs until its ctx ends
}

func (f *fake) call(ctx context.Context, format string, args ...any) error {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	if f.hang != nil {
		close(f.hang)
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func (f *fake) first() vmnetd.Attachment {
	if len(f.nics) == 0 {
		return vmnetd.Attachment{}
	}
	return f.nics[0]
}

func (f *fake) Attach(ctx context.Context, req vmnetd.Request) (vmnetd.Attachment, error) {
	f.req = req
	return f.first(), f.call(ctx, "Attach")
}

func (f *fake) Detach(ctx context.Context, vm string, sel agent.Selector) ([]vmnetd.Attachment, error) {
	return f.nics, f.call(ctx, "Detach %s %+v", vm, sel)
}

func (f *fake) Explain(ctx context.Context, req vmnetd.Request, all bool) ([]policy.Explanation, error) {
	f.req = req
	return f.explained, f.call(ctx, "Explain all=%v", all)
}

func (f *fake) List(ctx context.Context, vm string) ([]vmnetd.Attachment, error) {
	return f.nics, f.call(ctx, "List %q", vm)
}

func (f *fake) Counters(_ context.Context, vm, id string) ([]vmnetd.Counter, error) {
	f.calls = append(f.calls, "Counters "+vm+" "+id)
	return f.counters, f.countErr
}

func (f *fake) HostLink(ctx context.Context, req vmnetd.HostLinkRequest) (vmnetd.HostLink, error) {
	f.linked = req
	return f.link, f.call(ctx, "HostLink")
}

// HostLinks is asked beside what a command is for, and is not among calls.
func (f *fake) HostLinks(context.Context) ([]vmnetd.HostLink, error) { return f.links, f.err }

func (f *fake) VMs(ctx context.Context) ([]string, error) {
	var names []string
	for _, one := range f.nics {
		names = append(names, one.VM)
	}
	return names, f.call(ctx, "VMs")
}

func (f *fake) Uplinks(ctx context.Context) ([]vmnetd.UplinkState, error) {
	return f.uplinks, f.call(ctx, "Uplinks")
}

func (f *fake) Uplink(ctx context.Context, name string) (vmnetd.UplinkState, error) {
	for _, u := range f.uplinks {
		if u.Name == name {
			return u, f.call(ctx, "Uplink %s", name)
		}
	}
	return vmnetd.UplinkState{}, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %q", name).WithNext("vmnetd uplink list")
}

func (f *fake) Status(ctx context.Context) (vmnetd.Status, error) {
	return f.status, f.call(ctx, "Status")
}

func (f *fake) Doctor(ctx context.Context) ([]vmnetd.Check, error) {
	return f.checks, f.call(ctx, "Doctor")
}

func (f *fake) Watch(ctx context.Context, on func(vmnetd.Event)) error {
	for _, e := range f.live {
		on(e)
	}
	return f.call(ctx, "Watch")
}

func (f *fake) WatchSince(ctx context.Context, since time.Time, on func(vmnetd.Event)) error {
	for _, e := range append(f.past, f.live...) {
		on(e)
	}
	return f.call(ctx, "WatchSince %s", since.UTC().Format(time.RFC3339))
}

func (f *fake) Reload(ctx context.Context) error { return f.call(ctx, "Reload") }

func (f *fake) OpenTap(ctx context.Context, req vmnetd.Request, owner int) (vmnetd.Attachment, *queuefd.Set, error) {
	f.req = req
	if err := f.call(ctx, "OpenTap owner=%d", owner); err != nil {
		return vmnetd.Attachment{}, nil, err
	}
	return f.first(), f.fds, nil
}

func (f *fake) Ping(ctx context.Context) error { return f.call(ctx, "Ping") }

func (f *fake) DomainHook(_ context.Context, vm, op, sub, xml string) error {
	f.xml = xml
	f.calls = append(f.calls, fmt.Sprintf("DomainHook %s %s %s", vm, op, sub))
	return f.hookErr
}

func (f *fake) DomainXML(ctx context.Context, req vmnetd.Request) (string, error) {
	f.req = req
	return f.xml, f.call(ctx, "DomainXML")
}

func (f *fake) Import(ctx context.Context, vm string, o vmnetd.ImportOptions) (vmnetd.Import, error) {
	return f.imported, f.call(ctx, "Import %s %+v", vm, o)
}

func (f *fake) Close() error { return nil }

// result is what a command left.
type result struct {
	code     int
	out, err string
}

var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// testApp is the program with a fake daemon; a nil one is not running.
func testApp(f *fake, out, err *bytes.Buffer) *app {
	a := newApp(stdio{in: strings.NewReader(""), out: out, err: err})
	a.now = func() time.Time { return testNow }
	a.dial = func(context.Context) (client, error) {
		if f == nil {
			return nil, vmnetd.Errorf(vmnetd.ErrUnreachable, "the daemon is not running").WithNext("systemctl start vmnetd")
		}
		return f, nil
	}
	a.local = func(context.Context) []vmnetd.Check {
		return []vmnetd.Check{{Level: vmnetd.LevelOK, Name: "macvtap", Text: "seen from outside"}}
	}
	a.exec = func(path string, _, _ []string) error { return fmt.Errorf("the test does not run %s", path) }
	return a
}

// do runs a command line.
func do(t *testing.T, f *fake, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := testApp(f, &out, &err).run(t.Context(), args)
	return result{code, out.String(), err.String()}
}

// nic is an attachment as the daemon gives it when all went well.
func nic(vm, id string) vmnetd.Attachment {
	return vmnetd.Attachment{
		ID: id, VM: vm, Network: "lan", Uplink: "u0", Kind: vmnetd.Macvtap, Mode: vmnetd.Bridge,
		Ifname: vmnetd.Ifname(vm, id), Ifindex: 7, MAC: "52:54:00:00:00:01", MTU: 1500, Queues: 4, VHost: true,
		Via: "qmp:/run/vmnetd/qmp/" + vm + ".sock", Link: "up", Phase: vmnetd.Attached, Rule: "/etc/vmnetd/vmnetd.yaml:4", Changed: true,
	}
}
