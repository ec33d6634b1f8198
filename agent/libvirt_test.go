package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/policy"
)

// element is an interface of a definition.
func element(vm, id, network string) domxml.Element {
	return domxml.Element{NIC: domxml.NIC{MAC: vmnetd.DeriveMAC(vm, id).String(), ID: id, Network: network}, Target: vmnetd.Ifname(vm, id), Queues: 1}
}

// hook is libvirtd's hook as the daemon hears of it.
func (h *host) hook(vm, op, sub, xml string) error {
	return h.agent.DomainHook(h.t.Context(), Caller{}, vm, op, sub, xml)
}

// domains is a host with a libvirt that has a domain vm1 with one NIC of ours.
func domains(t *testing.T, nics ...domxml.Element) *host {
	t.Helper()
	return domainsWith(t, testConfig(), nics...)
}

func domainsWith(t *testing.T, cfg Config, nics ...domxml.Element) *host {
	t.Helper()
	w := newWorld()
	w.DefineDomain("vm1", nics...)
	h := newHost(t, w, cfg)
	h.start()
	return h
}

func (h *host) attached(name string, want vmnetd.Attachment) error {
	vm, _, _ := vmnetd.SplitFullName(name)
	for _, att := range h.agent.List(vm) {
		if att.FullName() == name && att.Phase == vmnetd.Attached && att.Link == want.Link && att.Problem == want.Problem {
			return nil
		}
	}
	return fmt.Errorf("%+v", h.agent.List(vm))
}

func TestStartOfADomainMakesWhatItsXMLNames(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"), domxml.Element{NIC: domxml.NIC{MAC: "52:54:00:00:00:09"}, Target: "vmnweb", Queues: 2})
	for range 2 {
		if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"vm1/net0", "vm1/vmnweb"} {
			eventually(t, "attached", func() error { return h.attached(name, vmnetd.Attachment{Link: "up"}) })
		}
		if names := h.w.DeviceNames(); !slices.Contains(names, "vmnweb") || len(names) != 2 {
			t.Errorf("devices: %v", names)
		}
		h.w.StopDomain("vm1", h.hook)
		if err := h.clean("vm1"); err != nil {
			t.Errorf("when the hook has returned: %v", err)
		}
		if err := h.hook("vm1", "release", "end", ""); err != nil {
			t.Errorf("the hook called twice: %v", err)
		}
	}
}

func TestDeniedStartLeavesNothing(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"), element("vm1", "net1", "fw"))
	if err := h.w.StartDomain("vm1", true, h.hook); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("start: %v", err)
	}
	if err := h.clean("vm1"); err != nil {
		t.Error(err)
	}
}

func TestHookThatMeansNothingIsNoObstacle(t *testing.T) {
	h := domains(t)
	for _, c := range [][3]string{{"reconnect", "begin", "junk"}, {"start", "begin", ""}, {"stopped", "end", "<x"}, {"release", "end", ""}, {"migrate", "begin", "x"}} {
		if err := h.hook("vm1", c[0], c[1], c[2]); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
	for xml, say := range map[string]string{"<domain": "", "<domain><name>other</name></domain>": "other"} {
		if err := h.hook("vm1", "prepare", "begin", xml); !errors.Is(err, vmnetd.ErrInvalid) || !contains(err, say) {
			t.Errorf("%s: %v", xml, err)
		}
	}
}

// TestADeviceThatLibvirtWouldMakeIsRefused: it would be up before its filter is there.
func TestADeviceThatLibvirtWouldMakeIsRefused(t *testing.T) {
	h := domains(t)
	ours := element("vm1", "net0", "lan").XML()
	domain := func(interfaces ...string) string {
		return "<domain><name>vm1</name><devices>" + strings.Join(interfaces, "") + "</devices></domain>"
	}
	others := "<interface type='ethernet'><mac address='52:54:00:00:00:09'/><target dev='tap7'/></interface><interface type='network'><mac address='52:54:00:00:00:0a'/><source network='default'/></interface>"
	for _, managed := range []string{"", " managed='yes'"} {
		xml := domain(strings.Replace(ours, " managed='no'", managed, 1))
		err := h.hook("vm1", "prepare", "begin", xml)
		if !errors.Is(err, vmnetd.ErrInvalid) || !strings.Contains(vmnetd.NextOf(err), "managed='no'") || h.clean("vm1") != nil {
			t.Errorf("%q: %v, %v", managed, err, h.clean("vm1"))
		}
		for _, op := range []string{"start/begin", "started/begin", "stopped/end", "release/end", "reconnect/begin", "attach/begin", "migrate/begin"} {
			op, sub, _ := strings.Cut(op, "/")
			if err := h.hook("vm1", op, sub, xml); err != nil {
				t.Errorf("%s: %v", op, err)
			}
		}
	}
	if err := h.hook("vm1", "prepare", "begin", domain(others)); err != nil {
		t.Errorf("interfaces of others: %v", err)
	}
	if err := h.hook("vm1", "prepare", "begin", domain(ours, others)); err != nil {
		t.Error(err)
	}
}

func TestLinkFollowsTheCPUs(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	if err := h.w.StartDomain("vm1", false, h.hook); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		eventually(t, "down while it is paused", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "down"}) })
		h.w.SetHalted("vm1", false)
		eventually(t, "up when it runs", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
		h.w.SetHalted("vm1", true)
	}
}

