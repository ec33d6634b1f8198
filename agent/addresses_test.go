package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/learn"
)

func ipsOf(list []heard) (ips []string) {
	for _, h := range list {
		ips = append(ips, h.IP.String())
	}
	return ips
}

func TestAFloodOfClaimsChangesOneAddressASecondAndNoLease(t *testing.T) {
	now := time.Unix(1000, 0)
	leased := netip.MustParseAddr("192.0.2.9")
	list := hear(nil, learn.Event{IP: leased, How: learn.ByLease, Until: now.Add(time.Hour)}, now, 4)
	for i := range 10000 {
		ip := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
		list = hear(list, learn.Event{IP: ip, How: learn.ByARP}, now, 4)
		if len(list) > 4 {
			t.Fatalf("%d addresses", len(list))
		}
	}
	before := fmt.Sprint(ipsOf(list))
	if before != "[192.0.2.9 192.0.0.0 192.0.0.1 192.0.0.2]" {
		t.Errorf("the first claims are kept while the flood lasts: %s", before)
	}
	own := netip.MustParseAddr("198.51.100.7")
	list = hear(list, learn.Event{IP: own, How: learn.ByProbe}, now.Add(time.Second), 4)
	if got := fmt.Sprint(ipsOf(list)); got != "[192.0.2.9 192.0.0.1 192.0.0.2 198.51.100.7]" {
		t.Errorf("a second later one that was heard of longest ago makes room: %s", got)
	}
	next := netip.MustParseAddr("192.0.2.10")
	list = hear(list, learn.Event{IP: next, How: learn.ByLease}, now.Add(time.Second), 4) // one that does not end
	for i := range 100 {
		list = hear(list, learn.Event{IP: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), How: learn.ByARP}, now.Add(time.Duration(2+2*i)*time.Second), 4)
	}
	if got := fmt.Sprint(ipsOf(list)); got != "[192.0.2.9 192.0.2.10 10.0.0.98 10.0.0.99]" {
		t.Errorf("a lease waits for no claim and gives way to none: %s", got)
	}
}

func TestAnAddressGoesWithItsLease(t *testing.T) {
	now := time.Unix(1000, 0)
	leased, claimed := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("fe80::1")
	list := hear(nil, learn.Event{IP: leased, How: learn.ByLease, Until: now.Add(time.Minute)}, now, 4)
	list = hear(list, learn.Event{IP: claimed, How: learn.ByDAD}, now, 4)
	list = hear(list, learn.Event{IP: leased, How: learn.ByARP}, now, 4)
	if len(list) != 2 || list[0].Until.IsZero() || list[0].How != learn.ByLease {
		t.Errorf("an announcement ended a lease: %+v", list)
	}
	if got := fmt.Sprint(ipsOf(hear(list, learn.Event{IP: leased, Gone: true}, now, 4))); got != "[fe80::1]" {
		t.Errorf("%s", got)
	}
}

func TestALeaseInTheFileCountsFromTheBoot(t *testing.T) {
	was := heard{IP: netip.MustParseAddr("192.0.2.7"), How: learn.ByLease, At: time.Now(), Until: time.Now().Add(time.Hour)}
	text, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	end := (proc.SinceBoot() + time.Hour).Seconds()
	var file struct{ Until float64 }
	if err := json.Unmarshal(text, &file); err != nil || file.Until < end-60 || file.Until > end+1 {
		t.Errorf("%s: %v; %.0f s after the boot is the end", text, err, end)
	}
	var now heard
	if err := json.Unmarshal(text, &now); err != nil {
		t.Fatal(err)
	}
	if now.IP != was.IP || now.How != was.How || now.At.Sub(was.At).Abs() > time.Second || now.Until.Sub(was.Until).Abs() > time.Second {
		t.Errorf("%+v was %+v", now, was)
	}
	if text, err := json.Marshal(heard{IP: was.IP, How: was.How}); err != nil || strings.Contains(string(text), "until") {
		t.Errorf("without a lease: %s, %v", text, err)
	}
}
