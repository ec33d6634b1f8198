package dbusapi

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

func TestEveryVerbOnUplinksReachesTheAgentAsItWasMeant(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	ctx := t.Context()
	p, err := c.Plan(ctx, []string{"team0"})
	if err != nil || p.From != "/etc/vmnetd" || len(p.Changes) != 1 || p.Empty() {
		t.Errorf("plan %+v, %v", p, err)
	}
	applied, err := c.Apply(ctx, vmnetd.ApplyOptions{ConfirmWithin: 1500 * time.Millisecond, Force: true, Uplinks: []string{"a", "b"}})
	if err != nil || applied.ID != "a1" || !applied.Changed || applied.Until.UnixMicro() != 5 {
		t.Errorf("applied %+v, %v", applied, err)
	}
	answer, err := c.Team(ctx, "team0", vmnetd.TeamRequest{Op: "set", Item: "x", Value: strings.Repeat("v", 3000), Temporary: true})
	if err != nil || answer != "answer to set" {
		t.Errorf("team %q, %v", answer, err)
	}
	conversion, err := c.Convert(ctx, "team0", "bond", true)
	if err != nil || conversion.From != "team0" || conversion.To != "bond" {
		t.Errorf("conversion %+v, %v", conversion, err)
	}
	for _, err := range []error{
		c.Confirm(ctx, ""), c.Rollback(ctx, "a1"), c.Move(ctx, "wan", "bond0"), c.SetDrain(ctx, "team0", "eno1", true),
		c.SetHold(ctx, "wan", time.UnixMicro(7)), c.SetHold(ctx, "wan", time.Time{}),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		`plan ["team0"]`, `apply {ConfirmWithin:1.5s NoConfirm:false Force:true Uplinks:[a b]}`,
		`team "team0" {Op:set Port: Item:x Value:` + strings.Repeat("v", 3000) + ` Temporary:true}`, `convert "team0" "bond" true`,
		`confirm ""`, `rollback "a1"`, `move "wan" "bond0"`, `drain "team0" "eno1" true`, `hold "wan" true`, `hold "wan" true`,
	}
	if diff := cmp.Diff(want, f.verbs); diff != "" {
		t.Error(diff)
	}
	for i, who := range f.callers[1:] { // plan has no caller
		if who.PID == 0 {
			t.Errorf("%s: the agent does not know who asked", f.verbs[i+1])
		}
	}
}

// aTeam is an uplink as the agent tells of it.
func aTeam() *vmnetd.UplinkState {
	return &vmnetd.UplinkState{
		Name: "team0", Kind: vmnetd.UplinkTeam, State: vmnetd.StateUp, Path: "eno1", Since: time.UnixMicro(100),
		Announced: &vmnetd.Announcement{At: time.UnixMicro(99), Guests: 3, Of: 3, TookUs: 4000, FirstU: 200, Why: "failover"},
		Team: &vmnetd.TeamState{Runner: "lacp", ActivePort: "eno1", Controller: "running", Ours: true, PID: 5, LACP: &vmnetd.TeamLACP{}, Ports: []vmnetd.TeamPort{
			{Name: "eno1", Link: true, Prio: 100, Actor: []string{"activity"}, Watches: []vmnetd.TeamWatch{{Name: "ethtool", Up: true}, {Name: "arp_ping"}}},
			{Name: "eno2", Link: true, Prio: -5},
		}},
	}
}

