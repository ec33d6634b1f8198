package hostconf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// These tests have the tools themselves read the files, and compare what they
// make of a device with what is said here. scripts/setup installs ifupdown and
// systemd (with networkd) for them. NetworkManager and netplan are too large for
// that: golden_test.go has what they made.

// requireTools is testkit.Require for a tool: where the tier must run it fails.
func requireTools(t *testing.T, programs ...string) {
	t.Helper()
	testkit.Require(t, "netns")
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if slices.Contains(strings.Split(os.Getenv(testkit.RequireEnv), ","), "netns") {
			t.Fatalf("%s is not there: scripts/setup test", p)
		}
		t.Skipf("%s is not there: scripts/setup test", p)
	}
}

// eventually waits for a process that tells nobody what it does.
func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(testkit.Patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// addresses is what a device has, without link-local ones.
func addresses(t *testing.T, ns *testkit.Netns, device string) []string {
	t.Helper()
	all, err := ns.Conn().Addrs(t.Context(), ns.Link(t, device).Index)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, a := range all {
		if !a.Addr().IsLinkLocalUnicast() {
			got = append(got, a.String())
		}
	}
	slices.Sort(got)
	return got
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// whatHotplugBrings is the addresses that a device has after the command that
// udev runs when it comes (ifupdown's ifupdown-hotplug), under another name.
func whatHotplugBrings(t *testing.T, root, device string) []string {
	t.Helper()
	ns, other := testkit.NewNetns(t), testkit.NewNetns(t)
	testkit.NewVeth(t, ns, device, other, "peer")
	file := filepath.Join(root, "etc/network/interfaces")
	asked, err := ns.Command(t.Context(), "ifquery", "--allow", "hotplug", "-i", file, "-l", device).Output()
	if none := (*exec.ExitError)(nil); err != nil && !errors.As(err, &none) {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(asked)) {
		up := ns.Command(t.Context(), "ifup", "--no-scripts", "--state-dir", t.TempDir(), "--allow=hotplug", "-i", file, name)
		if out, err := up.CombinedOutput(); err != nil {
			t.Logf("%s: %v: %s", up, err, out)
		}
	}
	return addresses(t, ns, device)
}

func TestIfupdownBringsUpWhatIsSaidToComeWithTheDevice(t *testing.T) {
	requireTools(t, "ifup", "ifquery")
	const static = "iface wan inet static\n  address 192.0.2.17/24\n"
	for name, text := range map[string]string{
		"allow-hotplug":         "allow-hotplug eno1 wan\n" + static,
		"auto":                  "auto wan\n" + static,
		"nothing":               static,
		"a glob":                "allow-hotplug /wa*\n" + static,
		"another glob":          "allow-hotplug /en*\n" + static,
		"a glob and a stanza":   "allow-hotplug /wa*/1=lan\n" + static,
		"a glob and no stanza":  "allow-hotplug /wa*=lan\niface lan inet static\n  address 192.0.2.17/24\n",
		"a stanza":              "allow-hotplug wan=lan\niface lan inet static\n  address 192.0.2.17/24\n" + strings.ReplaceAll(static, ".17", ".18"),
		"a label":               "allow-hotplug wan:1\niface wan:1 inet static\n  address 192.0.2.17/24\n",
		"twice":                 "allow-hotplug wan\n" + static + "allow-hotplug wan\n" + strings.ReplaceAll(static, ".17", ".18"),
		"another class":         "allow-ovs wan\n" + static,
		"both":                  "auto wan\nallow-hotplug wan\n" + static,
		"auto of a lost device": "auto lo eno1\nallow-hotplug wan\n" + static,
	} {
		t.Run(name, func(t *testing.T) {
			root := host(t, map[string]string{"etc/network/interfaces": text})
			said := []string{}
			for _, s := range Read(root).Find(wan) {
				if s.Late {
					said = append(said, s.Addresses...)
				}
			}
			if got := whatHotplugBrings(t, root, "wan"); !slices.Equal(got, sorted(said)) {
				t.Errorf("ifupdown gives wan %q, said is %q", got, said)
			}
		})
	}
}

func TestIfupdownTakesTheLines(t *testing.T) {
	requireTools(t, "ifup", "ifquery")
	for _, head := range []string{"iface eno1 inet static\n", "iface eno1:1 inet static\n"} {
		text := "auto lo eno1\n" + head + "  address 192.0.2.17\n  netmask 255.255.255.0\n  gateway 192.0.2.1\n"
		found := find(host(t, map[string]string{"etc/network/interfaces": text}))
		if len(found) != 1 {
			t.Fatalf("found %s", inWords(found))
		}
		_, lines := found[0].Lines(wan)
		root := host(t, map[string]string{"etc/network/interfaces": strings.Replace(text, head, strings.Join(lines, "\n")+"\n", 1)})
		if got := whatHotplugBrings(t, root, "wan"); !slices.Equal(got, []string{"192.0.2.17/24"}) {
			t.Errorf("after %q: wan has %q", lines, got)
		}
	}
}

// networkdOf is a networkd of a test's own, in a namespace of devices and one of
// mounts in which it sees the files of a root.
type networkdOf struct {
	*testkit.Netns
	root string
	bus  string
	pid  int
}

// networkdHere puts a root's folders in place of the machine's and becomes
// networkd. /sys read-only is how networkd knows that there is no udev to wait
// for.
const networkdHere = `set -e
mount --make-rprivate /
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs none /run
mkdir /run/systemd
mount --bind "$ROOT/run/systemd" /run/systemd
mount --bind "$ROOT/etc/systemd/network" /etc/systemd/network
mount --bind "$ROOT/usr/lib/systemd/network" /usr/lib/systemd/network
exec /lib/systemd/systemd-networkd`

// startNetworkd runs networkd over eno1, a veth with nicMAC as its address.
func startNetworkd(t *testing.T, root string) *networkdOf {
	t.Helper()
	for _, dir := range []string{"etc/systemd/network", "usr/lib/systemd/network", "run/systemd/network", "run/systemd/netif/links", "run/systemd/netif/leases", "run/systemd/netif/lldp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	forEverybody(t, root)
	n := &networkdOf{Netns: testkit.NewNetns(t), root: root, bus: testkit.StartBus(t)}
	testkit.NewVeth(t, n.Netns, "eno1", testkit.NewNetns(t), "peer")
	if out, err := n.Command(t.Context(), "ip", "link", "set", "eno1", "address", nicMAC).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, end := context.WithCancel(context.Background())
	cmd := n.Command(ctx, "unshare", "--mount", "sh", "-c", networkdHere)
	cmd.Env = append(os.Environ(), "ROOT="+root, "DBUS_SYSTEM_BUS_ADDRESS="+n.bus, "SYSTEMD_LOG_TARGET=console")
	var log testkit.Output
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		end()
		t.Fatal(err)
	}
	n.pid = cmd.Process.Pid
	t.Cleanup(func() {
		end()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("networkd:\n%s", log.String())
		}
	})
	return n
}

// forEverybody lets networkd read what is there and write its state, as the user
// that it becomes.
func forEverybody(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.Contains(path, "/netif"):
			return os.Chmod(path, 0o777)
		case d.IsDir():
			return os.Chmod(path, 0o755)
		case d.Type().IsRegular():
			return os.Chmod(path, 0o644)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// state is what networkd writes down of eno1.
func (n *networkdOf) state(t *testing.T) map[string]string {
	t.Helper()
	text, _ := os.ReadFile(filepath.Join(n.root, "run/systemd/netif/links", fmt.Sprint(n.Link(t, "eno1").Index)))
	state := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		state[key] = value
	}
	return state
}

// settled waits until networkd has done what it will, and is the file by which.
func (n *networkdOf) settled(t *testing.T) (file string) {
	t.Helper()
	eventually(t, "networkd settles eno1", func() error {
		state := n.state(t)
		if file = state["NETWORK_FILE"]; state["ADMIN_STATE"] != "configured" && state["ADMIN_STATE"] != "unmanaged" {
			return fmt.Errorf("%v", state)
		}
		return nil
	})
	return file
}

// quiet is a [Network] section that networkd is done with at once.
const quiet = "[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"

func TestNetworkdGivesTheAddressesThatAreSaid(t *testing.T) {
	requireTools(t, "unshare", "/lib/systemd/systemd-networkd")
	const here, is = "etc/systemd/network/", "[Match]\nName=eno1\n" + quiet
	for name, files := range map[string]map[string]string{
		"drop-ins of all folders, by name": {
			"usr/lib/systemd/network/1.network":          is + "Address=192.0.2.1/24\n",
			"usr/lib/systemd/network/1.network.d/c.conf": "[Network]\nAddress=192.0.2.99/24\n",
			"run/systemd/network/1.network.d/a.conf":     "[Address]\nAddress=192.0.2.2/24\n",
			here + "1.network.d/b.conf":                  "[Network]\nAddress=192.0.2.3/24\n",
			here + "1.network.d/c.conf":                  "[Network]\nAddress=192.0.2.4/24\n",
			here + "1.network.d/d.txt":                   "[Network]\nAddress=192.0.2.98/24\n",
			here + "2.network":                           is + "Address=192.0.2.97/24\n",
		},
		"a match in a drop-in": {
			here + "1.network":          quiet + "Address=192.0.2.1/24\n",
			here + "1.network.d/a.conf": "[Match]\nName=eno1\n",
		},
		"a drop-in that takes the match back": {
			here + "1.network":          is + "Address=192.0.2.1/24\n",
			here + "1.network.d/a.conf": "[Match]\nName=\nName=eno2\n",
			here + "2.network":          is + "Address=192.0.2.2/24\n",
		},
		"drop-ins alone, and of an empty file": {
			here + "1.network.d/a.conf": is + "Address=192.0.2.1/24\n",
			here + "2.network":          "",
			here + "2.network.d/a.conf": is + "Address=192.0.2.2/24\n",
			here + "3.network":          is + "Address=192.0.2.3/24\n",
		},
		"hidden by a file of the same name": {
			here + "1.network":                  "[Match]\nName=eno2\n" + quiet,
			"run/systemd/network/1.network":     is + "Address=192.0.2.1/24\n",
			"usr/lib/systemd/network/9.network": is + "Address=192.0.2.9/24\n",
			"run/systemd/network/9.network":     is + "Address=192.0.2.2/24\n",
		},
		"turned round": {
			here + "1.network": "[Match]\nName=!eno1 x\n" + quiet + "Address=192.0.2.1/24\n",
			here + "2.network": "[Match]\nName=en* !eno1\n" + quiet + "Address=192.0.2.2/24\n",
			here + "3.network": "[Match]\nName=eth9\nName=!eno1\n" + quiet + "Address=192.0.2.3/24\n",
			here + "4.network": "[Match]\nName=!eth* lo\n" + quiet + "Address=192.0.2.4/24\n",
		},
		"several lists, several conditions": {
			here + "1.network": "[Match]\nName=eno1\nMACAddress=02:00:00:00:00:09\n" + quiet + "Address=192.0.2.1/24\n",
			here + "2.network": "[Match]\nName=eth0 eth1\nName=eno? \nMACAddress=02:00:00:00:00:09\nMACAddress=3CEC.EF01.0203\nType=ether\n" + quiet + "Address=192.0.2.2/24\n",
		},
		"no match, and one of no key that is known": {
			here + "1.network": quiet + "Address=192.0.2.1/24\n",
			here + "2.network": "[Match]\nOriginalName=eno1\n" + quiet + "Address=192.0.2.2/24\n",
			here + "3.network": "[Match]\nOriginalName=eth7\nName=eno1\n" + quiet + "Address=192.0.2.3/24\n",
		},
		"what is no address, and one replaced": {
			here + "1.network": is + "Address=192.0.2.1/24 # no\nAddress=\\\n# not this\n 192.0.2.2/24\nAddress=x\n[Address]\nAddress=192.0.2.3/24\nAddress=192.0.2.4/24\n",
		},
		"told to leave it alone": {
			here + "1.network":          is + "Address=192.0.2.1/24\n",
			here + "1.network.d/a.conf": "[Link]\nUnmanaged=yes\n",
		},
		"told to, and not": {
			here + "1.network":          is + "Address=192.0.2.1/24\n[Link]\nUnmanaged=yes\n",
			here + "1.network.d/a.conf": "[Link]\nUnmanaged=no\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := host(t, files)
			said := []string{}
			for _, s := range find(root) {
				said = append(said, s.Addresses...)
			}
			n := startNetworkd(t, root)
			file := n.settled(t)
			if got := addresses(t, n.Netns, "eno1"); !slices.Equal(got, sorted(said)) {
				t.Errorf("networkd gives eno1 %q by %q, said is %q", got, file, said)
			}
		})
	}
}

