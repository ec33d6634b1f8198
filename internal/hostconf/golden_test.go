package hostconf

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What netplan and NetworkManager make of the lines lies in testdata: netplan
// generate --root-dir (0.106) and nmcli --offline connection modify (1.42.4),
// both of Debian 12, were given what is in the files named lines. They are too
// large to be installed for a test. Where they are installed,
// go test -run TheLines -recapture ./internal/hostconf  asks them again.
var recapture = flag.Bool("recapture", false, "ask netplan and nmcli again what they make of the lines")

func TestNetplanAndNetworkManagerTakeTheLines(t *testing.T) {
	const netplan = "network: {renderer: RENDERER, ethernets: {eno1: {addresses: [192.0.2.17/24, '2001:db8::17/64'], routes: [{to: default, via: 192.0.2.1}, {to: default, via: '2001:db8::1'}]}}}\n"
	const keyfile = "[connection]\nid=lan\ntype=ethernet\ninterface-name=eno1\n[ipv4]\nmethod=manual\naddress1=192.0.2.17/24,192.0.2.1\n[ipv6]\nmethod=manual\naddress1=2001:db8::17/64,2001:db8::1\n"
	bridge := Device{Name: "br0", Kind: "bridge", Options: map[string]string{"stp_state": "0"}}
	byNetworkd, byNM := strings.Replace(netplan, "RENDERER", "networkd", 1), strings.Replace(netplan, "RENDERER", "NetworkManager", 1)
	for _, test := range []struct {
		name, path, text string
		to               Device
		made             string // the file that the tool made of the lines
	}{
		{"netplan-networkd", "etc/netplan/1.yaml", byNetworkd, wan, "run/systemd/network/10-netplan-wan.network"},
		{"netplan-nm-bond", "etc/netplan/1.yaml", byNM, wan, "run/NetworkManager/system-connections/netplan-wan.nmconnection"},
		{"netplan-nm-bridge", "etc/netplan/1.yaml", byNM, bridge, "run/NetworkManager/system-connections/netplan-br0.nmconnection"},
		{"nm-bond", "etc/NetworkManager/system-connections/lan.nmconnection", keyfile, wan, ""},
		{"nm-bridge", "etc/NetworkManager/system-connections/lan.nmconnection", keyfile, bridge, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := find(host(t, map[string]string{test.path: test.text}))
			if len(found) != 1 {
				t.Fatalf("found %s", inWords(found))
			}
			_, lines := found[0].Lines(test.to)
			text := strings.Join(lines, "\n") + "\n"
			golden := filepath.Join("testdata", test.name)
			if *recapture {
				capture(t, golden, text, test.made)
			}
			if asked := read(t, golden+".lines"); asked != text {
				t.Fatalf("the tool was asked about\n%snow the lines are\n%s", asked, text)
			}
			// Under names that are not netplan's, so that they are the source.
			path := "etc/NetworkManager/system-connections/x.nmconnection"
			if strings.HasSuffix(test.made, ".network") {
				path = "etc/systemd/network/1.network"
			}
			made := read(t, golden+".made")
			got := Read(host(t, map[string]string{path: made})).Find(test.to)
			if len(got) != 1 || !slices.Equal(got[0].Addresses, found[0].Addresses) || !slices.Equal(sorted(got[0].gateways), sorted(found[0].gateways)) {
				t.Errorf("the tool made of it\n%swhich is %s", made, inWords(got))
			}
			if kind := "type=" + test.to.Kind + "\n"; path != "etc/systemd/network/1.network" && !strings.Contains(made, kind) {
				t.Errorf("it is not of %s:\n%s", kind, made)
			}
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// capture has the real tool read the lines.
func capture(t *testing.T, golden, text, made string) {
	t.Helper()
	var out []byte
	var err error
	if made == "" {
		cmd := exec.Command("nmcli", "--offline", "connection", "modify", "connection.uuid", "00000000-0000-4000-8000-000000000000")
		cmd.Stdin = strings.NewReader(text)
		out, err = cmd.Output()
	} else {
		root := host(t, map[string]string{"etc/netplan/1.yaml": text})
		if said, err := exec.Command("netplan", "generate", "--root-dir", root).CombinedOutput(); err != nil || len(bytes.TrimSpace(said)) > 0 {
			t.Fatalf("netplan: %v: %s", err, said)
		}
		out, err = os.ReadFile(filepath.Join(root, made))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
		t.Fatal(err)
	}
	for end, text := range map[string][]byte{".lines": []byte(text), ".made": out} {
		if err := os.WriteFile(golden+end, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
