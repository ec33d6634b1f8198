package filter

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestTheDoctorRehearsesTheHookAndLeavesNothing(t *testing.T) {
	l := newLab(t)
	checks := l.Doctor(ctx())
	if checks[0].Level != vmnetd.LevelOK {
		t.Errorf("it says %+v", checks[0])
	}
	if shown := l.ns.Run(t, "nft", "list", "ruleset"); shown != "" {
		t.Errorf("left: %s", shown)
	}
	l.set(t, macvtap(t, l).strict()) // the connection is of use after it
}

func TestFilesThatFlushAllTablesAreNamed(t *testing.T) {
	root := t.TempDir()
	for file, text := range map[string]string{
		"etc/nftables.conf":            "#!/usr/sbin/nft -f\n# flush ruleset\n\tflush ruleset\ninclude \"/etc/nftables.d/*.conf\"\ninclude \"local.nft\"\n",
		"etc/nftables.d/a.conf":        "flush ruleset; add table ip x\ninclude \"/etc/nftables.conf\"\n",
		"etc/nftables.d/b.conf":        "flush ruleset ip\nflush table ip x\n",
		"etc/nftables.d/c.other":       "flush ruleset\n",
		"etc/local.nft":                "table ip x {}\nflush ruleset netdev\n",
		"etc/nftables/main.nft":        "\n\n\nflush   ruleset # all\n",
		"etc/sysconfig/nftables.conf":  "include \"/etc/nftables/main.nft\"\n",
		"etc/sysconfig/nftables.conf2": "flush ruleset\n",
	} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []flush{{"/etc/nftables.conf", 3}, {"/etc/nftables.d/a.conf", 1}, {"/etc/local.nft", 2}, {"/etc/nftables/main.nft", 4}}
	if got := flushesUnder(root); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	check := checkFlushes(root)[0]
	if text := `/etc/nftables.conf:3 "flush ruleset" removes our filters on reload; they are back within 1 s`; check.Text != text || check.Level != vmnetd.LevelWarn {
		t.Errorf("it says %+v", check)
	}
}
