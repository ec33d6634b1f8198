package dbusapi

import (
	"testing"

	"github.com/godbus/dbus/v5/introspect"
	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func TestCodeAndContractAgreeOnMethods(t *testing.T) {
	ifaces, err := interfaces()
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for name, i := range ifaces {
		for _, m := range i.Methods {
			want[name+"."+m.Name] = signature(m.Args, "in")
		}
	}
	for name, members := range methods() {
		for member, m := range members {
			got[name+"."+member] = m.in
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contract (-), code (+):\n%s", diff)
	}
}

func signature(args []introspect.Arg, direction string) string {
	var s string
	for _, a := range args {
		if a.Direction == direction || a.Direction == "" && direction == "in" {
			s += a.Type
		}
	}
	return s
}

func TestCodeAndContractAgreeOnProperties(t *testing.T) {
	ifaces, err := interfaces()
	if err != nil {
		t.Fatal(err)
	}
	s := New(&fake{}, Options{})
	team := &vmnetd.TeamState{Ports: []vmnetd.TeamPort{{Name: "eno1"}}, LACP: &vmnetd.TeamLACP{}}
	for name, props := range map[string]properties{
		attachIface:  attachmentProps(vmnetd.Attachment{}),
		uplinkIface:  uplinkProps(vmnetd.UplinkState{Announced: &vmnetd.Announcement{}}),
		teamIface:    teamProps(team),
		bondIface:    bondProps(&vmnetd.BondState{Options: map[string]string{"a": "b"}, Ports: []vmnetd.BondPort{{Name: "eno1"}}}),
		managerIface: s.managerProps(),
	} {
		want, got := map[string]string{}, map[string]string{}
		for _, p := range ifaces[name].Properties {
			want[p.Name] = p.Type
		}
		for n, v := range props {
			got[n] = v.Signature().String()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: contract (-), code (+):\n%s", name, diff)
		}
	}
}

func TestPathsAreWrittenAsSdBusWritesThem(t *testing.T) {
	for name, want := range map[string]string{ // sd_bus_path_encode of systemd 252
		"": "_", "vm1": "vm1", "101": "_3101", "db-1.example": "db_2d1_2eexample", "a_b": "a_5fb", "ü": "_c3_bc", "_": "_5f", "net0": "net0",
	} {
		if got := escape(name); got != want {
			t.Errorf("escape(%q) = %q, want %q", name, got, want)
		}
		if back, ok := unescape(want); !ok || back != name {
			t.Errorf("unescape(%q) = %q, %v", want, back, ok)
		}
	}
	for _, bad := range []string{"", "1", "_3", "_zz", "_3A", "a_", "_61", "a/b"} {
		if name, ok := unescape(bad); ok {
			t.Errorf("unescape(%q) = %q: an object would have two paths", bad, name)
		}
	}
}

func FuzzPaths(f *testing.F) {
	f.Add("vm1", "net0")
	f.Fuzz(func(t *testing.T, vm, id string) {
		path := attachmentPath(vm, id)
		if !path.IsValid() {
			t.Fatalf("%q/%q: invalid path %s", vm, id, path)
		}
		v, i, ok := parseAttachment(path)
		if !ok || v != vm || i != id {
			t.Fatalf("%q/%q came back as %q/%q, %v", vm, id, v, i, ok)
		}
	})
}