func TestANICOpenedByNameIsNoneHandedOverByFD(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
	attach(t, h.agent, vmnetd.Request{VM: "vm1", ID: "net0", Handover: "name"})
	if att, err := h.agent.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: "net0", Handover: "fd"}); !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "handover") {
		t.Errorf("%+v, %v", att, err)
	}
}

func TestNICTakenOutByOthersIsRemoved(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
	h.w.TakeOut("vm1", "net0")
	eventually(t, "removed", func() error { return h.clean("vm1") })
}

func TestGuestThatChangesItsMACIsFollowedWhereItIsAllowed(t *testing.T) {
	const other = "52:54:00:00:00:77"
	for _, allowed := range []bool{true, false} {
		cfg := testConfig()
		if allowed {
			cfg.Policy.Networks[0].Grant.MACChange = policy.ChangeAllow
		}
		h := domainsWith(t, cfg, element("vm1", "net0", "lan"))
		if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
			t.Fatal(err)
		}
		eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
		h.w.SetGuestMAC("vm1", "net0", other)
		done := make(chan struct{})
		eventually(t, "the same in all", func() error {
			r, _ := h.agent.store.get(key{"vm1", "net0"})
			if (r.GuestMAC == other) != allowed {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
		h.agent.turns.do("vm1", func(ctx context.Context) { h.agent.reconcile(ctx, "vm1"); close(done) })
		<-done
		dev, err := (agenttest.Devices{W: h.w}).Find(t.Context(), vmnetd.Ifname("vm1", "net0"))
		if err != nil || (dev.MAC.String() == other) != allowed || !dev.Up {
			t.Errorf("allowed %v: %+v, %v", allowed, dev, err)
		}
	}
}

func TestAddressesAreLearnedFromTheMACThatAGuestTook(t *testing.T) {
	const other = "52:54:00:00:00:78"
	cfg := testConfig()
	cfg.Policy.Networks[0].Grant = policy.Grant{Modes: []vmnetd.Mode{vmnetd.Bridge}, MACChange: policy.ChangeAllow, IPs: policy.IPs{Given: true, Learn: true}}
	h := domainsWith(t, cfg, element("vm1", "net0", "lan"))
	if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
	took := make(chan string)
	h.agent.turns.do("vm1", func(ctx context.Context) { // no other look at it comes between
		h.w.SetGuestMAC("vm1", "net0", other)
		h.agent.followFilters(ctx, "vm1")
		took <- h.w.Hears("vm1/net0")
	})
	if mac := <-took; mac != other {
		t.Errorf("frames from %q are listened to", mac)
	}
}

func TestAttachConfigIsTheNextStart(t *testing.T) {
	h := domains(t)
	for _, changed := range []bool{true, false} {
		got := attach(t, h.agent, vmnetd.Request{VM: "vm1", Config: true})
		if got.Problem != vmnetd.NextStart || got.Changed != changed || got.ID != "net0" {
			t.Errorf("changed %v: %+v", changed, got)
		}
	}
	if got := h.w.Defined("vm1"); len(got) != 1 || got[0].Network != "lan" {
		t.Errorf("defined: %+v", got)
	}
	if err := h.clean("vm1"); err != nil {
		t.Errorf("a VM that is shut off: %v", err)
	}
	if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })

	live := attach(t, h.agent, vmnetd.Request{VM: "vm1", ID: "net1", Live: true})
	if !strings.Contains(live.Problem, "live only") {
		t.Errorf("live only: %+v", live)
	}
	kept := attach(t, h.agent, vmnetd.Request{VM: "vm1", ID: "net1", Live: true, Config: true})
	if kept.Problem != "" || !kept.Changed || len(h.w.Defined("vm1")) != 2 {
		t.Errorf("kept: %+v, defined %+v", kept, h.w.Defined("vm1"))
	}
	if got, err := h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net1", Live: true}); err != nil || len(got) != 1 || !strings.Contains(strings.Join(got[0].Reasons, " "), "--config") {
		t.Errorf("detach --live: %+v, %v", got, err)
	}
	if got, err := h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net1", Config: true}); err != nil || len(got) != 1 || len(h.w.Defined("vm1")) != 1 {
		t.Errorf("detach --config: %+v, %v", got, err)
	}
	if _, err := h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0", Live: true, Config: true}); err != nil {
		t.Errorf("detach both: %v", err)
	}
	if err := h.clean("vm1"); err != nil || len(h.w.Defined("vm1")) != 0 {
		t.Errorf("after detach: %v, %+v", err, h.w.Defined("vm1"))
	}
	h.w.StopDomain("vm1", h.hook)
	for what, req := range map[string]vmnetd.Request{
		"--live": {VM: "vm1", Live: true}, "--live and --config": {VM: "vm1", Live: true, Config: true}, "incoming": {VM: "vm1", Live: true, Incoming: true},
	} {
		if _, err := h.agent.Attach(t.Context(), Caller{}, req); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("%s of a VM that is shut off: %v", what, err)
		}
	}
}

