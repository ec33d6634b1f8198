package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

func TestNamesCompleteFromTheDaemon(t *testing.T) {
	f := &fake{
		nics: []vmnetd.Attachment{nic("vm2", "net1"), nic("vm1", "net0"), nic("vm1", "net1")},
		uplinks: []vmnetd.UplinkState{{Name: "u0"}, {Name: "wan", Kind: "anchor", Ports: []string{"team0"}},
			{Name: "team0", Kind: "team", Ports: []string{"eno1", "eno2"}, Drained: []string{"eno2"}}, {Name: "bond0", Kind: "bond", Ports: []string{"eno3"}}},
		links:     []vmnetd.HostLink{{Network: "dmz"}},
		explained: []policy.Explanation{{Network: "lan", Granted: true}, {Network: "dmz", ExitCode: 5}, {Network: "secret", ExitCode: 3}},
	}
	for line, want := range map[string]string{
		"attach ":                 "vm1 vm2",
		"detach ":                 "vm1 vm2",
		"detach vm1 ":             "",
		"detach vm1 --id ":        "net0 net1",
		"show ":                   "vm1/net0 vm1/net1 vm2/net1",
		"attach vm1 --network ":   "dmz lan",
		"attach vm1 --uplink ":    "bond0 team0 u0 wan",
		"uplink show ":            "bond0 team0 u0 wan",
		"uplink plan wan ":        "bond0 team0 u0 wan",
		"uplink move ":            "wan",
		"uplink move wan --to ":   "team0",
		"uplink drain ":           "eno1 eno2 eno3",
		"uplink undrain ":         "eno2",
		"uplink hold u":           "bond0 team0 u0 wan",
		"team state ":             "team0",
		"team port-config team0 ": "eno1 eno2",
		"bond state ":             "bond0 wan",
		"convert team2bond ":      "team0",
		"attach vm1 --mode ":      "bridge l2 l3 passthru private switched vepa",
		"host-link ":              "dmz lan",
		"host-link lan ":          "",
		"host-link lan --uplink ": "bond0 team0 u0 wan",
		"tap-helper vm1 ":         "dmz lan",
		"completion ":             "bash zsh fish",
	} {
		got := do(t, f, append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)...)
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		words := lines[:len(lines)-1] // the last line is the directive
		if diff := cmp.Diff(want, strings.Join(words, " ")); diff != "" {
			t.Errorf("%s: %s\n%+v", line, diff, got)
		}
	}
}

func TestCompletionIsSilentWithoutTheDaemon(t *testing.T) {
	got := do(t, nil, "__completeNoDesc", "attach", "")
	if strings.TrimSpace(got.out) != ":4" || strings.Contains(got.err, "not running") {
		t.Errorf("%+v", got)
	}
}

func TestNamespacesCompleteWithoutTheDaemon(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"c2", "c1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for flag, want := range map[string]string{"via": "libvirt\nqmp\nnetns:c1\nnetns:c2\n:4\n", "ip": ":4\n", "route": ":4\n"} {
		var out, errs bytes.Buffer
		a := testApp(nil, &out, &errs)
		a.netns = dir
		if code := a.run(t.Context(), []string{"__completeNoDesc", "attach", "c1", "--" + flag, ""}); code != 0 || out.String() != want {
			t.Errorf("--%s: %d %q, want %q", flag, code, out.String(), want)
		}
	}
}
