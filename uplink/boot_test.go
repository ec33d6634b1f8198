package uplink

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

// written puts a file of the host's configuration beneath root.
func written(t *testing.T, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// booting is what a plan to bring is to specs says of the next boot of a host
// with these files, as "LEVEL TEXT: DO" of each problem, and what it minds.
func booting(t *testing.T, files map[string]string, is World, specs ...Spec) (problems, mind []string) {
	t.Helper()
	m := &Manager{o: Options{Root: t.TempDir()}}
	for path, text := range files {
		written(t, m.o.Root, path, text)
	}
	w := way{declared: Declared{Specs: specs}, is: is}
	w.want, _ = want(w.declared, is)
	w.steps = diff(is, w.want)
	mind, checks := m.atBoot(w)
	for _, c := range checks {
		if c.Name != checkBoot {
			t.Errorf("%s is not what force passes over", c.Name)
		}
		problems = append(problems, c.Level+" "+c.Text+": "+c.Do)
	}
	return problems, mind
}

// placed is a NIC that sits somewhere.
func placed(d Device, path string) Device {
	d.Path = path
	return d
}

const cutOff = ", so after a reboot this host would have no address: "

func TestAPlanNamesWhatTheNextBootWouldGiveToAPort(t *testing.T) {
	anchored := []Spec{anchorSpec("wan", "eno1")}
	const letGo = `systemd-networkd manages eno1 (/etc/systemd/network/1.network); to have it let go, after the apply:  printf '[Match]\nName=eno1\n[Link]\nUnmanaged=yes\n' > /etc/systemd/network/00-eno1.network && networkctl reload`
	for name, test := range map[string]struct {
		files    map[string]string
		is       World
		specs    []Spec
		problems []string
		mind     []string
	}{
		"nothing": {nil, world(nic("eno1", 1)), anchored, nil, nil},
		"ifupdown": {
			map[string]string{"etc/network/interfaces": "auto eno1\niface eno1 inet static\n  address 192.0.2.17/24\n"},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/network/interfaces:2 gives 192.0.2.17 to eno1" + cutOff + "change it to\nallow-hotplug wan\niface wan inet static"}, nil,
		},
		"the topmost, not the master": {
			map[string]string{"etc/network/interfaces": "iface eno1 inet static\n  address 192.0.2.17/24\n"},
			world(nic("eno1", 1)), []Spec{bondSpec("bond0", "active-backup", nil, "eno1"), anchorSpec("wan", "bond0")},
			[]string{"fail /etc/network/interfaces:1 gives 192.0.2.17 to eno1" + cutOff + "change it to\nallow-hotplug wan\niface wan inet static"}, nil,
		},
		"a bond that becomes a port": {
			map[string]string{"etc/network/interfaces": "iface bond0 inet static\n  address 192.0.2.17/24\n"},
			world(port(nic("eno1", 1), "bond0"), bond("bond0", "active-backup")), []Spec{bondSpec("bond0", "active-backup", nil, "eno1"), bridge("br0", "bond0")},
			[]string{"fail /etc/network/interfaces:1 gives 192.0.2.17 to bond0" + cutOff + "change it to\nallow-hotplug br0\niface br0 inet static"}, nil,
		},
		"by its MAC, static and by DHCP": {
			map[string]string{"etc/systemd/network/1.network": "[Match]\nMACAddress=02:00:00:00:00:01\n[Network]\nDHCP=ipv6\nAddress=192.0.2.17/24\nAddress=192.0.2.18/24\n"},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/systemd/network/1.network:5 gives 192.0.2.17 and 192.0.2.18 to eno1" + cutOff + "change it to\n[Match]\nName=wan"},
			[]string{"/etc/systemd/network/1.network:5 has systemd-networkd ask for an address on eno1: it is not moved, and a port gets none; have it ask on wan", letGo},
		},
		"what takes every NIC does not name the topmost": {
			map[string]string{
				"etc/network/interfaces":         "iface eno1 inet static\n  address 192.0.2.17/24\n",
				"etc/systemd/network/1.network":  "[Match]\nName=eno9\n[Network]\nDHCP=yes\n",
				"etc/systemd/network/99.network": "[Match]\nType=ether\n",
			},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/network/interfaces:1 gives 192.0.2.17 to eno1" + cutOff + "change it to\nallow-hotplug wan\niface wan inet static"},
			[]string{strings.ReplaceAll(letGo, "/1.network", "/99.network")},
		},
		"NetworkManager": {
			map[string]string{"etc/NetworkManager/system-connections/lan.nmconnection": "[connection]\nid=lan\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24,192.0.2.1\n"},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/NetworkManager/system-connections/lan.nmconnection:5 gives 192.0.2.17 to eno1" + cutOff + "write /etc/NetworkManager/system-connections/wan.nmconnection, which only root may read\n" +
				"[connection]\nid=wan\ntype=bond\ninterface-name=wan\n[bond]\nmode=active-backup\nmiimon=50\n[ipv4]\nmethod=manual\naddress1=192.0.2.17/24\ngateway=192.0.2.1"},
			[]string{`NetworkManager manages eno1 (/etc/NetworkManager/system-connections/lan.nmconnection); to have it let go, after the apply:  printf '[keyfile]\nunmanaged-devices+=interface-name:eno1\n' > /etc/NetworkManager/conf.d/90-eno1.conf && systemctl restart NetworkManager && ip addr flush dev eno1`},
		},
		"the topmost is named": {
			map[string]string{
				"etc/network/interfaces": "allow-hotplug wan\niface wan inet static\n  address 192.0.2.17/24\niface eno1 inet static\n  address 192.0.2.17/24\n",
			},
			world(nic("eno1", 1)), anchored, nil, []string{"/etc/network/interfaces:4 still gives 192.0.2.17 to eno1: remove it"},
		},
		"by DHCP alone": {
			map[string]string{"etc/netplan/50-cloud-init.yaml": "network:\n  ethernets:\n    eno1: {dhcp4: yes}\n"},
			world(nic("eno1", 1)), anchored, nil,
			[]string{
				"/etc/netplan/50-cloud-init.yaml:3 has cloud-init ask for an address on eno1: it is not moved, and a port gets none; have it ask on wan",
				"cloud-init manages eno1 (/etc/netplan/50-cloud-init.yaml); to have it let go, after the apply:  echo 'network: {config: disabled}' > /etc/cloud/cloud.cfg.d/99-disable-network-config.cfg",
				strings.ReplaceAll(letGo, "/etc/systemd/network/1.network", "/etc/netplan/50-cloud-init.yaml"),
			},
		},
		"the topmost is named too soon": {
			map[string]string{"etc/network/interfaces": "auto lo wan\niface wan inet static\n  address 192.0.2.17/24\niface wan inet6 static\n  address 2001:db8::17/64\n"},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/network/interfaces:4 is tried by ifupdown before vmnetd has made wan, so after a reboot this host would have no address: write, in place of any auto wan\nallow-hotplug wan"}, nil,
		},
		"the topmost is named, and nothing asks for it": {
			map[string]string{"etc/network/interfaces": "iface wan inet static\n  address 192.0.2.17/24\n"},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/network/interfaces:1 is not tried by ifupdown when vmnetd makes wan, so after a reboot this host would have no address: write, in place of any auto wan\nallow-hotplug wan"}, nil,
		},
		"the topmost is named at both times": {
			map[string]string{"etc/network/interfaces": "auto wan\nallow-hotplug wan\niface wan inet static\n  address 192.0.2.17/24\n"},
			world(nic("eno1", 1), nic("eno2", 2)), []Spec{anchorSpec("wan", "eno1", "eno2")}, nil,
			[]string{"ifupdown runs before vmnetd has made wan, and fails at it; remove the auto wan that is about /etc/network/interfaces:3"},
		},
		"the topmost is what ifupdown makes": {
			map[string]string{"etc/network/interfaces": "auto br0\niface br0 inet static\n  address 192.0.2.17/24\n  bridge_ports eno1\n"},
			world(nic("eno1", 1)), []Spec{bridge("br0", "eno1")}, nil, nil,
		},
		"a name that gives nothing names nothing": {
			map[string]string{
				"etc/network/interfaces":        "iface eno1 inet static\n  address 192.0.2.17/24\nallow-hotplug wan\niface wan inet manual\n",
				"etc/systemd/network/1.network": "[Match]\nName=wan\n",
			},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/network/interfaces:1 gives 192.0.2.17 to eno1" + cutOff + "change it to\nallow-hotplug wan\niface wan inet static"}, nil,
		},
		"cloud-init": {
			map[string]string{"etc/netplan/50-cloud-init.yaml": "network:\n  renderer: NetworkManager\n  ethernets:\n    eno1: {addresses: [192.0.2.17/24]}\n"},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/netplan/50-cloud-init.yaml:4 gives 192.0.2.17 to eno1" + cutOff + "have cloud-init leave it alone (echo 'network: {config: disabled}' > /etc/cloud/cloud.cfg.d/99-disable-network-config.cfg), and change it to\n" +
				"network:\n  bonds:\n    wan:\n      renderer: NetworkManager\n      parameters: {mode: active-backup, mii-monitor-interval: 50}\n      addresses: [192.0.2.17/24]"},
			[]string{
				`NetworkManager manages eno1 (/etc/netplan/50-cloud-init.yaml); to have it let go, after the apply:  printf '[keyfile]\nunmanaged-devices+=interface-name:eno1\n' > /etc/NetworkManager/conf.d/90-eno1.conf && systemctl restart NetworkManager && ip addr flush dev eno1`,
				"cloud-init manages eno1 (/etc/netplan/50-cloud-init.yaml); to have it let go, after the apply:  echo 'network: {config: disabled}' > /etc/cloud/cloud.cfg.d/99-disable-network-config.cfg",
			},
		},
		"a drop-in": {
			map[string]string{
				"usr/lib/systemd/network/lan.network":        "[Match]\nName=eno*\n",
				"etc/systemd/network/lan.network.d/ip.conf":  "[Network]\nAddress=192.0.2.17/24\nGateway=192.0.2.1\n",
				"etc/systemd/network/lan.network.d/old.conf": "[Network\n",
			},
			world(nic("eno1", 1)), anchored,
			[]string{"fail /etc/systemd/network/lan.network.d/ip.conf:2 gives 192.0.2.17 to eno1" + cutOff + "write /etc/systemd/network/00-wan.network\n[Match]\nName=wan\n[Network]\nAddress=192.0.2.17/24\nGateway=192.0.2.1"},
			[]string{strings.ReplaceAll(letGo, "/1.network", "/lan.network.d/ip.conf")},
		},
		"a NIC by its place": {
			map[string]string{"etc/systemd/network/1.network": "[Match]\nPath=pci-0000:01:*\n[Network]\nAddress=192.0.2.17/24\n"},
			world(placed(nic("eno1", 1), "pci-0000:01:00.0"), placed(nic("eno2", 2), "pci-0000:02:00.0")), []Spec{anchorSpec("wan", "eno1", "eno2")},
			[]string{"fail /etc/systemd/network/1.network:4 gives 192.0.2.17 to eno1" + cutOff + "change it to\n[Match]\nName=wan"},
			[]string{letGo},
		},
		"what cannot be read": {
			map[string]string{"etc/netplan/1.yaml": "network: ["},
			world(nic("eno1", 1)), anchored, nil, []string{"/etc/netplan/1.yaml is not read: it is no YAML"},
		},
		"a port from before": {
			map[string]string{"etc/network/interfaces": "iface eno1 inet static\n  address 192.0.2.17/24\n"},
			world(port(nic("eno1", 1), "bond0"), nic("eno2", 2), bond("bond0", "active-backup")), []Spec{bondSpec("bond0", "active-backup", nil, "eno1", "eno2")}, nil, nil,
		},
		"nothing to do": {
			map[string]string{"etc/network/interfaces": "iface eno1 inet static\n  address 192.0.2.17/24\n"},
			world(nic("eno1", 1)), nil, nil, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, mind := booting(t, test.files, test.is, test.specs...)
			if diff := cmp.Diff(test.problems, problems); diff != "" {
				t.Errorf("problems:\n%s", diff)
			}
			if diff := cmp.Diff(test.mind, mind); diff != "" {
				t.Errorf("mind:\n%s", diff)
			}
		})
	}
}

