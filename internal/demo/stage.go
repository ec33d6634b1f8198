package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// outsideIP is the only machine of the world outside the host.
const outsideIP = "10.99.0.1"

const configuration = `uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge, private]}
rules:
  - {vm: "quarantine-*", deny: "INC-4711"}
  - {vm: "*", networks: [lan]}
hypervisors:
  libvirt: {uri: none}
  qmp:
    sockets: ["%s/{vm}.sock"]
`

// stage is everything that the demo plays on. The scope takes it down.
type stage struct {
	program string // vmnetd
	dir     string
	bus     string // address
	host    *testkit.Netns
	outside *testkit.Netns
	daemon  *testkit.Daemon
	guests  []*guest
	show    *report
}

// guest is a VM and the address it gives itself.
type guest struct {
	*testkit.Guest
	ip string
}

func buildStage(ctx context.Context, s *scope, show *report, program string) *stage {
	st := &stage{program: program, dir: s.TempDir(), show: show}
	st.writeConfig(s)

	show.note("two guests boot: Debian's kernel, a shell, an empty PCIe port for a NIC to come")
	for i, name := range []string{"vm1", "vm2"} {
		st.startGuest(ctx, s, name, i)
	}
	show.note("a network namespace for the host, with uplink u0, and one for the outside, %s", outsideIP)
	st.host, st.outside = testkit.NewNetns(s), testkit.NewNetns(s)
	testkit.NewVeth(s, st.host, "u0", st.outside, "eth0")
	st.runIn(ctx, s, st.outside, "ip", "address", "add", outsideIP+"/24", "dev", "eth0")

	st.bus = testkit.StartBus(s)
	show.note("vmnetd serve, on a bus of its own, in the host's namespace; its configuration:")
	show.quote(fmt.Sprintf(configuration, filepath.Join(st.dir, "qmp")))
	daemon, err := testkit.StartDaemon(ctx, testkit.DaemonOptions{Program: program, Dir: st.dir, Bus: st.bus, Netns: st.host.Do})
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(daemon.Kill)
	st.daemon = daemon
	show.note("the daemon is ready")

	if err := show.check("two guests boot, without a NIC", func() error { return st.waitGuests(ctx) }); err != nil {
		s.Fatalf("%v", err)
	}
	return st
}

// waitGuests says now and then that it still waits: without KVM a kernel takes
// its time.
func (st *stage) waitGuests(ctx context.Context) error {
	up := make(chan error, 1)
	go func() {
		var all []error
		for _, g := range st.guests {
			all = append(all, g.WaitUp(ctx))
		}
		up <- errors.Join(all...)
	}()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-up:
			return err
		case <-tick.C:
			st.show.note("… the guests' kernels are booting")
		}
	}
}

func (st *stage) writeConfig(s *scope) {
	sockets := filepath.Join(st.dir, "qmp")
	if err := os.Mkdir(sockets, 0o700); err != nil {
		s.Fatalf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(st.dir, "vmnetd.yaml"), fmt.Appendf(nil, configuration, sockets), 0o600); err != nil {
		s.Fatalf("%v", err)
	}
}

func (st *stage) startGuest(ctx context.Context, s *scope, name string, i int) {
	g, err := testkit.StartGuest(ctx, s, testkit.GuestOptions{
		Name: name, QMPSocket: filepath.Join(st.dir, "qmp", name+".sock"),
		SMP: 1 + 3*i, // the second one for its four queues
	})
	if err != nil {
		s.Fatalf("cannot start guest %s: %v", name, err)
	}
	st.guests = append(st.guests, &guest{Guest: g, ip: fmt.Sprintf("10.99.0.%d", 11+i)})
}

func (st *stage) runIn(ctx context.Context, s *scope, ns *testkit.Netns, name string, args ...string) {
	if out, err := ns.Command(ctx, name, args...).CombinedOutput(); err != nil {
		s.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// vmnetd runs the command line as an operator would and shows it.
func (st *stage) vmnetd(ctx context.Context, args ...string) (exit int, err error) {
	st.show.note("$ vmnetd %s", strings.Join(args, " "))
	cmd := st.command(ctx, args...)
	out, err := cmd.CombinedOutput()
	st.show.quote(string(out))
	if cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

func (st *stage) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, st.program, args...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+st.bus, "NO_COLOR=1", "COLUMNS=80")
	return cmd
}
