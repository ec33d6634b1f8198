package config

import "testing"

func TestAMistakeToldByItsPathHasItsPlace(t *testing.T) {
	var p problems
	root, ok := parse(newFile("f", "f", 0, `mode: x
ports:
  - eno1
  - {name: eno2, prio: 1}
link_watch: {name: ethtool}
runner:
  name: lacp
`), &p)
	if !ok {
		t.Fatal(p.errors())
	}
	for path, want := range map[string]string{
		"":                    "f:1",
		"mode":                "f:1",
		"ports":               "f:3",
		"ports[0].name":       "f:3",
		"ports[0].prio":       "f:3",
		"ports[1].prio":       "f:4",
		"ports[1].queue_id":   "f:4",
		"ports[2].name":       "f:3",
		"link_watch[0].name":  "f:5",
		"link_watch[0].delay": "f:5",
		"runner.name":         "f:7",
		"runner.active":       "f:7",
		"lacp_rate":           "f:1",
	} {
		if got := root.find(path).String(); got != want {
			t.Errorf("%q is at %s, want %s", path, got, want)
		}
	}
}