func TestNetworkdTakesTheLines(t *testing.T) {
	requireTools(t, "unshare", "/lib/systemd/systemd-networkd")
	const main = "[Match]\nName=eno9\n" + quiet + "Address=192.0.2.17/24\n"
	for name, files := range map[string]map[string]string{
		"another match": {"etc/systemd/network/1.network": main + "Gateway=192.0.2.1\n"},
		"a file of its own": {
			"usr/lib/systemd/network/1.network":      main,
			"run/systemd/network/1.network.d/a.conf": "[Network]\nGateway=192.0.2.1\nAddress=192.0.2.18/24\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			found := Read(host(t, files)).Find(Device{Name: "eno9"})
			if len(found) != 1 {
				t.Fatalf("found %s", inWords(found))
			}
			file, lines := found[0].Lines(Device{Name: "eno1", Kind: "bond"})
			text := strings.Join(lines, "\n") + "\n"
			if file == found[0].File {
				text = strings.Replace(files[file[1:]], "[Match]\nName=eno9\n", text, 1)
			}
			n := startNetworkd(t, host(t, map[string]string{file[1:]: text}))
			eventually(t, "eno1 has what eno9 had", func() error {
				got := addresses(t, n.Netns, "eno1")
				routes, err := n.Command(t.Context(), "ip", "route", "show", "default").Output()
				if err != nil || !slices.Equal(got, sorted(found[0].Addresses)) || !strings.Contains(string(routes), "via 192.0.2.1 dev eno1") {
					return fmt.Errorf("it has %q and %q, wanted is %q; %w", got, routes, found[0].Addresses, err)
				}
				return nil
			})
		})
	}
}

