package packaging

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// nicCount is how many NICs the host has once all guests are there.
const nicCount = 6

// nics is a tap, ipvtaps and an endpoint, each pinged from outside all the while.
type nics struct {
	out   *testkit.Netns
	cloud *testkit.StackGuest // on the ipvtap in l2
	pings *testkit.Pings
}

// Addresses of guests: on the bridge, on the uplink that takes one MAC, and one that is
// routed to this host.
var (
	tapGuest    = netip.MustParseAddr("198.51.100.3")
	container   = netip.MustParseAddr("198.51.100.9")
	ipvtapGuest = netip.MustParseAddr("192.0.2.30")
	routedGuest = netip.MustParseAddr("203.0.113.30")
)

const roomUnit = "vmnetd-room.service"

// outside wires two more devices of the host to a namespace of their own.
func (s service) outside() {
	s.t.Helper()
	host, err := netns.Current()
	if err != nil {
		s.t.Fatal(err)
	}
	defer host.Close()
	s.out = testkit.NewNetns(s.t)
	for nic, address := range map[string]string{"pe": "198.51.100.1/24", "pf": "192.0.2.1/24", "pg": "198.18.0.1/24"} {
		s.out.Create(s.t, rtnl.NewLink{Name: nic + "0", Kind: "veth", Data: rtnl.VethPeer(nic, host)})
		s.out.Run(s.t, "ip", "address", "add", address, "dev", nic+"0")
		s.out.SetUp(s.t, nic+"0")
		s.run("ip", "link", "set", nic, "up")
	}
	s.run("ip", "address", "add", "198.18.0.2/24", "dev", "pg")
	s.out.Run(s.t, "ip", "route", "add", routedGuest.String(), "via", "198.18.0.2")
}

// startNICs starts guests on a tap of the bridge and on ipvtaps in both modes, and a
// container on the bridge; the host gets a link to the first network.
func (s service) startNICs() {
	s.t.Helper()
	s.guest("vm3", "sw", vmnetd.Switched, tapGuest)
	s.cloud = s.guest("vm4", "cloud", vmnetd.L2, ipvtapGuest)
	s.guest("vm5", "routed", vmnetd.L3, routedGuest).Run(s.t, "ip", "route", "add", "default", "via", "203.0.113.1")
	s.run("ip", "netns", "add", "c1")
	s.run("vmnetd", "attach", "c1", "--via", "netns:c1", "--network", "sw", "--name", "eth0", "--ip", container.String()+"/24")
	s.run("vmnetd", "host-link", "lan", "--ip", "10.0.0.5/24")
	s.pings = testkit.StartPings(s.t, s.out, 20*time.Millisecond, tapGuest, container, ipvtapGuest, routedGuest)
	if !s.pings.Answered(3, testkit.Patience) {
		s.t.Fatalf("not everybody answers: %+v", s.pings.Counts())
	}
	s.t.Log(s.run("vmnetd", "list"))
}

// guest is one that this process has the queues of.
func (s service) guest(vm, network string, mode vmnetd.Mode, address netip.Addr) *testkit.StackGuest {
	s.t.Helper()
	c, err := dbusapi.Dial(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	a, set, err := c.OpenTap(s.t.Context(), vmnetd.Request{VM: vm, Network: network, IPs: []string{address.String() + "/24"}, Queues: 1, NoVHost: true}, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = set.Close() })
	mac, err := vmnetd.ParseMAC(a.MAC)
	if err != nil || a.Mode != mode {
		s.t.Fatalf("%+v, %v", a, err)
	}
	g := testkit.NewStackGuest(s.t, set.Queues, 10, mac, false)
	g.Run(s.t, "ip", "address", "add", address.String()+"/24", "dev", testkit.GuestDevice)
	return g
}

// devices is every device of ours, with its number, on the host, in vmnetd's own
// namespace and in the container, and which namespace ours is.
func (s service) devices() string {
	s.t.Helper()
	room := "/proc/" + s.unit(roomUnit, "MainPID") + "/ns/net"
	inode, err := os.Readlink(room)
	if err != nil {
		s.t.Fatal(err)
	}
	list := inode + "\n"
	for _, at := range []string{"/proc/self/ns/net", room, "/run/netns/c1"} {
		for line := range strings.Lines(s.run("nsenter", "--net="+at, "ip", "-o", "-br", "link")) {
			if f := strings.Fields(line); strings.HasPrefix(f[0], "vm") || strings.HasPrefix(f[0], "eth0") {
				list += strings.Join(f[:3], " ") + "\n"
			}
		}
	}
	return list
}

func (s service) begin() { s.pings.Begin() }

