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

// soonOnce measures a case up to three times, and holds that once no guest was lost
// for longer than soon: the machine that emulates this one may be busy.
func soonOnce(t *testing.T, c failover.Case) (results []failover.Result) {
	t.Helper()
	c.Patience = testkit.Patience
	for range 3 {
		late := false
		measured := t.Run("try", func(t *testing.T) {
			results = failover.Measure(t, c)
			for _, r := range results {
				t.Log(r)
				_, worst, ended := r.Outage()
				if !ended {
					t.Errorf("%s: out of reach for good", r.Failure)
				}
				late = late || worst > soon
			}
		})
		if !measured || !late {
			return results
		}
	}
	t.Errorf("each time somebody is out of reach for more than %s", soon)
	return results
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
			for _, r := range soonOnce(t, c) {
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
	soonOnce(t, failover.Case{Uplink: failover.Bond, Guests: 1, Who: failover.Kernel{}, Failures: []testkit.Failure{testkit.SwitchDown}})
}
