package domxml

import (
	"errors"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestTheTextOfAnInterfaceIsLibvirtsOwn(t *testing.T) {
	const (
		first  = "<interface type='ethernet'><target dev='vmna'/></interface>"
		second = "<interface type='ethernet'>\n  <link state='down'/>\n  <target dev='vmnb'/><x:odd xmlns:x='u'>&amp;</x:odd></interface>"
		domain = "<domain><name>vm1</name><devices>" + first + "\n" + second + "</devices></domain>"
	)
	for target, want := range map[string]string{"vmna": first, "vmnb": second} {
		if got, err := InterfaceText(domain, target); err != nil || got != want {
			t.Errorf("%s: %q, %v", target, got, err)
		}
	}
	for target, want := range map[string]string{
		"vmna": "<interface type='ethernet'><target dev='vmna'/><link state='up'/></interface>",
		"vmnb": "<interface type='ethernet'>\n  \n  <target dev='vmnb'/><x:odd xmlns:x='u'>&amp;</x:odd><link state='up'/></interface>",
	} {
		if got, err := InterfaceWithLink(domain, target, true); err != nil || got != want {
			t.Errorf("%s: %q, %v", target, got, err)
		}
	}
	if _, err := InterfaceText(domain, "vmnc"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	if _, err := InterfaceWithLink("<domain>", "vmna", true); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("cut short: %v", err)
	}
}
