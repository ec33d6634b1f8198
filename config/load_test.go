package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd"
)

func loadText(content string) error {
	_, err := loadRaw([]rawFile{{Path: "/etc/vmnetd.yaml", Name: "vmnetd.yaml", Content: content}}, &problems{})
	return err
}

// oneMistake are entries with exactly one mistake each, by section.
var oneMistake = map[string][]string{
	"uplinks": {
		`{name: a1, nic: {}, mtu: 1}`, `{name: a2, nci: {}}`, `{name: a3}`, `{name: a4, anchor: {}}`, `{nic: {}}`,
		`{name: abcdefghijklmnop, nic: {}}`, `{name: wan, nic: {}}`, `17`, `{name: a8, vlan: {over: wan, id: 4095}}`, `{name: a9, anchor: {over: [nix]}}`, `{name: a10, bridge: {ports: [a10]}}`, `{name: a11, bridge: {ports: [x1, x1]}}`,
		`{name: a12, vlan: {over: wan, id: 2, protocol: 802.1x}}`, `{name: a13, nic: {}, bridge: {}}`, `{name: a14, external: {}, probe: 192.0.2.1}`, `{name: a15, nic: {}, probe: x}`,
		`{name: a5, nic: {match: {mac: x}}}`, `{name: a6, nic: {}, name: a7}`, `{name: a16, nic: {}, limits: {macs: 0}}`, `{name: a17, nic: {}, hairpin: 1}`,
	},
	"networks": {
		`{name: b1, uplinks: [nix]}`, `{name: b2, uplinks: [wan], modes: [l3s]}`, `{name: lan, uplinks: [wan]}`, `{name: b3, uplinks: wan}`,
		`{name: b4}`, `{uplinks: [wan]}`, `{name: b5, uplinks: [wan], vlan: 0}`, `{name: b7, uplinks: [wan], link: down}`, `{name: b6, uplinks: [wan], mac: {alow: []}}`,
		`{name: b8, uplinks: [wan], modes: [bridge, auto]}`, `{name: b9, uplinks: [wan], vlan: 5, modes: auto, trunk: [1-9]}`, `{name: b10, uplinks: [wan], modes: [l2], trunk: 7}`,
		`{name: b11, uplinks: [wan], ips: [10.0.0.1/8]}`, `{name: b12, uplinks: [wan], filter: {ra: no}}`, `{name: b13, uplinks: [wan], bandwidth: {in: 1}}`, `{name: b14, uplinks: [wan], extra: {}}`,
	},
	"rules": {
		`{vm: c1, networks: [nix]}`, `{vm: "c2["}`, `{vm: c3, modes: [bridge, bridge]}`, `{vm: c4, deny: 1}`, `{vm: c5, label: x}`,
		`{vm: first, networks: [lan]}`, `{uuid: x}`, `{vm: 12}`, `~`, `{vm: c6, extra: {macs: x}}`, `{vm: c7, trunk: [5]}`,
	},
	"vms": {
		`{vm: d1, nics: [{network: nix}]}`, `{vm: d2, nics: [{id: a}, {id: a}]}`, `{vm: 3}`, `{vm: d4, nics: [{mac: "01:00:00:00:00:00"}]}`, `{nics: []}`, `{vm: d5, nics: [{ips: learn}]}`,
	},
}

func TestAnyMistakesTogetherAreToldEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		want := 0
		for _, section := range []string{"uplinks", "networks", "rules", "vms"} {
			entries := slices.Clone(oneMistake[section])
			picked := rapid.SliceOfNDistinct(rapid.SampledFrom(entries), 0, len(entries), rapid.ID[string]).Draw(t, section)
			want += len(picked)
			good := map[string]string{
				"uplinks": "{name: wan, nic: {}}", "networks": "{name: lan, uplinks: [wan]}", "rules": "{vm: first}", "vms": "{vm: d}",
			}[section]
			fmt.Fprintf(&b, "%s:\n- %s\n", section, good)
			for _, e := range picked {
				fmt.Fprintf(&b, "- %s\n", e)
			}
		}
		err := loadText(b.String())
		var es Errors
		errors.As(err, &es)
		if len(es) != want || (err == nil) != (want == 0) {
			t.Fatalf("%d mistakes told, %d are in\n%s\n%v", len(es), want, b.String(), err)
		}
	})
}