func TestPrepareFailingAtAnyCallLeavesNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			h := domains(t, element("vm1", "net0", "lan"), element("vm1", "net1", "lan"))
			h.w.FailAt(k, after)
			err := h.w.StartDomain("vm1", true, h.hook)
			over := h.w.Calls() < k
			h.w.FailAt(0, false)
			if over {
				break
			}
			if err != nil {
				eventually(t, "nothing", func() error { return h.clean("vm1") })
			}
			if err != nil {
				if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
					t.Fatalf("call %d: the next start: %v", k, err)
				}
			}
			eventually(t, "attached", func() error { return h.attached("vm1/net1", vmnetd.Attachment{Link: "up"}) })
			h.halt()
		}
	}
}

// TestAttachAndStartAtOnce: libvirtd answers nothing about a domain while its
// hook runs, and the hook waits for us.
func TestAttachAndStartAtOnce(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	for i := range 100 {
		var g errgroup.Group
		g.Go(func() error { return h.w.StartDomain("vm1", true, h.hook) })
		for _, req := range []vmnetd.Request{{VM: "vm1", ID: "net1"}, {VM: "vm1", ID: "net2", Config: true}, {VM: "vm1", ID: "net0"}} {
			g.Go(func() error {
				_, err := h.agent.Attach(t.Context(), Caller{}, req)
				if errors.Is(err, vmnetd.ErrNotFound) || errors.Is(err, vmnetd.ErrBusy) {
					return nil // it came too early
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
		var ending errgroup.Group
		ending.Go(func() error { h.w.StopDomain("vm1", h.hook); return nil })
		ending.Go(func() error {
			_, err := h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0", Live: true})
			if errors.Is(err, vmnetd.ErrNotFound) || errors.Is(err, vmnetd.ErrBusy) {
				return nil
			}
			return err
		})
		if err := ending.Wait(); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		eventually(t, "nothing left", func() error { return h.clean("vm1") })
		for _, id := range []string{"net1", "net2"} {
			_, _ = h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{ID: id, Config: true})
		}
	}
}

func TestRestartInTheMiddleOfAStart(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	err := h.w.StartDomain("vm1", true, func(vm, op, sub, xml string) error {
		if err := h.hook(vm, op, sub, xml); err != nil || op != "prepare" {
			return err
		}
		h.halt()
		h.start()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
}

func TestAStartThatNeverCameIsOverAlsoWhereTheClockWasSetBack(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	if err := h.hook("vm1", "prepare", "begin", h.w.DomainXML("vm1")); err != nil {
		t.Fatal(err)
	}
	r, _ := h.agent.store.get(key{"vm1", "net0"})
	r.Prepared = r.Prepared.Add(time.Hour)
	if err := h.agent.store.put(r); err != nil {
		t.Fatal(err)
	}
	h.halt()
	h.start()
	eventually(t, "gone", func() error { return h.clean("vm1") })
}

func TestKeptAttachFailingAtAnyCallLeavesNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			h := domains(t)
			if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
				t.Fatal(err)
			}
			req := vmnetd.Request{VM: "vm1", ID: "net0", Live: true, Config: true}
			h.w.FailAt(k, after)
			_, err := h.agent.Attach(t.Context(), Caller{}, req)
			over := h.w.Calls() < k
			h.w.FailAt(0, false)
			if over {
				break
			}
			if err != nil {
				eventually(t, fmt.Sprintf("call %d (after it took effect: %v)", k, after), func() error {
					if left := h.w.Defined("vm1"); len(left) != 0 {
						return fmt.Errorf("defined: %+v", left)
					}
					return h.clean("vm1")
				})
			}
			attach(t, h.agent, req)
			eventually(t, fmt.Sprintf("call %d: the next attach", k), func() error { return h.works("vm1", "net0") })
			if left := h.w.Defined("vm1"); len(left) != 1 {
				t.Errorf("call %d: the next attach: %+v", k, left)
			}
			h.halt()
		}
	}
}

func TestAPlaceThatLibvirtCannotNameIsRefused(t *testing.T) {
	h := domains(t)
	for addr, bus := range map[string]string{"": "pci.0", "0000:05:00.0": "pci.5", "5": "", "0000:05:20.0": ""} {
		req := vmnetd.Request{VM: "vm1", ID: "net0", Config: true, Bus: bus, Addr: addr}
		if att, err := h.agent.Attach(t.Context(), Caller{}, req); !errors.Is(err, vmnetd.ErrInvalid) || vmnetd.NextOf(err) == "" {
			t.Errorf("--bus %q --addr %q: %+v, %v", bus, addr, att, err)
		}
		if text, err := h.agent.DomainXML(t.Context(), Caller{}, req); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("--bus %q --addr %q: %s, %v", bus, addr, text, err)
		}
	}
	if got := h.w.Defined("vm1"); len(got) != 0 {
		t.Errorf("defined: %+v", got)
	}
	attach(t, h.agent, vmnetd.Request{VM: "vm1", ID: "net0", Config: true, Addr: "0000:05:00.0"})
	if got := h.w.Defined("vm1"); len(got) != 1 || got[0].Addr != "0000:05:00.0" {
		t.Errorf("defined: %+v", got)
	}
}

