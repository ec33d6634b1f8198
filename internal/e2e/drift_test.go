package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestUplinkMTUIsFollowedBothWays(t *testing.T) {
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	att := b.attach("vm1")
	b.host.Set(t, "u0", rtnl.MTU(1400))
	b.eventually("lowered", testkit.Patience, func() error {
		if list := b.list(); list[0].Phase != vmnetd.Attached || !strings.Contains(list[0].Problem, "1400") {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	b.host.Set(t, "u0", rtnl.MTU(1500))
	b.eventually("raised again", testkit.Patience, func() error {
		if list, dev := b.list(), b.host.Link(t, att.Ifname); list[0].Problem != "" || dev.MTU != 1500 || dev.Index != att.Ifindex {
			return fmt.Errorf("%+v, %+v", list, dev)
		}
		return nil
	})
	b.stop()
}

func TestMACThatWasChangedUnderAGuestIsPutRight(t *testing.T) {
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	att := b.attach("vm1")
	other, _ := net.ParseMAC("02:00:00:00:00:99")
	b.host.Set(t, att.Ifname, rtnl.MAC(other))
	b.eventually("put right", testkit.Patience, func() error {
		if mac := b.host.Link(t, att.Ifname).MAC.String(); mac != att.MAC {
			return fmt.Errorf("the device has MAC %s", mac)
		}
		return nil
	})
	b.stop()
}

func TestUplinkThatTakesAGuestsMACIsNamed(t *testing.T) {
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	att := b.attach("vm1")
	mac, _ := net.ParseMAC(att.MAC)
	b.host.Set(t, "u0", rtnl.MAC(mac))
	b.eventually("said", testkit.Patience, func() error {
		if r := b.run("status"); !strings.Contains(r.out, att.MAC+" is that of vm1/net0") {
			return fmt.Errorf("%s", r.out)
		}
		return nil
	})
	b.stop()
}

func TestUplinkRenamedLiveIsFollowed(t *testing.T) {
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	att := b.attach("vm1")
	b.host.Set(t, "u0", rtnl.Name("enp9s0"))
	b.eventually("said", testkit.Patience, func() error {
		if r := b.run("status"); !strings.Contains(r.out, "enp9s0") {
			return fmt.Errorf("%s", r.out)
		}
		return nil
	})
	if list := b.list(); list[0].Phase != vmnetd.Attached || list[0].Ifindex != att.Ifindex {
		t.Errorf("the attachment: %+v", list)
	}
	b.attach("vm1", "--id", "net1")
	b.stop()
}

func TestCarrierLossIsShownAndDeletesNothing(t *testing.T) {
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	att := b.attach("vm1")
	carrier := func(up bool, link string) {
		if err := b.outside.Conn().SetUp(t.Context(), b.outside.Link(t, "o0").Index, up); err != nil {
			t.Fatal(err)
		}
		b.eventually("carrier "+link, testkit.Patience, func() error {
			list := b.list()
			if len(list) != 1 || list[0].Link != link || list[0].Phase != vmnetd.Attached || list[0].Ifindex != att.Ifindex {
				return fmt.Errorf("%+v", list)
			}
			return nil
		})
	}
	carrier(false, "no-carrier")
	if r := b.must(1, "status", "--check"); !strings.Contains(r.out+r.err, "each other") {
		t.Errorf("status --check: %s%s", r.out, r.err)
	}
	carrier(true, "up")
	b.must(0, "status", "--check")
	b.stop()
}
