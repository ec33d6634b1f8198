package main

import (
	"os/exec"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/failover"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// soon is how long a guest may be lost at most. Looking at carriers takes up to
// 50 ms, arp_ping 400 ms; the rest is for a slow machine.
const soon = time.Second

func vmnetdProgram(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("vmnetd") // this program: testscript.Main has put it there
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestVMSilentGuestsComeBackAfterAFailover is one row of each kind; the whole
// table is in make bench.
func TestVMSilentGuestsComeBackAfterAFailover(t *testing.T) {
	testkit.Require(t, "vm")
	daemon := &failover.Daemon{Program: vmnetdProgram(t)}
	both := []testkit.Failure{testkit.SwitchDown, testkit.AdminDown}
	for name, c := range map[string]failover.Case{
		"bond, 1 guest":       {Uplink: failover.Bond, Guests: 1, Failures: both, Who: daemon},
		"bond, 50 guests":     {Uplink: failover.Bond, Guests: 50, Failures: both, Who: daemon},
		"team, 50 guests":     {Uplink: failover.Team, Guests: 50, Failures: both, Who: daemon},
		"arp_ping, 10 guests": {Uplink: failover.TeamARP, Guests: 10, Failures: []testkit.Failure{testkit.Mute}, Who: daemon},
	} {
		t.Run(name, func(t *testing.T) {
			c.Patience = 5 * time.Second
			for _, r := range failover.Measure(t, c) {
				t.Log(r)
				if _, worst, ended := r.Outage(); !ended || worst > soon {
					t.Errorf("%s: out of reach for %s", r.Failure, worst)
				}
				if a := r.Announced; a == nil || a.Guests != c.Guests || a.Of != c.Guests || r.Noticed < 0 {
					t.Errorf("%s: announced %+v, noticed after %s", r.Failure, a, r.Noticed)
				}
			}
		})
	}
}

func TestVMSilentGuestsAreLostWhereNobodyAnnouncesThem(t *testing.T) {
	testkit.Require(t, "vm")
	for name, uplink := range map[string]failover.Uplink{"bond": failover.Bond, "team": failover.Team} {
		t.Run(name, func(t *testing.T) {
			for _, r := range failover.Measure(t, failover.Case{
				Uplink: uplink, Guests: 1, Who: failover.Nobody{}, Failures: []testkit.Failure{testkit.SwitchDown}, Patience: 3 * time.Second,
			}) {
				t.Log(r)
				if _, _, ended := r.Outage(); ended || r.First != 0 {
					t.Error("it is heard of again: what is the daemon for?")
				}
			}
		})
	}
}

func TestVMTheKernelAnnouncesGuestsByAccident(t *testing.T) {
	testkit.Require(t, "vm")
	for _, r := range failover.Measure(t, failover.Case{
		Uplink: failover.Bond, Guests: 1, Who: failover.Kernel{}, Failures: []testkit.Failure{testkit.SwitchDown}, Patience: 3 * time.Second,
	}) {
		t.Log(r)
		if _, worst, ended := r.Outage(); !ended || worst > soon {
			t.Errorf("out of reach for %s", worst)
		}
	}
}
