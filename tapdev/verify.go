package tapdev

import (
	"bytes"
	"fmt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// differs says in which property that cannot be changed under a guest a device
// is not what is asked for; nil when in none.
func differs(spec Spec, l rtnl.Link) error {
	k := spec.must()
	switch now, known := kindOf(l); {
	case !known || now.name != k.name:
		return fmt.Errorf("kind %s, not %s", kindName(l.Kind), k.name)
	case l.Alias != vmnetd.Alias(spec.VM, spec.ID):
		return fmt.Errorf("it belongs to %s", vmnetd.Printable(l.Alias))
	case !k.lower.mayBecome(spec.Lower, l):
		return fmt.Errorf("it stands on the device with index %d, not %d", k.lower.of(l), spec.Lower)
	case k.differs != nil:
		return k.differs(spec, l)
	}
	return nil
}

// verify says what of a finished device is not as it has to be.
func verify(spec Spec, l rtnl.Link) error {
	if err := differs(spec, l); err != nil {
		return err
	}
	switch {
	case l.Name != spec.Ifname:
		return fmt.Errorf("it is named %s", l.Name)
	case spec.MTU != 0 && l.MTU != spec.MTU:
		return fmt.Errorf("MTU %d, not %d", l.MTU, spec.MTU)
	case l.Group != Group:
		return fmt.Errorf("group %d, not %d", l.Group, Group)
	case l.Inet6 && !l.AddrGenNone:
		return fmt.Errorf("IPv6 would make an address on it")
	case l.IPv6:
		return fmt.Errorf("IPv6 is on")
	}
	return verifyFilter(spec, l)
}

// verifyFilter says what of what a device receives is not as it has to be.
func verifyFilter(spec Spec, l rtnl.Link) error {
	switch {
	case spec.Filtered:
		return nil
	case !bytes.Equal(l.MAC, spec.must().macFor(spec.MAC)):
		return fmt.Errorf("MAC %s, not %s", l.MAC, spec.must().macFor(spec.MAC))
	case spec.must().allMulti && !l.AllMulti:
		return fmt.Errorf("allmulticast is off")
	}
	return nil
}

func kindName(kind string) string {
	if kind == "" {
		return "device"
	}
	return kind
}