func TestNetworkdLetsGoOfADeviceAndLeavesItUp(t *testing.T) {
	requireTools(t, "unshare", "nsenter", "networkctl", "dbus-daemon", "/lib/systemd/systemd-networkd")
	root := host(t, map[string]string{"etc/systemd/network/1.network": "[Match]\nName=eno1\n" + quiet + "Address=192.0.2.17/24\n"})
	n := startNetworkd(t, root)
	n.settled(t)
	commands := find(root)[0].LetGo("eno1")
	if len(commands) != 1 {
		t.Fatalf("%+v", commands)
	}
	var out []byte
	eventually(t, commands[0].Line, func() (err error) { // it may not be on the bus yet
		cmd := exec.CommandContext(t.Context(), "nsenter", "--target", fmt.Sprint(n.pid), "--mount", "--net", "--", "sh", "-c", commands[0].Line)
		cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+n.bus)
		if out, err = cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	eventually(t, "eno1 is let go of", func() error {
		if got := addresses(t, n.Netns, "eno1"); n.state(t)["ADMIN_STATE"] != "unmanaged" || len(got) != 0 {
			return fmt.Errorf("%v, with %q; the command said %q", n.state(t), got, out)
		}
		return nil
	})
	if !n.Link(t, "eno1").Up {
		t.Error("eno1 is down")
	}
	if got := find(root); len(got) != 0 {
		t.Errorf("found %s", inWords(got))
	}
}
