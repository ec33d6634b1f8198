package hostconf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
			"NetworkManager /etc/NetworkManager/system-connections/lan.nmconnection:8 192.0.2.17/24 via 192.0.2.1 dynamic false",
		},
		"NetworkManager for any NIC": {
			map[string]string{"run/NetworkManager/system-connections/w.nmconnection": "[connection]\nid=Wired connection 1\ntype=ethernet\n[ipv4]\nmethod=auto\n"},
			"NetworkManager /run/NetworkManager/system-connections/w.nmconnection:1  via  dynamic true",
		},
		"netplan": {
			map[string]string{"etc/netplan/01.yaml": "network:\n  version: 2\n  ethernets:\n    eno1:\n      addresses:\n        - 192.0.2.17/24\n        - '2001:db8::17/64': {label: x}\n      routes: [{to: default, via: 192.0.2.1}]\n"},
			"netplan /etc/netplan/01.yaml:4 192.0.2.17/24,2001:db8::17/64 via 192.0.2.1 dynamic false",
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
			if got := inWords(Find(host(t, test.files), "eno1", nicMAC)); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestOtherDevicesAreNotMeant(t *testing.T) {
	root := host(t, map[string]string{
		"etc/network/interfaces":             "iface eno1 inet static\naddress 192.0.2.17/24\n",
		"etc/systemd/network/10-lan.network": "[Match]\nName=eno1\n[Network]\nDHCP=yes\n",
		"etc/netplan/1.yaml":                 "network: {ethernets: {eno1: {dhcp4: true}}}\n",
	})
	if got := Find(root, "wan", ""); len(got) != 0 {
		t.Errorf("got %s", inWords(got))
	}
}

func TestLinesGiveTheAddressToAnotherDevice(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"ifupdown": {"etc/network/interfaces": "iface eno1 inet static\naddress 192.0.2.17/24\n"},
		"networkd": {"etc/systemd/network/1.network": "[Match]\nName=eno1\n[Network]\nAddress=192.0.2.17/24\n"},
		"netplan":  {"etc/netplan/1.yaml": "network: {ethernets: {eno1: {addresses: [192.0.2.17/24], gateway4: 192.0.2.1}}}\n"},
		"NetworkManager": {
			"etc/NetworkManager/system-connections/l.nmconnection": "[connection]\nid=l\ninterface-name=eno1\n[ipv4]\naddress1=192.0.2.17/24,192.0.2.1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := host(t, files)
			found := Find(root, "eno1", nicMAC)
			if len(found) != 1 {
				t.Fatalf("found %s", inWords(found))
			}
			text := strings.Join(found[0].Lines("wan"), "\n") + "\n"
			if !strings.Contains(text, "wan") {
				t.Errorf("got %q", text)
			}
			// What is written as told names the device.
			for path, old := range files {
				if name == "NetworkManager" {
					return // a command, not a file
				}
				written := map[string]string{path: text}
				if name != "netplan" {
					written[path] = strings.NewReplacer("iface eno1 inet static\n", text, "[Match]\nName=eno1\n", text).Replace(old)
				}
				if again := Find(host(t, written), "wan", ""); len(again) != 1 || strings.Join(again[0].Addresses, ",") != "192.0.2.17/24" {
					t.Errorf("written as told: %s", inWords(again))
				}
			}
		})
	}
}

func FuzzFilesNeverPanic(f *testing.F) {
	f.Add("iface eno1 inet static\naddress 1\n")
	f.Add("[Match]\nName=!e*\n[Network]\nAddress=1\n")
	f.Add("network: {ethernets: {eno1: {addresses: [1]}}}")
	f.Fuzz(func(_ *testing.T, text string) {
		for _, read := range []func(file) []entry{netplan, connection, func(x file) []entry { return []entry{network(x)} }} {
			for _, e := range read(file{"/x", text}) {
				e.matches("eno1", nicMAC)
			}
		}
		p := ifupdown{root: "/nowhere", seen: map[string]bool{}}
		p.read(file{"/x", text})
	})
}