func TestXMLSaysWhatPolicyWouldNotGiveUnasked(t *testing.T) {
	h := domains(t)
	for mode, asks := range map[vmnetd.Mode]bool{"": false, vmnetd.Bridge: false, vmnetd.Private: true} {
		text, err := h.agent.DomainXML(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", Mode: mode})
		if err != nil || strings.Contains(text, "private") != asks || strings.Contains(text, domxml.NS) != asks {
			t.Errorf("mode %q: %s, %v", mode, text, err)
		}
		if _, err := domxml.Parse("<domain><name>vm1</name><devices>" + text + "</devices></domain>"); err != nil {
			t.Errorf("mode %q: %s: %v", mode, text, err)
		}
	}
}

func TestXMLKeepsTheAddressesThatAreAskedFor(t *testing.T) {
	h := domains(t)
	text, err := h.agent.DomainXML(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", IPs: []string{"192.0.2.9", "2001:db8::9"}})
	if err != nil || !strings.Contains(text, "ips='192.0.2.9,2001:db8::9'") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestXMLBringsTheIDThatWasAskedFor(t *testing.T) {
	h := domains(t)
	for id, asks := range map[string]bool{"": false, "net3": false, "web0": true} {
		text, err := h.agent.DomainXML(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: id})
		element, rest, asked := strings.Cut(text, "\n<!-- ")
		_, meta, _ := strings.Cut(rest, ":\n")
		dom, bad := domxml.Parse("<domain><name>vm1</name><metadata>" + strings.TrimSuffix(meta, "-->") + "</metadata><devices>" + element + "</devices></domain>")
		if err != nil || bad != nil || asked != asks {
			t.Errorf("id %q: %s, %v, %v", id, text, err, bad)
		} else if got := dom.NICOf(dom.Interfaces[0]).ID; id != "" && got != id {
			t.Errorf("id %q: the hook would make %s of\n%s", id, got, text)
		}
	}
}

// TestHookDuringALookHasTheLastWord: what the look knew of the VM's NICs is old.
func TestHookDuringALookHasTheLastWord(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	var xml string
	err := h.w.StartDomain("vm1", true, func(vm, op, sub, text string) error {
		xml = text
		return h.hook(vm, op, sub, text)
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
	hooks := make(chan error, 1)
	h.w.At("Plugged", 1, func() error {
		hooks <- errors.Join(h.hook("vm1", "stopped", "end", ""), h.hook("vm1", "prepare", "begin", xml))
		return nil
	})
	h.w.TakeOut("vm1", "net0")
	if err := <-hooks; err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	h.agent.turns.do("vm1", func(context.Context) { close(done) })
	<-done
	if r, ok := h.agent.store.get(key{"vm1", "net0"}); !ok || r.Prepared.IsZero() || r.Phase != vmnetd.Pending || len(h.w.DeviceNames()) != 1 {
		t.Errorf("%+v, devices %v", r, h.w.DeviceNames())
	}
}

func TestOneNameOfTwoVMsIsRefused(t *testing.T) {
	h := domains(t, element("vm1", "net0", "lan"))
	h.w.StartVM("vm1")
	attach(t, h.agent, vmnetd.Request{VM: "vm1", ID: "net0"})
	if err := h.w.StartDomain("vm1", true, h.hook); !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "two VMs") {
		t.Errorf("start: %v", err)
	}
	if err := h.works("vm1", "net0"); err != nil {
		t.Error(err)
	}
	if err := h.agent.DomainHook(t.Context(), Caller{UID: 1000}, "vm1", "release", "end", ""); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("a hook that is not root's: %v", err)
	}
}

func TestADeviceWithTheNameOfOursThatIsAnothersStays(t *testing.T) {
	ifname := vmnetd.Ifname("vm2", "net0")
	renamed := element("vm1", "net0", "lan") // its definition was vm2's before
	renamed.Target = ifname
	h := domains(t, renamed)
	if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
	h.w.StartVM("vm2")
	refused := func(why string) {
		t.Helper()
		if _, err := h.agent.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm2", ID: "net0"}); !errors.Is(err, vmnetd.ErrBusy) || !contains(err, why) {
			t.Errorf("%v does not say %q", err, why)
		}
		if names := h.w.DeviceNames(); !slices.Equal(names, []string{ifname}) || len(h.agent.List("vm2")) > 0 {
			t.Errorf("devices: %v, vm2's attachments: %+v", names, h.agent.List("vm2"))
		}
	}
	refused("is vm1/net0's")
	if err := h.agent.store.drop(key{"vm1", "net0"}); err != nil { // as when the state was lost
		t.Fatal(err)
	}
	refused("belongs to vm1/net0")
}

func TestANICThatWasDetachedIsBackAtTheNextStart(t *testing.T) {
	h := domainsWith(t, testConfig(vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}))
	start := func() {
		t.Helper()
		if err := h.w.StartDomain("vm1", true, h.hook); err != nil {
			t.Fatal(err)
		}
		eventually(t, "attached", func() error { return h.works("vm1", "net0") })
	}
	start()
	detachAll(t, h, "vm1")
	h.w.StopDomain("vm1", h.hook)
	eventually(t, "the end is seen", is(func() bool { return !h.agent.store.isHeld(key{"vm1", "net0"}, "vm1 run 1") }))
	h.w.RestartLibvirtd()
	start()
}
