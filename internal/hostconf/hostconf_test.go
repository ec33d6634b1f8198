package hostconf

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// host is a folder with a host's files in it: "PATH\nTEXT" each.
func host(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		whole := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(whole), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(whole, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func inWords(list []Source) string {
	var lines []string
	for _, s := range list {
		lines = append(lines, fmt.Sprintf("%s %s %s via %s dynamic %v", s.Tool, s.Place(), strings.Join(s.Addresses, ","), s.Gateway, s.Dynamic))
	}
	return strings.Join(lines, "\n")
}

const nicMAC = "3c:ec:ef:01:02:03"

var (
	eno1 = Device{Name: "eno1", MAC: nicMAC, Path: "pci-0000:01:00.0"}
	wan  = Device{Name: "wan", Kind: "bond", Options: map[string]string{"mode": "active-backup", "miimon": "50", "primary": "eno1"}}
)

func find(root string) []Source { return Read(root).Find(eno1) }

func TestEveryToolIsFoundByFileAndLine(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"ifupdown": {
			map[string]string{"etc/network/interfaces": "# host\nauto lo eno1\niface lo inet loopback\n\nallow-hotplug eno2\niface eno1 inet static\n  address 192.0.2.17/24\n  gateway \\\n 192.0.2.1\niface eno2 inet dhcp\n"},
			"ifupdown /etc/network/interfaces:6 192.0.2.17/24 via 192.0.2.1 dynamic false",
		},
		"ifupdown includes": {
			map[string]string{
				"etc/network/interfaces":            "source interfaces.d/*.conf\nsource-directory more\nsource /etc/network/interfaces\n",
				"etc/network/interfaces.d/a.conf":   "iface eno1 inet6 auto\n",
				"etc/network/more/b":                "iface eno1 inet static\naddress 192.0.2.18\n",
				"etc/network/more/not.taken":        "iface eno1 inet static\naddress 192.0.2.99\n",
				"etc/network/interfaces.d/c.notown": "iface eno1 inet static\naddress 192.0.2.98\n",
			},
			"ifupdown /etc/network/interfaces.d/a.conf:1  via  dynamic true\nifupdown /etc/network/more/b:1 192.0.2.18 via  dynamic false",
		},
		"networkd, the first that matches": {
			map[string]string{
				"etc/systemd/network/10-lan.network":     "[Match]\nName=en* !eno9\n[Network]\nAddress=192.0.2.17/24\nAddress=2001:db8::17/64\nGateway=192.0.2.1\n",
				"usr/lib/systemd/network/10-lan.network": "[Match]\nName=eno1\n[Network]\nDHCP=yes\n",
				"etc/systemd/network/20-all.network":     "[Match]\nType=ether\n[Network]\nDHCP=yes\n",
			},
			"systemd-networkd /etc/systemd/network/10-lan.network:4 192.0.2.17/24,2001:db8::17/64 via 192.0.2.1 dynamic false",
		},
		"networkd by MAC": {
			map[string]string{"run/systemd/network/x.network": "[Match]\nPermanentMACAddress=3C:EC:EF:01:02:03\n[Network]\nDHCP=ipv4\n"},
			"systemd-networkd /run/systemd/network/x.network:1  via  dynamic true",
		},
		"NetworkManager": {
			map[string]string{"etc/NetworkManager/system-connections/lan.nmconnection": "[connection]\nid=lan\ntype=ethernet\ninterface-name=eno1\n\n[ipv4]\nmethod=manual\naddress1=192.0.2.17/24,192.0.2.1\n[ipv6]\nmethod=auto\n"},
			"NetworkManager /etc/NetworkManager/system-connections/lan.nmconnection:8 192.0.2.17/24 via 192.0.2.1 dynamic true",
		},
		"NetworkManager for any NIC": {
			map[string]string{"run/NetworkManager/system-connections/w.nmconnection": "[connection]\nid=Wired connection 1\ntype=ethernet\n[ipv4]\nmethod=auto\n"},
			"NetworkManager /run/NetworkManager/system-connections/w.nmconnection:1  via  dynamic true",
		},
		"netplan": {
			map[string]string{"etc/netplan/01.yaml": "network:\n  version: 2\n  ethernets:\n    eno1:\n      addresses:\n        - 192.0.2.17/24\n        - '2001:db8::17/64': {label: x}\n      routes: [{to: default, via: 192.0.2.1}]\n"},
			"netplan /etc/netplan/01.yaml:4 192.0.2.17/24,2001:db8::17/64 via 192.0.2.1 dynamic false",
		},
		"netmasks and labels of ifupdown": {
			map[string]string{"etc/network/interfaces": "iface eno1:0 inet static\n  address 192.0.2.18\n  netmask 255.255.255.0\n"},
			"ifupdown /etc/network/interfaces:1 192.0.2.18/24 via  dynamic false",
		},
		"networkd, static and by DHCP": {
			map[string]string{"etc/systemd/network/1.network": "[Match]\nName=eno1\n[Network]\nDHCP=ipv6\n[Address]\nAddress=192.0.2.17/24\n[Route]\nDestination=198.51.100.0/24\nGateway=192.0.2.9\n[Route]\nGateway=192.0.2.1\n"},
			"systemd-networkd /etc/systemd/network/1.network:6 192.0.2.17/24 via 192.0.2.1 dynamic true",
		},
		"networkd, a file without effect hides another": {
			map[string]string{"etc/systemd/network/1.network": "", "usr/lib/systemd/network/1.network": "[Match]\nName=eno1\n[Network]\nDHCP=yes\n"},
			"",
		},
		"networkd, told to leave it alone": {
			map[string]string{
				"etc/systemd/network/00-eno1.network": "[Match]\nName=eno1\n[Link]\nUnmanaged=yes\n",
				"etc/systemd/network/10-all.network":  "[Match]\nType=ether\n[Network]\nDHCP=yes\n",
			},
			"",
		},
		"networkd, what only the device could answer": {
			map[string]string{
				"etc/systemd/network/1.network": "[Match]\nDriver=e1000\n[Network]\nDHCP=yes\n",
				"etc/systemd/network/2.network": "[Match]\nKind=bond\n[Network]\nDHCP=yes\n",
				"etc/systemd/network/3.network": "[Match]\nKind=!*\nDriver=e1000\n[Network]\nAddress=192.0.2.1/24 ; no\nAddress=\nAddress=192.0.2.17/24\n",
			},
			"systemd-networkd /etc/systemd/network/3.network:7 192.0.2.17/24 via  dynamic false",
		},
		"networkd by path": {
			map[string]string{
				"etc/systemd/network/0.network": "[Match]\nPath=!pci-0000:01:* \n[Network]\nAddress=192.0.2.16/24\n",
				"etc/systemd/network/1.network": "[Match]\nPath=pci-0000:01:*\n[Network]\nAddress=192.0.2.17/24\n",
			},
			"systemd-networkd /etc/systemd/network/1.network:4 192.0.2.17/24 via  dynamic false",
		},
		"networkd, a drop-in for DHCP and a gateway that is learned": {
			map[string]string{
				"etc/systemd/network/1.network":          "[Match]\nName=eno1\n[Network]\nDHCP=yes\nAddress=192.0.2.17/24\nGateway=_dhcp4\n",
				"run/systemd/network/1.network.d/x.conf": "[Network]\nDHCP=no\nAddress=192.0.2.18/24\n[Route]\nDestination=::/0\nGateway=fe80::1\n",
			},
			"systemd-networkd /etc/systemd/network/1.network:5 and /run/systemd/network/1.network.d/x.conf:3 192.0.2.17/24,192.0.2.18/24 via fe80::1 dynamic false",
		},
		"netplan, what is added to its networkd file": {
			map[string]string{
				"etc/netplan/1.yaml":                                      "network: {ethernets: {eno1: {addresses: [192.0.2.17/24]}}}\n",
				"run/systemd/network/10-netplan-eno1.network":             "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\n",
				"etc/systemd/network/10-netplan-eno1.network.d/more.conf": "[Network]\nAddress=192.0.2.18/24\n",
			},
			"systemd-networkd /etc/systemd/network/10-netplan-eno1.network.d/more.conf:2 192.0.2.18/24 via  dynamic false\nnetplan /etc/netplan/1.yaml:1 192.0.2.17/24 via  dynamic false",
		},
		"netplan, several files": {
			map[string]string{
				"lib/netplan/00.yaml": "network: {ethernets: {id: {match: {name: [wl0, 'en*']}, dhcp4: true}}}\n",
				"etc/netplan/01.yaml": "network: {ethernets: {id: {addresses: [192.0.2.17/24], dhcp4: true}}}\n",
				"etc/netplan/02.yaml": "network: {ethernets: {id: {addresses: [192.0.2.99/24]}}}\n",
				"run/netplan/02.yaml": "network: {ethernets: {id: {addresses: [192.0.2.18/24], dhcp4: false, routes: [{to: default, via: 192.0.2.1}]}}}\n",
			},
			"netplan /lib/netplan/00.yaml:1  via  dynamic false\nnetplan /etc/netplan/01.yaml:1 192.0.2.17/24 via 192.0.2.1 dynamic false\nnetplan /run/netplan/02.yaml:1 192.0.2.18/24 via 192.0.2.1 dynamic false",
		},
		"NetworkManager, a file without ending, a backup, and one that is hidden": {
			map[string]string{
				"etc/NetworkManager/system-connections/lan":                    "[connection]\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24\nroute1=0.0.0.0/0, 192.0.2.1\nroute2=198.51.100.0/24,192.0.2.9\n",
				"etc/NetworkManager/system-connections/lan~":                   "[connection]\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.99/24\n",
				"etc/NetworkManager/system-connections/x.nmconnection":         "[connection]\ninterface-name=eno2\n",
				"usr/lib/NetworkManager/system-connections/x.nmconnection":     "[connection]\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.98/24\n",
				"usr/lib/NetworkManager/system-connections/without-any-ending": "[connection]\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.97/24\n",
			},
			"NetworkManager /etc/NetworkManager/system-connections/lan:4 192.0.2.17/24 via 192.0.2.1 dynamic false",
		},
		"ifupdown, a stanza of another name": {
			map[string]string{"etc/network/interfaces": "auto mac/3c:ec:ef:*=lan\niface lan inet static\naddress 192.0.2.17/24\niface other inet static\naddress 192.0.2.18/24\n"},
			"ifupdown /etc/network/interfaces:2 192.0.2.17/24 via  dynamic false",
		},
		"NetworkManager, both families": {
			map[string]string{"etc/NetworkManager/system-connections/lan.nmconnection": "[connection]\nid=lan\ntype=ethernet\n[ethernet]\nmac-address=3C-EC-EF-01-02-03\n[ipv4]\naddress1=192.0.2.17/24,192.0.2.1\nmethod=manual\n[ipv6]\naddress1=2001:db8::17/64\ngateway=2001:db8::1\nmethod=manual\n"},
			"NetworkManager /etc/NetworkManager/system-connections/lan.nmconnection:7 192.0.2.17/24,2001:db8::17/64 via 192.0.2.1 dynamic false",
		},
		"NetworkManager, not at boot": {
			map[string]string{"etc/NetworkManager/system-connections/lan.nmconnection": "[connection]\nid=lan\ninterface-name=eno1\nautoconnect=false\n[ipv4]\nmethod=auto\n"},
			"",
		},
		"netplan, what its tools are given has its source there": {
			map[string]string{
				"etc/netplan/01.yaml":                                             "network:\n  ethernets:\n    eno1:\n      dhcp4: no\n      addresses: [192.0.2.17/24]\n",
				"run/systemd/network/10-netplan-eno1.network":                     "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\n",
				"run/NetworkManager/system-connections/netplan-eno1.nmconnection": "[connection]\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24\n",
			},
			"netplan /etc/netplan/01.yaml:3 192.0.2.17/24 via  dynamic false",
		},
		"netplan, in yes and no": {
			map[string]string{"run/netplan/1.yaml": "network: {ethernets: {all: {match: {name: 'en*'}, dhcp4: yes}, every: {match: {}, dhcp6: on}, some: {match: {driver: e1000}, dhcp4: true}, id: {match: {name: eth0}, set-name: eno9, dhcp4: true}}}\n", "etc/netplan/1.yaml": "network: {ethernets: {eno1: {dhcp4: true}}}\n"},
			"netplan /run/netplan/1.yaml:1  via  dynamic true\nnetplan /run/netplan/1.yaml:1  via  dynamic true",
		},
		"cloud-init, by ifupdown": {
			map[string]string{"etc/network/interfaces": "source interfaces.d/*\n", "etc/network/interfaces.d/50-cloud-init": "iface eno1 inet static\naddress 192.0.2.17/24\n"},
			"cloud-init /etc/network/interfaces.d/50-cloud-init:1 192.0.2.17/24 via  dynamic false",
		},
		"cloud-init, by its first lines": {
			map[string]string{"etc/netplan/1.yaml": "# This file is generated. To disable\n# cloud-init's network configuration, write a file\nnetwork: {ethernets: {eno1: {dhcp4: true}}}\n"},
			"cloud-init /etc/netplan/1.yaml:1  via  dynamic true",
		},
		"cloud-init, told to leave the network alone": {
			map[string]string{"etc/netplan/50-cloud-init.yaml": "network: {ethernets: {eno1: {dhcp4: true}}}\n", "etc/cloud/cloud.cfg.d/99-x.cfg": "network: {config: disabled}\n"},
			"netplan /etc/netplan/50-cloud-init.yaml:1  via  dynamic true",
		},
		"cloud-init": {
			map[string]string{"etc/netplan/50-cloud-init.yaml": "network:\n  ethernets:\n    nic0:\n      match: {macaddress: '" + nicMAC + "'}\n      set-name: eno1\n      dhcp4: true\n"},
			"cloud-init /etc/netplan/50-cloud-init.yaml:3  via  dynamic true",
		},
		"files that cannot be read are not there": {
			map[string]string{"etc/netplan/01.yaml": "network: [", "etc/network/interfaces": "iface\n\\", "etc/systemd/network/a.network": "[[\n=\n", "etc/NetworkManager/system-connections/x.nmconnection": "=\n[ipv4\n"},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := inWords(find(host(t, test.files))); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestOtherDevicesAreNotMeant(t *testing.T) {
	root := host(t, map[string]string{
		"etc/network/interfaces":                                 "iface eno1 inet static\naddress 192.0.2.17/24\n",
		"etc/systemd/network/10-lan.network":                     "[Match]\nName=eno1\n[Network]\nDHCP=yes\n",
		"etc/systemd/network/99-all.network":                     "[Match]\nType=ether\n[Network]\nDHCP=yes\n",
		"etc/netplan/1.yaml":                                     "network: {ethernets: {eno1: {dhcp4: true}, all: {match: {}, dhcp4: true}}}\n",
		"etc/NetworkManager/system-connections/any.nmconnection": "[connection]\nid=any\ntype=ethernet\n[ipv4]\nmethod=auto\n",
	})
	if got := Read(root).Find(wan); len(got) != 0 {
		t.Errorf("got %s", inWords(got))
	}
	if len(find(root)) == 0 {
		t.Error("eno1 is not named")
	}
}

func TestLinesGiveTheAddressToAnotherDevice(t *testing.T) {
	bridge := Device{Name: "br0", Kind: "bridge", Options: map[string]string{"stp_state": "0"}}
	for name, test := range map[string]struct {
		path, text string
		to         Device
		head       string // of the file that is written: what the lines stand in place of
		want       string
	}{
		"ifupdown": {"etc/network/interfaces", "iface eno1 inet static\naddress 192.0.2.17/24\n", wan, "iface eno1 inet static\n", "allow-hotplug wan\niface wan inet static\n"},
		"a label":  {"etc/network/interfaces", "iface eno1:1 inet static\naddress 192.0.2.17/24\n", wan, "iface eno1:1 inet static\n", "allow-hotplug wan\niface wan inet static\n"},
		"networkd": {"etc/systemd/network/1.network", "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\n", wan, "[Match]\nName=eno1\n", "[Match]\nName=wan\n"},
		"netplan": {
			"etc/netplan/1.yaml", "network: {ethernets: {eno1: {addresses: [192.0.2.17/24, '2001:db8::/64'], gateway4: 192.0.2.1, gateway6: '2001:db8::1'}}}\n", wan, "",
			"network:\n  ethernets:\n    wan:\n      addresses: [192.0.2.17/24, '2001:db8::/64']\n      routes:\n        - {to: 0.0.0.0/0, via: 192.0.2.1}\n        - {to: '::/0', via: '2001:db8::1'}\n",
		},
		"netplan, by another renderer than the rest": {
			"etc/netplan/1.yaml", "network: {renderer: NetworkManager, ethernets: {renderer: networkd, eno1: {addresses: [192.0.2.17/24]}}}\n", wan, "",
			"network:\n  ethernets:\n    wan:\n      renderer: networkd\n      addresses: [192.0.2.17/24]\n",
		},
		"netplan, by NetworkManager": {
			"etc/netplan/1.yaml", "network: {ethernets: {eno1: {renderer: NetworkManager, addresses: [192.0.2.17/24]}}}\n", wan, "",
			"network:\n  bonds:\n    wan:\n      renderer: NetworkManager\n      parameters: {mode: active-backup, mii-monitor-interval: 50}\n      addresses: [192.0.2.17/24]\n",
		},
		"networkd, from a file that is not to be changed": {
			"run/systemd/network/1.network", "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\nAddress=2001:db8::17/64\nGateway=192.0.2.1\nGateway=2001:db8::1\n", wan, "",
			"[Match]\nName=wan\n[Network]\nAddress=192.0.2.17/24\nAddress=2001:db8::17/64\nGateway=192.0.2.1\nGateway=2001:db8::1\n",
		},
		"NetworkManager": {
			"etc/NetworkManager/system-connections/l.nmconnection", "[connection]\nid=l\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24,192.0.2.1\n[ipv6]\naddress1=2001:db8::17/64\n", wan, "",
			"[connection]\nid=wan\ntype=bond\ninterface-name=wan\n[bond]\nmode=active-backup\nmiimon=50\n[ipv4]\nmethod=manual\naddress1=192.0.2.17/24\ngateway=192.0.2.1\n[ipv6]\nmethod=manual\naddress1=2001:db8::17/64\n",
		},
		"NetworkManager, a bridge": {
			"etc/NetworkManager/system-connections/l.nmconnection", "[connection]\nid=l\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24\n", bridge, "",
			"[connection]\nid=br0\ntype=bridge\ninterface-name=br0\n[bridge]\nstp=false\n[ipv4]\nmethod=manual\naddress1=192.0.2.17/24\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			found := find(host(t, map[string]string{test.path: test.text}))
			if len(found) != 1 {
				t.Fatalf("found %s", inWords(found))
			}
			file, lines := found[0].Lines(test.to)
			text := strings.Join(lines, "\n") + "\n"
			if text != test.want {
				t.Errorf("got\n%swant\n%s", text, test.want)
			}
			if test.head != "" {
				text = strings.Replace(test.text, test.head, text, 1)
			}
			again := Read(host(t, map[string]string{file: text})).Find(test.to)
			if len(again) != 1 || strings.Join(again[0].Addresses, ",") != strings.Join(found[0].Addresses, ",") || strings.Join(again[0].gateways, ",") != strings.Join(found[0].gateways, ",") {
				t.Errorf("written as told: %s", inWords(again))
			}
		})
	}
}

func TestNetworkManagerIsNotToldOfATeam(t *testing.T) {
	for _, syntax := range []string{NetworkManager, Netplan} {
		s := Source{syntax: syntax, holder: NetworkManager, Addresses: []string{"192.0.2.17/24"}}
		if file, lines := s.Lines(Device{Name: "team0", Kind: "team"}); file != "" || lines != nil {
			t.Errorf("%s: %s: %q", syntax, file, lines)
		}
	}
}

func TestAToolThatWasMadeToLetGoIsNoSourceAnyMore(t *testing.T) {
	for _, test := range []struct{ name, path, text string }{
		{NetworkManager, "etc/NetworkManager/system-connections/l.nmconnection", "[connection]\nid=l\ninterface-name=eno1\n[ipv4]\nmethod=auto\n"},
		{NetworkManager, "etc/netplan/1.yaml", "network: {ethernets: {renderer: NetworkManager, eno1: {dhcp4: true}}}\n"},
		{Networkd, "etc/systemd/network/1.network", "[Match]\nName=eno1\n[Network]\nDHCP=yes\n"},
		{Networkd, "etc/netplan/1.yaml", "network: {ethernets: {eno1: {dhcp4: true}}}\n"},
	} {
		name := test.name
		t.Run(name+" by "+test.path, func(t *testing.T) {
			root := host(t, map[string]string{test.path: test.text})
			found := find(root)
			if len(found) != 1 || len(found[0].LetGo("eno1")) != 1 {
				t.Fatalf("found %s", inWords(found))
			}
			command := found[0].LetGo("eno1")[0]
			if command.Tool != name {
				t.Errorf("by %s", command.Tool)
			}
			script, _, _ := strings.Cut(strings.ReplaceAll(command.Line, "> /", "> "+root+"/"), " && ")
			folder := map[string]string{NetworkManager: "etc/NetworkManager/conf.d", Networkd: "etc/systemd/network"}[name]
			if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", script, err, out)
			}
			if got := find(root); len(got) != 0 {
				t.Errorf("after %q: %s", script, inWords(got))
			}
		})
	}
}

func TestCloudInitIsToldToLeaveTheNetworkAlone(t *testing.T) {
	root := host(t, map[string]string{"etc/netplan/50-cloud-init.yaml": "network: {renderer: NetworkManager, ethernets: {eno1: {dhcp4: true}}}\n"})
	found := find(root)
	if len(found) != 1 {
		t.Fatalf("found %s", inWords(found))
	}
	got := found[0].LetGo("eno1")
	if len(got) != 2 || got[0].Tool != CloudInit || !strings.Contains(got[0].Line, "config: disabled") || got[1].Tool != NetworkManager {
		t.Errorf("got %+v", got)
	}
	for _, plain := range find(host(t, map[string]string{"etc/network/interfaces": "iface eno1 inet dhcp\n"})) {
		if c := plain.LetGo("eno1"); len(c) != 0 {
			t.Errorf("ifupdown holds nothing, and is told to let go: %+v", c)
		}
	}
}

func unmanagedOf(root string) devices {
	r := &reader{root: root}
	return unmanaged(r, interfaces(r))
}

func TestWhatNetworkManagerLeavesAlone(t *testing.T) {
	const lib, conf, etc = "usr/lib/NetworkManager/conf.d/1.conf", "etc/NetworkManager/NetworkManager.conf", "etc/NetworkManager/conf.d/0.conf"
	for name, test := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"nothing said":          {nil, false},
		"by name":               {map[string]string{etc: "[keyfile]\nunmanaged-devices=interface-name:en*;lo\n"}, true},
		"not by an =name":       {map[string]string{etc: "[keyfile]\nunmanaged-devices=interface-name:=en*\n"}, false},
		"by MAC":                {map[string]string{etc: "[keyfile]\nunmanaged-devices=mac:3C:EC:EF:01:02:03\n"}, true},
		"by type, but not":      {map[string]string{etc: "[keyfile]\nunmanaged-devices=type:ethernet,except:interface-name:eno1\n"}, false},
		"by a device":           {map[string]string{etc: "[device-x]\nmanaged=0\nmatch-device=interface-name:eno1\n[device-y]\nmatch-device=eno2\n"}, true},
		"of another file":       {map[string]string{lib: "[keyfile]\nunmanaged-devices=*\n", conf: "[keyfile]\nunmanaged-devices=eno2\n"}, false},
		"added":                 {map[string]string{conf: "[keyfile]\nunmanaged-devices=*\n", etc: "[keyfile]\nunmanaged-devices+=eno2\n"}, true},
		"as ifupdown has it":    {map[string]string{conf: "[main]\nplugins=ifupdown,keyfile\n", "etc/network/interfaces": "iface eno1 inet dhcp\n"}, true},
		"ifupdown, as it likes": {map[string]string{conf: "[main]\nplugins=ifupdown,keyfile\n[ifupdown]\nmanaged=true\n", "etc/network/interfaces": "iface eno1 inet dhcp\n"}, false},
		"ifupdown is no plugin": {map[string]string{conf: "[main]\nplugins=keyfile\n", "etc/network/interfaces": "iface eno1 inet dhcp\n"}, false},
		"ifupdown, others":      {map[string]string{conf: "[main]\nplugins=ifupdown\n", "etc/network/interfaces": "iface eno2 inet dhcp\n"}, false},
		"hidden":                {map[string]string{lib: "[keyfile]\nunmanaged-devices=*\n", "etc/NetworkManager/conf.d/1.conf": ""}, false},
	} {
		if got := unmanagedOf(host(t, test.files)).take(eno1); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestALinkToNothingHidesAFileAndAPipeIsNotWaitedFor(t *testing.T) {
	root := host(t, map[string]string{"usr/lib/systemd/network/1.network": "[Match]\nName=eno1\n[Network]\nDHCP=yes\n"})
	folder := filepath.Join(root, "etc/systemd/network")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(folder, "0.network"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := find(root); len(got) != 1 {
		t.Errorf("beside a pipe: %s", inWords(got))
	}
	if err := os.Symlink(os.DevNull, filepath.Join(folder, "1.network")); err != nil {
		t.Fatal(err)
	}
	if got := find(root); len(got) != 0 {
		t.Errorf("got %s", inWords(got))
	}
}

func FuzzFilesNeverPanic(f *testing.F) {
	f.Add("iface eno1 inet static\naddress 1\nnetmask 255.0.255.0\n")
	f.Add("[Match]\nName=!e*\n[Network]\nAddress=1\n[Route]\nGateway=1\n")
	f.Add("[connection]\ntype=ethernet\n[ipv4]\naddress1=1/2,3\n[keyfile]\nunmanaged-devices+=except:interface-name:e*\n")
	f.Add("network: {ethernets: {eno1: {addresses: [1, {2: {}}], routes: [{to: default, via: 1}], match: {name: x}}}}")
	f.Fuzz(func(_ *testing.T, text string) {
		x := file{"/x", text}
		p := ifupdown{r: &reader{root: "/nowhere"}, seen: map[string]bool{}}
		p.read(x)
		entries := append(p.entries(), connection(x))
		if n, ok := network(x, x); ok {
			entries = append(entries, n)
		}
		if part, err := newNetplanFile(x); err == nil {
			both, _ := merged(part.network, part.network).(map[string]any)
			entries = append(entries, part.entries(both)...)
		}
		for _, e := range entries {
			e.matches(eno1)
			e.of(wan, false).Lines(wan)
		}
		devices{}.with(x).take(eno1)
		x.clouds()
	})
}
