package vmnetd

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestIfnameIsStableShortAndPlain(t *testing.T) {
	if got, want := Ifname("vm1", "net0"), "vmn"; !strings.HasPrefix(got, want) || len(got) != 13 || got != Ifname("vm1", "net0") {
		t.Errorf("Ifname = %q", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		vm, id := rapid.String().Draw(t, "vm"), rapid.String().Draw(t, "id")
		name := Ifname(vm, id)
		if len(name) > MaxIfname || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			t.Fatalf("Ifname(%q, %q) = %q", vm, id, name)
		}
	})
}

func TestAliasReadsBackForEveryLegalName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vm := rapid.String().Filter(func(s string) bool { return CheckVMName(s) == nil }).Draw(t, "vm")
		id := rapid.StringMatching(`[a-z][a-z0-9._-]{0,31}`).Draw(t, "id")
		gotVM, gotID, ok := ParseAlias(Alias(vm, id))
		if !ok || gotVM != vm || gotID != id {
			t.Fatalf("ParseAlias = %q, %q, %v", gotVM, gotID, ok)
		}
		if len(Alias(vm, id)) > 255 {
			t.Fatalf("the alias has %d bytes, ifalias takes 255", len(Alias(vm, id)))
		}
	})
	for _, alias := range []string{"", "vmnetd:", "vmnetd:x", "vmnetd:/net0", "vmnetd:vm/", "vmnetd:../x/net0", "uplink to switch A"} {
		if _, _, ok := ParseAlias(alias); ok {
			t.Errorf("ParseAlias(%q) took it for ours", alias)
		}
	}
}

func TestNamesThatCouldEscapeAreRefused(t *testing.T) {
	for _, name := range []string{"", ".", "..", "-x", "a/b", "/etc", "a\x00b", "a\x1b[31m", "a\nb", "\xff", strings.Repeat("x", 129)} {
		if err := CheckVMName(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("CheckVMName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"vm1", "101", "..x", "ü", "a b", strings.Repeat("x", 128)} {
		if err := CheckVMName(name); err != nil {
			t.Errorf("CheckVMName(%q) = %v", name, err)
		}
	}
	for _, id := range []string{"", "0net", "net/0", "net 0", "-n", "nét", strings.Repeat("n", 33)} {
		if err := CheckID(id); !errors.Is(err, ErrInvalid) {
			t.Errorf("CheckID(%q) = %v", id, err)
		}
	}
}

func TestDerivedMACsAreLocalUnicastAndStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed, id := rapid.String().Draw(t, "seed"), rapid.String().Draw(t, "id")
		mac := DeriveMAC(seed, id)
		if _, err := ParseMAC(mac.String()); err != nil || mac[0]&2 == 0 || mac.String() != DeriveMAC(seed, id).String() {
			t.Fatalf("DeriveMAC = %s, %v", mac, err)
		}
	})
	if DeriveMAC("a", "net0").String() == DeriveMAC("a", "net1").String() {
		t.Error("two NICs of one VM have one MAC")
	}
}

func TestMACsThatNoNICCanHaveAreRefused(t *testing.T) {
	for _, mac := range []string{"", "x", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:00:00:00:00:00:00:01"} {
		if _, err := ParseMAC(mac); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseMAC(%q) = %v", mac, err)
		}
	}
}

func TestPrintableNeverMovesATerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		out := Printable(in)
		if !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Fatalf("Printable(%q) = %q", in, out)
		}
	})
	if got := Printable("a\x1b[31m"); got != `a\x1b[31m` {
		t.Errorf("Printable = %s", got)
	}
}

func TestModesAreReadAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]Mode{"bridge": Bridge, "passthrough": Passthru, "passthru": Passthru, "vepa": VEPA, "private": Private, "l2": L2, "l3": L3, "switched": Switched} {
		if got, err := ParseMode(in); got != want || err != nil {
			t.Errorf("ParseMode(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"l3s", "auto", "", "Bridge"} {
		if _, err := ParseMode(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseMode(%q) = %v", in, err)
		}
	}
	if _, err := ParseMode("l3s"); !strings.Contains(err.Error(), "this host's own stack") {
		t.Errorf("ParseMode(l3s) = %v", err)
	}
	if got := Bridge.WithKind(); got != "macvtap bridge" {
		t.Errorf("WithKind = %q", got)
	}
}

func TestErrorsKeepClassCauseAndAdvice(t *testing.T) {
	err := fmt.Errorf("on the way: %w", Errorf(ErrBusy, "cannot open: %w", fs.ErrPermission).WithNext("ask root"))
	if !errors.Is(err, ErrBusy) || !errors.Is(err, fs.ErrPermission) || NextOf(err) != "ask root" {
		t.Errorf("lost something of %v", err)
	}
	if c := ClassOf(err); c.Exit != 5 || c.Name != "Busy" {
		t.Errorf("ClassOf = %+v", c)
	}
	if c := ClassOf(errors.New("anything")); c.Exit != 1 {
		t.Errorf("ClassOf of a plain error = %+v", c)
	}
}