func TestAnObjectOfATeamHasTheVerbsOfUplinkAndTeam(t *testing.T) {
	f := &fake{more: []vmnetd.UplinkState{*aTeam()}}
	c, _ := pair(t, f)
	const path = "/org/vmnetd1/uplink/team0"
	for _, call := range []struct {
		method string
		args   []any
		verb   string
		answer string
	}{
		{"Uplink.Plan", nil, `plan ["team0"]`, `"from":"/etc/vmnetd"`},
		{"Uplink.Apply", []any{properties{"no_confirm": dbus.MakeVariant(true)}}, `apply {ConfirmWithin:0s NoConfirm:true Force:false Uplinks:[team0]}`, "a1"},
		{"Uplink.Confirm", []any{"a1"}, `confirm "a1"`, ""},
		{"Uplink.Rollback", []any{"a1"}, `rollback "a1"`, ""},
		{"Uplink.Move", []any{"x"}, `move "team0" "x"`, ""},
		{"Uplink.SetDrain", []any{"eno1", true}, `drain "team0" "eno1" true`, ""},
		{"Uplink.SetHold", []any{uint64(7)}, `hold "team0" true`, ""},
		{"Team.PortAdd", []any{"eno3"}, `team "team0" {Op:port-add Port:eno3 Item: Value: Temporary:true}`, ""},
		{"Team.PortRemove", []any{"eno1"}, `team "team0" {Op:port-remove Port:eno1 Item: Value: Temporary:true}`, ""},
		{"Team.PortConfig", []any{"eno1"}, `team "team0" {Op:port-config Port:eno1 Item: Value: Temporary:true}`, "answer to port-config"},
		{"Team.SetPortConfig", []any{"eno1", "{}"}, `team "team0" {Op:set-port-config Port:eno1 Item: Value:{} Temporary:true}`, ""},
		{"Team.Get", []any{"setup.pid"}, `team "team0" {Op:get Port: Item:setup.pid Value: Temporary:true}`, "answer to get"},
		{"Team.Set", []any{"a.b", "1"}, `team "team0" {Op:set Port: Item:a.b Value:1 Temporary:true}`, ""},
	} {
		got := c.call(t.Context(), path, busName+"."+call.method, call.args...)
		verb := f.verbs[len(f.verbs)-1]
		if got.Err != nil || verb != call.verb || !strings.Contains(bodyString(got.Body, 0), call.answer) {
			t.Errorf("%s: %v %v\nthe agent heard %s\nwant            %s", call.method, got.Body, got.Err, verb, call.verb)
		}
	}
	if err := c.call(t.Context(), "/org/vmnetd1/uplink/wan_2e100", "org.vmnetd1.Team.Get", "x").Err; !errors.Is(err, vmnetd.ErrUnsupported) {
		t.Errorf("a team's verb on a NIC: %v", err)
	}
}