func TestATeamOfNetworkManagerIsAdvisedAgainst(t *testing.T) {
	w := world(nic("eno1", 1), team("team0", "activebackup"))
	m := &Manager{o: Options{Root: t.TempDir()}}
	written(t, m.o.Root, "etc/NetworkManager/system-connections/lan.nmconnection", "[connection]\nid=lan\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24\n")
	after := w.clone()
	after.set("eno1", func(d *Device) { d.Master = "team0" })
	_, checks := m.atBoot(way{is: w, want: after, steps: diff(w, after)})
	if len(checks) != 1 || checks[0].Do != "declare an anchor over team0: of a team NetworkManager would make one of its own" {
		t.Errorf("got %+v", checks)
	}
}

func TestForcePassesOverTheNextBootAndNothingElse(t *testing.T) {
	boot := vmnetd.Check{Level: vmnetd.LevelFail, Name: checkBoot, Text: "cut off"}
	other := vmnetd.Check{Level: vmnetd.LevelFail, Name: "eno1", Text: "a macvtap stands on it"}
	if err := refusal([]vmnetd.Check{boot}, true); err != nil {
		t.Error(err)
	}
	for _, forced := range []bool{false, true} {
		if err := refusal([]vmnetd.Check{boot, other}, forced); !errors.Is(err, vmnetd.ErrBusy) {
			t.Errorf("force %v: %v", forced, err)
		}
	}
}

