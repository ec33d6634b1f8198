package reachability

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Lab is a host with an uplink for each row, and the daemon on it.
type Lab struct {
	Rows   []*Row
	Host   *testkit.Netns
	Client *dbusapi.Client // of the daemon that runs

	t       testkit.TB
	program string
	bus     string // its address
	dir     string
	daemon  *testkit.Daemon
}

// NewLab builds what rows of those names need, and starts the daemon of that
// program on the bus that DBUS_SYSTEM_BUS_ADDRESS names.
func NewLab(t testkit.TB, program string, nics ...string) *Lab {
	t.Helper()
	l := &Lab{t: t, program: program, bus: os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), Host: testkit.NewNetns(t)}
	l.dir = l.folder()
	allowPings(t, l.Host)
	sysctl(t, l.Host, "ipv6/conf/default/accept_ra=0") // it has its addresses
	for i, nic := range nics {
		r, err := newRow(nic, i)
		if err != nil {
			t.Fatalf("%v", err)
		}
		r.build(t, l.Host)
		l.Rows = append(l.Rows, r)
	}
	l.configure()
	t.Cleanup(func() {
		l.Kill()
		testkit.EndProcesses(t, l.dir) // who holds vmnetd's own namespace
	})
	l.Start()
	return l
}

// folder is not t.TempDir: a socket path has at most 107 bytes.
func (l *Lab) folder() string {
	l.t.Helper()
	dir, err := os.MkdirTemp("", "vmnreach")
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	l.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// config is the lab's. Addresses are learned so that guests may have those of
// SLAAC beside those that they are given.
const config = `defaults: {ips: learn}
hypervisors:
  libvirt: {uri: none}
  qmp: {sockets: ["%s/{vm}.sock"]}
  netns: {trusted: ["%s/ns-*"]}
uplinks:
%s
networks:
%s
rules:
%s`

func (l *Lab) configure() {
	l.t.Helper()
	var uplinks, networks, rules strings.Builder
	for _, r := range l.Rows {
		uplink, network, rule := r.config()
		uplinks.WriteString(uplink)
		networks.WriteString(network)
		rules.WriteString(rule)
	}
	text := fmt.Sprintf(config, l.dir, l.dir, &uplinks, &networks, &rules)
	if err := os.WriteFile(filepath.Join(l.dir, "vmnetd.yaml"), []byte(text), 0o600); err != nil {
		l.t.Fatalf("%v", err)
	}
}

// Start starts the daemon.
func (l *Lab) Start() {
	l.t.Helper()
	var err error
	l.daemon, err = testkit.StartDaemon(context.Background(), testkit.DaemonOptions{Program: l.program, Dir: l.dir, Bus: l.bus, Netns: l.Host.Do})
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	if l.Client, err = dbusapi.Dial(context.Background()); err != nil {
		l.t.Fatalf("%v", err)
	}
}

// Kill ends the daemon as a crash does.
func (l *Lab) Kill() {
	if l.daemon == nil {
		return
	}
	if l.Client != nil {
		_ = l.Client.Close()
	}
	l.daemon.Kill()
	if l.t.Failed() {
		log := l.daemon.Log()
		l.t.Logf("vmnetd said:\n%s", log[max(0, len(log)-6000):])
	}
	l.daemon, l.Client = nil, nil
}
