package reachability

import (
	"slices"
	"strings"
	"testing"
)

const someTable = `# Text
| mode | a VM gets |
|---|---|
| l2 | ipvtap |

| NIC | outside 4 | host 4 |
|---|---|---|
| ipvtap l2 | yes | no |
| macvtap passthru | yes | - |

| not | of | it |
`

func TestTheTableIsReadAsItStands(t *testing.T) {
	table, err := ParseTable(someTable)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(table.NICs, []string{"ipvtap l2", "macvtap passthru"}) || !slices.Equal(table.Columns, []string{outside4, host4}) {
		t.Errorf("%+v", table)
	}
	for _, c := range [][3]string{{"ipvtap l2", outside4, Yes}, {"ipvtap l2", host4, No}, {"macvtap passthru", host4, Nobody}, {"ipvtap l2", host6, ""}, {"tap switched", host4, ""}} {
		if got := table.Says(c[0], c[1]); got != c[2] {
			t.Errorf("%s, %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestATableThatDoesNotSayIsRefused(t *testing.T) {
	for was, is := range map[string]string{
		"| NIC |":                "| VM |",
		"| no |":                 "| maybe |",
		"| yes | no":             "| yes",
		"macvtap passthru | yes": "ipvtap l2 | yes",
	} {
		if _, err := ParseTable(strings.Replace(someTable, was, is, 1)); err == nil {
			t.Errorf("with %q for %q it was read", is, was)
		}
	}
}

func TestSomeAndAllAreNotTheSame(t *testing.T) {
	trial := Trial{rows: map[string][]*path{"ipvtap l2": {
		{column: outside4, came: true}, {column: outside4, came: true},
		{column: outside6}, {column: outside6},
		{column: host4, came: true}, {column: host4},
	}}}
	for column, want := range map[string]string{outside4: Yes, outside6: No, host4: "some", host6: Nobody} {
		if got, _ := trial.Says("ipvtap l2", column); got != want {
			t.Errorf("%s: %q, want %q", column, got, want)
		}
	}
}
