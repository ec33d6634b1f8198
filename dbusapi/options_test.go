package dbusapi

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

func TestARequestArrivesAsItWasSent(t *testing.T) {
	for _, req := range []vmnetd.Request{
		{VM: "vm1"},
		{VM: "vm1", ID: "net3", Network: "lan", Uplink: "wan", Mode: vmnetd.Private, MAC: "52:54:00:00:00:01", Queues: 8, Via: "qmp:/x", Bus: "rp1", Addr: "0x3"},
		{VM: "vm1", Via: "libvirt", Live: true, Config: true, Handover: "fd", Incoming: true},
		{VM: "vm1", Handover: "name"},
		{VM: "vm1", IPs: []string{"192.0.2.101", "2001:db8::101"}},
		{VM: "c1", Via: "netns:/run/netns/c1", Name: "eth0", IPs: []string{"192.0.2.9/24"}, Routes: []string{"default via 192.0.2.1"}},
	} {
		got, err := decodeRequest(req.VM, encodeRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(req, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEveryIntegerTypeOfABusIsANumberOfQueues(t *testing.T) {
	for _, four := range []any{int32(4), uint32(4), int16(4), uint16(4), int64(4), uint64(4), byte(4)} {
		req, err := decodeRequest("vm1", properties{"queues": dbus.MakeVariant(four)})
		if err != nil || req.Queues != 4 {
			t.Errorf("%T: %d, %v", four, req.Queues, err)
		}
	}
}

func TestOptionsThatMakeNoSenseAreInvalidAndNamed(t *testing.T) {
	for name, bad := range map[string]properties{
		"queue":    {"queue": dbus.MakeVariant(4)},
		"vm":       {"vm": dbus.MakeVariant("vm2")},
		"queues":   {"queues": dbus.MakeVariant("4")},
		"queues ":  {"queues": dbus.MakeVariant(int32(-1))},
		"queues.":  {"queues": dbus.MakeVariant(uint64(1) << 63)},
		"queues/":  {"queues": dbus.MakeVariant(4.5)},
		"network":  {"network": dbus.MakeVariant(4)},
		"uplink":   {"uplink": dbus.MakeVariant(strings.Repeat("x", 5000))},
		"via":      {"via": dbus.MakeVariant(properties{"x": dbus.MakeVariant(1)})},
		"mode":     {"mode": dbus.MakeVariant("router")},
		"MAC":      {"mac": dbus.MakeVariant("01:00:00:00:00:00")},
		"NIC id":   {"id": dbus.MakeVariant("../x")},
		"addr":     {"addr": {}},
		"live":     {"live": dbus.MakeVariant("yes")},
		"handover": {"handover": dbus.MakeVariant("FD")},
		"ips":      {"ips": dbus.MakeVariant("192.0.2.1")},
		"ips ":     {"ips": dbus.MakeVariant(make([]string, longestList+1))},
		"IP":       {"ips": dbus.MakeVariant([]string{"192.0.2.300"})},
		"route":    {"routes": dbus.MakeVariant([]string{"default"}), "via": dbus.MakeVariant("netns:/x")},
		"route ":   {"routes": dbus.MakeVariant([]string{"default via 192.0.2.1"})},
		"name":     {"name": dbus.MakeVariant("eth0")},
		"name ":    {"name": dbus.MakeVariant("a/b"), "via": dbus.MakeVariant("netns:/x")},
		"path":     {"via": dbus.MakeVariant("netns:x")},
		"control":  {"via": dbus.MakeVariant("netns:/run/\x1b[2J")},
		"bus":      {"via": dbus.MakeVariant("netns:/x"), "bus": dbus.MakeVariant("rp1")},
	} {
		_, err := decodeRequest("vm1", bad)
		if !errors.Is(err, vmnetd.ErrInvalid) || !strings.Contains(err.Error(), strings.TrimRight(name, " ./")) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, vm := range []string{"", "a/b", "..", "-x", "a\x1bb", strings.Repeat("v", 129)} {
		if _, err := decodeRequest(vm, nil); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("VM %q: %v", vm, err)
		}
	}
	for _, sel := range []agent.Selector{{ID: "a", All: true}, {ID: "a", MAC: "52:54:00:00:00:01"}, {MAC: "x"}, {ID: "/"}} {
		if _, err := decodeSelector("vm1", encodeSelector(sel)); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%+v: %v", sel, err)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("vm1", "queues", "4", byte(0), int64(4))
	f.Add("vm1", "mac", "52:54:00:00:00:01", byte(1), int64(-1))
	f.Fuzz(func(t *testing.T, vm, key, text string, kind byte, n int64) {
		value := []any{
			text, n, int32(n), uint64(n), n > 0, float64(n), []string{text}, byte(n), dbus.ObjectPath(text),
			dbus.MakeVariant(text), properties{key: dbus.MakeVariant(n)}, []any{n, text}, dbus.UnixFDIndex(n),
		}[int(kind)%13]
		options := properties{key: dbus.MakeVariant(value), "id": dbus.MakeVariant(text)}
		if req, err := decodeRequest(vm, options); err == nil {
			again, err := decodeRequest(req.VM, encodeRequest(req))
			if err != nil || !reflect.DeepEqual(again, req) {
				t.Fatalf("%+v, sent again: %+v, %v", req, again, err)
			}
		} else if !errors.Is(err, vmnetd.ErrInvalid) {
			t.Fatalf("%v is not Invalid", err)
		}
		if _, err := decodeSelector(vm, options); err != nil && !errors.Is(err, vmnetd.ErrInvalid) {
			t.Fatalf("%v is not Invalid", err)
		}
	})
}