func TestFilesMadeToHurtAreRefusedQuickly(t *testing.T) {
	const size = maxFile/4 - 16 // enough to tell what grows with the square
	for name, content := range map[string]string{
		"brackets":      strings.Repeat("[", size),
		"braces":        "rules: " + strings.Repeat("{a: ", size/4),
		"dashes":        strings.Repeat("- ", size/2),
		"question":      strings.Repeat("? ", size/2),
		"colons":        strings.Repeat("a: ", size/3),
		"stairs":        stairs(1000),
		"anchors":       "a: &a [x]\n" + strings.Repeat("b: [*a, *a, *a, *a]\n", size/20),
		"one long text": "rules: [{vm: " + strings.Repeat("a", size-20) + "}]",
		"zeros":         strings.Repeat("\x00", size),
		"keys":          strings.Repeat("rules: []\n", size/10),
		"flow list":     "rules: [" + strings.Repeat("b,", size/2-9) + "]",
		"flow mapping":  "rules: {" + strings.Repeat("b: 1,", size/5-9) + "}",
		"quotes":        strings.Repeat("'", size),
		"pipes":         strings.Repeat("a: |\n", size/5),
		"commas":        strings.Repeat(",", size),
		"comments":      "x: 1\n" + strings.Repeat("#\n", size/2-9),
		"words":         strings.Repeat("a\n", size/2),
		"one port":      "uplinks:\n" + lines(size/28, "- {name: a%d, bridge: {ports: [x]}}"),
		"undeclared":    "uplinks:\n" + lines(size/28, "- {name: a%d, anchor: {over: [y%[1]d]}}"),
		"tower":         "uplinks:\n- {name: a0, nic: {}, mtu: 99}\n" + tower(size/40) + "- {name: top, nic: {}, external: {}}\n",
		"ring":          "uplinks:\n" + tower(size/40) + "- {name: a0, anchor: {over: [a1]}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			err := loadText(content)
			if !errors.Is(err, vmnetd.ErrInvalid) {
				t.Errorf("got %v", err)
			}
			checkPlaces(t, err, []rawFile{{Path: "/etc/vmnetd.yaml", Content: content}})
			if took := time.Since(start); took > 60*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// lines is a format with the numbers from 1 to n put in.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i+1)
	}
	return b.String()
}

// tower is uplinks that stand on each other, a1 on a0.
func tower(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "- {name: a%d, vlan: {over: a%d, id: 1}}\n", i+1, i)
	}
	fmt.Fprintf(&b, "- {name: b, anchor: {over: [a%d]}, mtu: 100}\n", n)
	return b.String()
}

func stairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestNotUTF8HasAPlace(t *testing.T) {
	var es Errors
	if !errors.As(loadText("rules:\n  - {vm: \"gr\xfcn\"}\n"), &es) || len(es) != 1 || es[0].Line != 2 || es[0].Col != 13 || es[0].Text != "not UTF-8" {
		t.Errorf("got %v", es)
	}
}

func TestByteOrderMarkAndWindowsLineEndsAreTaken(t *testing.T) {
	if err := loadText("\ufeffuplinks:\r\n- {name: wan, nic: {}}\r\n"); err != nil {
		t.Error(err)
	}
	var es Errors
	if !errors.As(loadText("\ufeffuplinks:\r\n- name: wan\r\n  nic: {}\r\n  mtu: 1\r\n"), &es) || es[0].Line != 4 || es[0].Col != 8 {
		t.Errorf("got %v", es)
	}
}

func TestRenderGivesTheNextStepOfAnyError(t *testing.T) {
	var b bytes.Buffer
	Render(&b, vmnetd.Errorf(vmnetd.ErrInvalid, "it is wrong").WithNext("make it right"))
	if b.String() != "it is wrong\nnext: make it right\n" {
		t.Errorf("got %q", b.String())
	}
	b.Reset()
	Render(&b, nil)
	if b.Len() > 0 {
		t.Errorf("of nothing: %q", b.String())
	}
}

func TestErrorsAreInvalid(t *testing.T) {
	err := loadText("x: 1\ny: 2\n")
	if vmnetd.ClassOf(err).Exit != 2 {
		t.Errorf("class %v", vmnetd.ClassOf(err))
	}
	if n := strings.Count(err.Error(), "unknown key"); n != 2 {
		t.Errorf("%d of 2 told: %v", n, err)
	}
}
