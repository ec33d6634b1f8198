package dbusapi

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

func TestTheHooksWordsAndXMLArriveWhole(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	long := "<domain>" + strings.Repeat("x", LongestXML-len("<domain></domain>")) + "</domain>"
	if err := c.DomainHook(t.Context(), "vm1", "prepare", "begin", long); err != nil {
		t.Fatal(err)
	}
	if len(f.verbs) != 1 || f.verbs[0] != "hook vm1 prepare begin "+long || f.callers[0].UID != 0 {
		t.Errorf("the agent saw %.60q… of %+v", f.verbs, f.callers)
	}
	f.fail = vmnetd.Errorf(vmnetd.ErrDenied, "no rule gives vm1/net0 network lan").WithNext("add one")
	err := c.DomainHook(t.Context(), "vm1", "prepare", "begin", "<domain/>")
	if !errors.Is(err, vmnetd.ErrDenied) || err.Error() != "no rule gives vm1/net0 network lan" || vmnetd.NextOf(err) != "add one" {
		t.Errorf("a refusal: %v", err)
	}
}

func TestAHookThatMakesNoSenseReachesNobody(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	for name, args := range map[string][4]string{
		"VM name":       {"../vm", "prepare", "begin", "<domain/>"},
		"operation":     {"vm1", strings.Repeat("o", longestHookOp+1), "begin", "<domain/>"},
		"sub-operation": {"vm1", "prepare", "", "<domain/>"},
		"XML":           {"vm1", "prepare", "begin", strings.Repeat("x", LongestXML+1)},
	} {
		err := c.DomainHook(t.Context(), args[0], args[1], args[2], args[3])
		if !errors.Is(err, vmnetd.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, options := range []properties{{"live": dbus.MakeVariant(true)}, {"apply": dbus.MakeVariant("yes")}} {
		if err := c.manager(t.Context(), "Import", "vm1", options).Err; !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("Import %v: %v", options, err)
		}
	}
	if f.verbs != nil {
		t.Errorf("the agent was asked: %.60q", f.verbs)
	}
}

func TestXMLAndImportCarryWhatWasAsked(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	req := vmnetd.Request{VM: "vm1", Network: "lan", Queues: 4}
	if text, err := c.DomainXML(t.Context(), req); err != nil || text != "<interface/>" || !reflect.DeepEqual(f.requests[0], req) {
		t.Errorf("%q, %v, of %+v", text, err, f.requests)
	}
	for _, o := range []vmnetd.ImportOptions{{}, {Apply: true}, {Apply: true, Revert: true}} {
		got, err := c.Import(t.Context(), "vm1", o)
		if err != nil || got.VM != "vm1" || got.Applied != o.Apply || got.Changes == nil {
			t.Errorf("%+v: %+v, %v", o, got, err)
		}
	}
	want := []string{"import vm1 {Apply:false Revert:false}", "import vm1 {Apply:true Revert:false}", "import vm1 {Apply:true Revert:true}"}
	if diff := cmp.Diff(want, f.verbs); diff != "" {
		t.Error(diff)
	}
}

func TestADetachSaysFromWhereByBothCalls(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	sel := agent.Selector{ID: "net0", Live: true, Config: true}
	if _, err := c.Detach(t.Context(), "vm1", sel); err != nil {
		t.Fatal(err)
	}
	path := attachmentPath("vm1", "net0")
	if err := c.manager(t.Context(), "Detach", path, properties{"config": dbus.MakeVariant(true)}).Err; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]agent.Selector{sel, {ID: "net0", Config: true}}, f.selectors); diff != "" {
		t.Error(diff)
	}
	if err := c.manager(t.Context(), "Detach", path, properties{"id": dbus.MakeVariant("net1")}).Err; !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("another NIC than the path's: %v", err)
	}
}

func TestAPingEndsWithItsContext(t *testing.T) {
	c, _ := pair(t, &fake{})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := c.Ping(ctx); err == nil {
		t.Error("a ping without time was answered")
	}
}
