package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// play is the demo itself. It stops at a step that later ones stand on.
func play(ctx context.Context, show *report, st *stage) error {
	acts := []func(context.Context, *report, *stage) error{
		actExplain, actBridge, actQueues, actDenied, actDetach, actPrivate, actGone,
	}
	for _, act := range acts {
		if err := act(ctx, show, st); err != nil {
			return err
		}
	}
	return nil
}

func actExplain(ctx context.Context, show *report, st *stage) error {
	return show.check("explain says what a VM would get, and why", func() error {
		return st.expect(ctx, vmnetd.ExitOK, "explain", "vm1")
	})
}

func actBridge(ctx context.Context, show *report, st *stage) error {
	err := show.check("a running guest gets a NIC, in mode bridge", func() error {
		return st.attach(ctx, st.guests[0], "--mode", "bridge")
	})
	if err != nil {
		return err
	}
	err = show.check("another one, with four queues", func() error {
		return st.attach(ctx, st.guests[1], "--mode", "bridge", "--queues", "4")
	})
	if err != nil {
		return err
	}
	_ = show.check("bridge: both guests ping the outside", func() error { return st.pingOutside(ctx) })
	_ = show.check("bridge: the guests ping each other", func() error {
		return st.guests[0].ping(ctx, st.guests[1].ip, true)
	})
	return nil
}

func actQueues(ctx context.Context, show *report, st *stage) error {
	_ = show.check("the guest drives all four queues", func() error {
		out, err := st.guests[1].Run(ctx, "ls -d /sys/class/net/eth*/queues/rx-* | wc -l")
		if err == nil && strings.TrimSpace(out) != "4" {
			err = fmt.Errorf("the guest has %s receive queues", strings.TrimSpace(out))
		}
		return err
	})
	_ = show.check("list shows both", func() error { return st.expect(ctx, vmnetd.ExitOK, "list") })
	return nil
}

func actDenied(ctx context.Context, show *report, st *stage) error {
	denied := vmnetd.ClassOf(vmnetd.ErrDenied).Exit
	_ = show.check("a mode that no rule gives is denied, exit code 3", func() error {
		return st.expect(ctx, denied, "attach", "vm1", "--id", "net1", "--mode", "passthru")
	})
	return nil
}

func actDetach(ctx context.Context, show *report, st *stage) error {
	return show.check("detach takes the NICs out of the running guests", func() error { return st.detachAll(ctx) })
}

func actPrivate(ctx context.Context, show *report, st *stage) error {
	err := show.check("the same guests get NICs in mode private", func() error {
		return errors.Join(st.attach(ctx, st.guests[0], "--mode", "private"), st.attach(ctx, st.guests[1], "--mode", "private"))
	})
	if err != nil {
		return err
	}
	_ = show.check("private: both guests ping the outside", func() error { return st.pingOutside(ctx) })
	_ = show.check("private: the guests cannot ping each other", func() error {
		return st.guests[0].ping(ctx, st.guests[1].ip, false)
	})
	return nil
}

func actGone(ctx context.Context, show *report, st *stage) error {
	_ = show.check("detach again", func() error { return st.detachAll(ctx) })
	_ = show.check("no device of ours is left on the host", func() error {
		out, err := st.host.Command(ctx, "ip", "-brief", "link").CombinedOutput()
		show.note("$ ip -brief link")
		show.quote(string(out))
		if err == nil && strings.Contains(string(out), vmnetd.IfnamePrefix) {
			err = errors.New("a device is left")
		}
		return err
	})
	_ = show.check("the daemon ends cleanly", st.daemon.Stop)
	return nil
}

// expect runs the command line and wants that exit code.
func (st *stage) expect(ctx context.Context, want int, args ...string) error {
	got, err := st.vmnetd(ctx, args...)
	if err == nil && got != want {
		err = fmt.Errorf("exit code %d, want %d\n%s", got, want, st.daemon.Log())
	}
	return err
}

// attach gives the guest a NIC and lets the guest use it.
func (st *stage) attach(ctx context.Context, g *guest, args ...string) error {
	if err := st.expect(ctx, vmnetd.ExitOK, append([]string{"attach", g.Name}, args...)...); err != nil {
		return err
	}
	return st.configure(ctx, g, "")
}

// configure waits for the NIC in the guest, gives it the guest's address, and
// runs more there.
func (st *stage) configure(ctx context.Context, g *guest, more string) error {
	nics, err := st.nics(ctx, g.Name)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(nics[0].MAC)
	if err != nil {
		return err
	}
	name, err := g.WaitIface(ctx, mac)
	if err != nil {
		return err
	}
	_, err = g.Run(ctx, fmt.Sprintf("set -e; ip link set %[1]s up; ip address add %[2]s/24 dev %[1]s; %[3]s", name, g.ip, more))
	return err
}

// detachAll takes every NIC away and waits until the guests see none.
func (st *stage) detachAll(ctx context.Context) error {
	for _, g := range st.guests {
		nics, err := st.nics(ctx, g.Name)
		if err != nil {
			return err
		}
		if err := st.expect(ctx, vmnetd.ExitOK, "detach", g.Name); err != nil {
			return err
		}
		mac, err := net.ParseMAC(nics[0].MAC)
		if err != nil {
			return err
		}
		if err := g.WaitNoIface(ctx, mac); err != nil {
			return err
		}
	}
	return nil
}

// nics is what the daemon says a VM has; at least one.
func (st *stage) nics(ctx context.Context, vm string) ([]vmnetd.Attachment, error) {
	out, err := st.command(ctx, "list", vm, "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("vmnetd list %s --json: %w", vm, err)
	}
	var nics []vmnetd.Attachment
	if err := json.Unmarshal(out, &nics); err != nil {
		return nil, err
	}
	if len(nics) == 0 {
		return nil, fmt.Errorf("%s has no NIC", vm)
	}
	return nics, nil
}

func (st *stage) pingOutside(ctx context.Context) error {
	var all []error
	for _, g := range st.guests {
		all = append(all, g.ping(ctx, outsideIP, true))
	}
	return errors.Join(all...)
}

// ping wants two answers from ip, or none.
func (g *guest) ping(ctx context.Context, ip string, answers bool) error {
	wait, want := 10, "2 packets received"
	if !answers {
		wait, want = 2, "0 packets received"
	}
	out, err := g.Run(ctx, fmt.Sprintf("ping -c 2 -W %d %s", wait, ip))
	var exit *testkit.GuestExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if !strings.Contains(out, want) {
		return fmt.Errorf("%s pings %s, want %s:\n%s", g.Name, ip, want, out)
	}
	return nil
}