// noneLost holds that since begin every ping was answered.
func (s service) noneLost() {
	s.t.Helper()
	if !s.pings.Answered(3, testkit.Patience) {
		s.t.Error("somebody does not answer any more")
	}
	for i, c := range s.pings.Counts() {
		if c.Lost > 0 || c.Sent == 0 {
			s.t.Errorf("%s lost %d of %d pings", []string{"the tap", "the container", "the ipvtap in l2", "the one in l3"}[i], c.Lost, c.Sent)
		}
	}
}

// isUpgraded holds that another version takes over everything, and the process that
// holds our namespace becomes that version.
func (s service) isUpgraded() {
	pid := s.unit(roomUnit, "MainPID")
	s.unchanged(func() {
		s.run("dpkg-deb", "--extract", s.newer, "/")
		s.maintain(s.newer, "postinst", "configure", testVersion)
	})
	if now := s.unit(roomUnit, "MainPID"); now != pid {
		s.t.Errorf("the process of our namespace was %s and is %s", pid, now)
	}
	if exe, err := os.Readlink("/proc/" + pid + "/exe"); exe != "/usr/bin/vmnetd" {
		s.t.Errorf("it still runs %s, %v", exe, err)
	}
	if out := s.run("vmnetd", "status"); !strings.Contains(out, testVersion+"2") {
		s.t.Errorf("it is not the newer one:\n%s", out)
	}
}

// isRemoved holds that guests keep their NICs while there is no package, and that it
// takes them up again.
func (s service) isRemoved() {
	s.unchanged(func() {
		s.maintain(s.newer, "prerm", "remove")
		for line := range strings.Lines(s.run("dpkg-deb", "--contents", s.newer)) {
			path := strings.TrimPrefix(strings.Fields(line)[5], ".")
			if !strings.HasSuffix(path, "/") && !strings.HasPrefix(path, "/etc/") {
				_ = os.Remove(path)
			}
		}
		s.maintain(s.newer, "postrm", "remove")
		if s.unit(roomUnit, "ActiveState") != "active" {
			s.t.Error("removing the package ended the process that holds our namespace")
		}
		s.run("dpkg-deb", "--extract", s.newer, "/")
		s.configure(serviceConfig)
		s.maintain(s.newer, "postinst", "configure", "")
	})
}

// maintain runs a script of a package, as dpkg does.
func (s service) maintain(deb, script string, args ...string) {
	s.t.Helper()
	control := s.t.TempDir()
	s.run("dpkg-deb", "--control", deb, control)
	cmd := exec.Command("sh", append([]string{filepath.Join(control, script)}, args...)...)
	cmd.Env = append(os.Environ(), "DPKG_MAINTSCRIPT_PACKAGE=vmnetd", "DPKG_MAINTSCRIPT_NAME="+script)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// roomExposure is the most that systemd-analyze security may say of the unit that
// holds our namespace.
const roomExposure = 2.8

func (s service) roomIsSandboxed() {
	for property, want := range map[string]string{"PrivateNetwork": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict"} {
		if is := s.unit(roomUnit, property); is != want {
			s.t.Errorf("%s is %s", property, is)
		}
	}
	out := s.run("systemd-analyze", "security", "--no-pager", roomUnit)
	s.t.Log(out)
	found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	if len(found) == 0 {
		s.t.Fatal("no level is told")
	}
	if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > roomExposure {
		s.t.Errorf("it is %s, %v", found[1], err)
	}
}

// filtersHold holds that what is not the guest's own is dropped, on the host and in
// our namespace, and that filters that others remove come back.
func (s service) filtersHold() {
	s.cloud.Run(s.t, "ip", "address", "add", "192.0.2.77/24", "dev", testkit.GuestDevice)
	ping := s.cloud.Command(s.t.Context(), "ping", "-c", "2", "-i", "0.2", "-W", "1", "-I", "192.0.2.77", "192.0.2.1")
	if out, err := ping.CombinedOutput(); err == nil {
		s.t.Errorf("a guest is answered at an address that is not its own:\n%s", out)
	}
	if s.dropped("vm4") == 0 {
		s.t.Error("no rule says that it dropped anything")
	}
	room := "--net=/proc/" + s.unit(roomUnit, "MainPID") + "/ns/net"
	for _, at := range []string{"--net=/proc/self/ns/net", room} {
		s.run("nsenter", at, "nft", "flush", "ruleset")
		s.eventually("the filters are back", func() bool {
			return exec.Command("nsenter", at, "nft", "list", "table", "netdev", "vmnetd").Run() == nil
		})
	}
	s.unchanged(func() {})
}

func (s service) dropped(vm string) (packets uint64) {
	s.t.Helper()
	var shown struct {
		Filter []vmnetd.Counter `json:"filter"`
	}
	if err := json.Unmarshal([]byte(s.run("vmnetd", "show", vm+"/net0", "--json")), &shown); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range shown.Filter {
		if c.Dropped {
			packets += c.Packets
		}
	}
	return packets
}
