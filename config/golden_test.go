package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

var update = flag.Bool("update", false, "write what the golden tests get into testdata")

// TestEveryMistakeIsToldWithItsLine runs testdata/*.txtar: vmnetd.yaml, conf.d/*
// and want, which is what `check` shows: the mistakes, or the result.
func TestEveryMistakeIsToldWithItsLine(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var raws []rawFile
	want := ""
	for _, f := range archive.Files {
		if f.Name == "want" {
			want = string(f.Data)
			continue
		}
		raws = append(raws, rawFile{Path: "/etc/vmnetd/" + f.Name, Name: f.Name, Content: string(f.Data)})
	}
	got := show(loadRaw(raws, &problems{}))
	if *update {
		archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
		archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
		if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got (go test ./config -update writes it anew)\n%s", diff)
	}
}

// show is a configuration, or what is wrong with it, as text.
func show(cfg agent.Config, err error) string {
	var b strings.Builder
	if err != nil {
		Render(&b, err)
		return b.String()
	}
	for _, u := range cfg.Uplinks {
		fmt.Fprintf(&b, "uplink %s external=%v device=%q mac=%q path=%q mtu=%d\n", u.Name, u.Kind == vmnetd.UplinkExternal, u.Device, u.MAC, u.Path, u.MTU)
	}
	fmt.Fprintf(&b, "defaults %s\n", showGrant(cfg.Policy.Defaults))
	for _, n := range cfg.Policy.Networks {
		fmt.Fprintf(&b, "network %s (%s) uplinks=%v %s\n", n.Name, n.At, n.Uplinks, showGrant(n.Grant))
	}
	for _, r := range cfg.Policy.Rules {
		fmt.Fprintf(&b, "rule %s (%s) vm=%q uuid=%q nic=%q label=%v networks=%v deny=%q %s\n", r.Text, r.At, r.VM, r.UUID, r.NIC, r.Label, r.Networks, r.Deny, showGrant(r.Grant))
	}
	for _, v := range cfg.VMs {
		fmt.Fprintf(&b, "vm %s (%s) labels=%v\n", v.Name, v.At, cfg.Policy.Labels[v.Name])
		for _, n := range v.NICs {
			fmt.Fprintf(&b, "  nic %s/%s network=%q uplink=%q mode=%q mac=%q queues=%d bus=%q addr=%q\n", n.VM, n.ID, n.Network, n.Uplink, n.Mode, n.MAC, n.Queues, n.Bus, n.Addr)
		}
	}
	fmt.Fprintf(&b, "sockets %q\n", cfg.Sockets)
	for _, w := range append(cfg.Warnings, Warnings(cfg, func(s uplink.Spec) bool { return !strings.HasPrefix(s.Name, "absent") })...) {
		fmt.Fprintf(&b, "warning %s\n", w)
	}
	return b.String()
}

func showGrant(g policy.Grant) string {
	var parts []string
	if g.Modes != nil {
		parts = append(parts, fmt.Sprintf("modes=%v@%d", g.Modes, g.ModesAt.Line))
	}
	if g.MTU != 0 {
		parts = append(parts, fmt.Sprintf("mtu=%d@%d", g.MTU, g.MTUAt.Line))
	}
	if g.Queues.Given {
		parts = append(parts, fmt.Sprintf("queues=%+v@%d", g.Queues, g.QueuesAt.Line))
	}
	if g.MACs != nil {
		parts = append(parts, fmt.Sprintf("macs=%v@%d", g.MACs, g.MACsAt.Line))
	}
	return "{" + strings.Join(parts, " ") + "}"
}