func TestVMAnApplyThatTheNextBootWouldCutOffIsRefusedUnlessForced(t *testing.T) {
	for name, test := range map[string]struct{ path, old, place, next, file, good string }{
		"interfaces": {
			"etc/network/interfaces", "auto eno1\niface eno1 inet static\n  address 192.0.2.17/24\n",
			"/etc/network/interfaces:2", "iface br0 inet static",
			"etc/network/interfaces", "allow-hotplug br0\niface br0 inet static\n  address 192.0.2.17/24\n",
		},
		"network": {
			"etc/systemd/network/lan.network", "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\n",
			"/etc/systemd/network/lan.network:4", "[Match]\nName=br0",
			"etc/systemd/network/lan.network", "[Match]\nName=br0\n[Network]\nAddress=192.0.2.17/24\n",
		},
		"keyfile": {
			"etc/NetworkManager/system-connections/lan.nmconnection", "[connection]\nid=lan\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24\n",
			"/etc/NetworkManager/system-connections/lan.nmconnection:5", "type=bridge\ninterface-name=br0",
			"etc/NetworkManager/system-connections/br0.nmconnection", "[connection]\nid=br0\ntype=bridge\ninterface-name=br0\n[ipv4]\naddress1=192.0.2.17/24\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "eno1")
			h.ip(t, "addr", "add", "192.0.2.17/24", "dev", "eno1")
			root := filepath.Join(h.lib, "root")
			written(t, root, test.path, test.old)
			specs := []Spec{bridge("br0", "eno1")}
			p, err := h.Plan(t.Context(), specs, nil)
			if err != nil || len(p.Problems) != 1 || p.Problems[0].Name != checkBoot || !strings.HasPrefix(p.Problems[0].Text, test.place+" gives 192.0.2.17 to eno1") {
				t.Fatalf("plan: %+v, %v", p.Problems, err)
			}
			_, err = h.Apply(t.Context(), specs, vmnetd.ApplyOptions{NoConfirm: true})
			if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), test.place) || !strings.Contains(vmnetd.NextOf(err), test.next) {
				t.Fatalf("got %v, next %q", err, vmnetd.NextOf(err))
			}
			if h.there(t, "br0") {
				t.Fatal("refused, and made all the same")
			}
			written(t, root, test.file, test.good)
			h.apply(t, specs, vmnetd.ApplyOptions{NoConfirm: true})
			written(t, root, test.file, "")
			written(t, root, test.path, test.old)
			h.apply(t, nil, vmnetd.ApplyOptions{NoConfirm: true}) // nobody becomes a port
			h.apply(t, specs, vmnetd.ApplyOptions{NoConfirm: true, Force: true})
		})
	}
}
