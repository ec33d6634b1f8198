package config

import (
	"strings"
	"testing"
)

func readReference(t *testing.T) (*file, *node) {
	t.Helper()
	content, err := readFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := newFile("reference.yaml", "reference.yaml", 0, content)
	var p problems
	root, ok := parse(f, &p)
	if !ok {
		t.Fatal(p.errors())
	}
	return f, root
}

// folded is the path of a key under the first of those that have the same keys.
var folded = strings.NewReplacer(
	"networks[].filter.", "defaults.filter.", "rules[].filter.", "defaults.filter.",
	"networks[].bandwidth.", "defaults.bandwidth.", "rules[].bandwidth.", "defaults.bandwidth.",
	"networks[].port.", "defaults.port.", "rules[].port.", "defaults.port.",
	"networks[].ipvlan.", "defaults.ipvlan.", "rules[].ipvlan.", "defaults.ipvlan.",
	"uplinks[].external.", "uplinks[].nic.",
	"team.ports[].link_watch[].", "team.link_watch[].",
	"team.mcast_rejoin.", "team.notify_peers.",
).Replace

// written lists the keys under n with where each stands first.
func written(n *node, under string, into map[string]place) {
	for _, e := range n.entries {
		path := folded(strings.TrimPrefix(under+"."+e.name, "."))
		if _, there := into[path]; !there {
			into[path] = e.at
		}
		written(e.value, path, into)
	}
	for _, i := range n.items {
		written(i, under+"[]", into)
	}
}

func TestReferenceIsAGoodConfiguration(t *testing.T) {
	cfg, err := Check("reference.yaml", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Warnings) > 0 {
		t.Errorf("warnings: %v", cfg.Warnings)
	}
}

func TestReferenceExplainsEveryKeyThatWorks(t *testing.T) {
	f, root := readReference(t)
	keys := map[string]place{}
	written(root, "", keys)
	documentKeys.paths("", func(path string, later bool) {
		at, there := keys[folded(path)]
		switch {
		case later && there:
			t.Errorf("%s: of a later version, and in reference.yaml:%d", path, at.line)
		case !later && !there:
			t.Errorf("%s: not in reference.yaml", path)
		case there && !strings.HasPrefix(strings.TrimSpace(f.line(at.line-1)), "#"):
			t.Errorf("%s: no comment before reference.yaml:%d", path, at.line)
		}
	})
}