func TestAPortIsDrainedByItsNameAlone(t *testing.T) {
	team := aTeam()
	team.Ports, team.Drained = []string{"eno1"}, []string{"eno2"}
	f := &fake{more: []vmnetd.UplinkState{*team}}
	c, _ := pair(t, f)
	for _, port := range []string{"eno1", "eno2"} {
		if err := c.SetDrain(t.Context(), "", port, false); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{`drain "team0" "eno1" false`, `drain "team0" "eno2" false`}, f.verbs); diff != "" {
		t.Error(diff)
	}
	if err := c.SetDrain(t.Context(), "", "eno9", true); !errors.Is(err, vmnetd.ErrNotFound) || vmnetd.NextOf(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestTheChangeOfATeamIsAChangeOfPropertiesAndOfNothingElse(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	signals := watchRaw(t, c)
	const path = dbus.ObjectPath("/org/vmnetd1/uplink/team0")
	f.tell(agent.Change{Uplink: aTeam()})
	added := next(t, signals, rootPath, "org.freedesktop.DBus.ObjectManager.InterfacesAdded")
	all, ok := added[1].(map[string]properties)
	if !ok || added[0] != path || len(all) != 2 || all[teamIface]["active_port"].Value() != "eno1" {
		t.Errorf("added %v", added)
	}
	announced, ok := all[uplinkIface]["announced"].Value().(properties)
	if !ok || announced["took_us"].Value() != int64(4000) || announced["at"].Value() != uint64(99) {
		t.Errorf("announced %v", all[uplinkIface]["announced"])
	}
	f.tell(agent.Change{Uplink: aTeam()}) // nothing new: no signal
	u := aTeam()
	u.Team.ActivePort, u.Team.Ports[0].Link = "eno2", false
	f.tell(agent.Change{Uplink: u})
	const changed = "org.freedesktop.DBus.Properties.PropertiesChanged"
	got := next(t, signals, path, changed)
	props, ok := got[1].(properties)
	delete(props, "state")
	want := properties{"active_port": dbus.MakeVariant("eno2"), "links": dbus.MakeVariant(map[string]bool{"eno1": false, "eno2": true})}
	if diff := cmp.Diff(want, props, cmp.AllowUnexported(dbus.Variant{}, dbus.Signature{})); !ok || got[0] != teamIface || diff != "" {
		t.Errorf("changed %v", got)
	}
	v := *u
	v.Path, v.Since, v.HeldUntil = "eno2", time.UnixMicro(200), time.UnixMicro(300)
	f.tell(agent.Change{Uplink: &v})
	got = next(t, signals, path, changed)
	want = properties{"path": dbus.MakeVariant("eno2"), "since": dbus.MakeVariant(uint64(200)), "held_until": dbus.MakeVariant(uint64(300))}
	if diff := cmp.Diff(want, got[1], cmp.AllowUnexported(dbus.Variant{}, dbus.Signature{})); got[0] != uplinkIface || diff != "" {
		t.Errorf("changed %v: %s", got, diff)
	}
	v.Kind, v.Team, v.Bond = vmnetd.UplinkBond, nil, &vmnetd.BondState{Mode: "active-backup", Options: map[string]string{"miimon": "100"}}
	f.tell(agent.Change{Uplink: &v})
	next(t, signals, path, changed) // its kind
	if got = next(t, signals, rootPath, objectsIface+".InterfacesAdded"); len(got) != 2 || got[0] != path {
		t.Errorf("a bond now: %v", got)
	}
	if got = next(t, signals, rootPath, objectsIface+".InterfacesRemoved"); cmp.Diff([]string{teamIface}, got[1]) != "" {
		t.Errorf("no team now: %v", got)
	}
	f.tell(agent.Change{Uplink: &v, Gone: true})
	if got = next(t, signals, rootPath, objectsIface+".InterfacesRemoved"); cmp.Diff([]string{bondIface, uplinkIface}, got[1]) != "" {
		t.Errorf("gone: %v", got)
	}
}

func TestUplinksWithoutDetailsHaveTheirInterfacesEmpty(t *testing.T) {
	for kind, iface := range map[string]string{vmnetd.UplinkTeam: teamIface, vmnetd.UplinkBond: bondIface, vmnetd.UplinkAnchor: bondIface, vmnetd.UplinkNIC: ""} {
		o := uplinkFaces(vmnetd.UplinkState{Kind: kind})
		if _, has := o[iface]; has != (iface != "") || o[uplinkIface] == nil {
			t.Errorf("%s: %v", kind, o)
		}
	}
	if o := uplinkFaces(vmnetd.UplinkState{Kind: vmnetd.UplinkExternal, Bond: &vmnetd.BondState{Mode: "802.3ad"}}); o[bondIface]["mode"].Value() != "802.3ad" {
		t.Errorf("external: %v", o)
	}
}

func TestOptionsOfUplinkVerbsThatMakeNoSenseAreRefused(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	v := dbus.MakeVariant
	for _, options := range []properties{
		{"x": v(true)}, {"force": v("yes")}, {"uplinks": v("team0")}, {"confirm_within": v(-1)}, {"confirm_within": v(1), "no_confirm": v(true)},
		{"uplinks": v(make([]string, 257))}, {"uplinks": v([]string{strings.Repeat("x", 2000)})},
	} {
		if err := c.manager(t.Context(), "Apply", options).Err; !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("apply %v: %v", options, err)
		}
	}
	for _, options := range []properties{{"port": v("../x")}, {"op": v(1)}, {"value": v(strings.Repeat("x", 70000))}, {"y": v("")}} {
		if err := c.manager(t.Context(), "Team", "team0", options).Err; !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("team %v: %v", options, err)
		}
	}
	if f.verbs != nil {
		t.Errorf("the agent was asked: %v", f.verbs)
	}
}
