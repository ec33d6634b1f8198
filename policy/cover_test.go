package policy

import (
	"path"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func covering(rules ...Rule) []Cover {
	s := &Set{Networks: []Network{{Name: "lan"}, {Name: "v100"}}}
	for i, r := range rules {
		r.At = at("r.yaml", i+1)
		s.Rules = append(s.Rules, r)
	}
	return s.Covered()
}

func TestCoveredNamesTheRuleThatTakesEverything(t *testing.T) {
	for name, c := range map[string]struct {
		rules []Rule
		why   string // of the last rule, "" when it can match
		by    int    // line
	}{
		"the same VM twice":                 {[]Rule{{VM: []string{"a"}}, {VM: []string{"a"}}}, "r.yaml:1", 1},
		"a wider glob":                      {[]Rule{{VM: []string{"db-*"}}, {VM: []string{"x"}}, {VM: []string{"db-1", "db-prod-*"}}}, "r.yaml:1", 1},
		"no matcher covers all":             {[]Rule{{}, {VM: []string{"*"}, NIC: []string{"net0"}, Label: map[string]string{"a": "b"}}}, "r.yaml:1", 1},
		"star covers no matcher":            {[]Rule{{VM: []string{"*"}}, {}}, "r.yaml:1", 1},
		"a narrower glob":                   {[]Rule{{VM: []string{"db-1*"}}, {VM: []string{"db-*"}}}, "", 0},
		"one of a list left":                {[]Rule{{VM: []string{"a"}}, {VM: []string{"a", "b"}}}, "", 0},
		"a NIC left":                        {[]Rule{{NIC: []string{"net0"}}, {VM: []string{"a"}}}, "", 0},
		"the same UUID, other case":         {[]Rule{{UUID: []string{"AB", "CD"}}, {UUID: []string{"ab"}}}, "r.yaml:1", 1},
		"UUIDs never cover VMs without":     {[]Rule{{UUID: []string{"ab"}}, {VM: []string{"a"}}}, "", 0},
		"fewer labels are wider":            {[]Rule{{Label: map[string]string{"t": "1"}}, {Label: map[string]string{"t": "1", "u": "2"}}}, "r.yaml:1", 1},
		"another label":                     {[]Rule{{Label: map[string]string{"t": "1"}}, {Label: map[string]string{"t": "2"}}}, "", 0},
		"a network left":                    {[]Rule{{Networks: []string{"lan"}}, {}}, "", 0},
		"all networks, one by one":          {[]Rule{{Networks: []string{"lan"}}, {Networks: []string{"v100"}}, {}}, "r.yaml:1 and rule r.yaml:2", 1},
		"two rules for its two networks":    {[]Rule{{VM: []string{"a*"}, Networks: []string{"v100"}}, {Networks: []string{"lan"}}, {VM: []string{"ab"}, Networks: []string{"lan", "v100"}}}, "r.yaml:1 and rule r.yaml:2", 1},
		"a deny covers as any other":        {[]Rule{{Deny: "x"}, {VM: []string{"a"}}}, "r.yaml:1", 1},
		"jointly by vm is not reported":     {[]Rule{{VM: []string{"[ab]"}}, {VM: []string{"[c-z]"}}, {VM: []string{"[a-z]"}}}, "", 0},
		"a broken glob is not certain":      {[]Rule{{VM: []string{"["}}, {VM: []string{"["}}}, "", 0},
		"networks that nobody has":          {[]Rule{{VM: []string{"a"}}, {VM: []string{"b"}, Networks: []string{"nope"}}}, "none of its networks is configured: nope", 0},
		"an unknown network covers nothing": {[]Rule{{Networks: []string{"nope", "lan"}}, {Networks: []string{"v100"}}}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := Cover{}
			for _, g := range covering(c.rules...) {
				if g.Rule.Line == len(c.rules) {
					got = g
				}
			}
			want := c.why
			if c.by > 0 {
				want = "everything it matches is taken before by rule " + c.why
			}
			if got.Why != want || got.By.Line != c.by {
				t.Errorf("got %q by line %d, want %q by line %d", got.Why, got.By.Line, want, c.by)
			}
		})
	}
}

func TestCoverCarriesTextsAndPlaces(t *testing.T) {
	got := covering(Rule{VM: []string{"*"}, Text: `vm: "*"`}, Rule{VM: []string{"a"}, Text: `vm: "a"`})
	want := []Cover{{Rule: at("r.yaml", 2), By: at("r.yaml", 1), RuleText: `vm: "a"`, ByText: `vm: "*"`,
		Why: `everything it matches is taken before by rule vm: "*" (r.yaml:1)`}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := exampleSet().Covered(); got != nil {
		t.Errorf("the example has no such rule: %+v", got)
	}
}

func globCovers(wide, narrow string) bool { return newGlob(wide).covers(newGlob(narrow)) }

func TestGlobsThatCoverEachOther(t *testing.T) {
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{"*", "anything-[a-z]?*", true}, {"a*", "a", true}, {"a*", "a*b", true}, {"*b", "a*b", true}, {"a*b", "ab", true},
		{"a*b", "a*", false}, {"?", "[a-z]", true}, {"[a-z]", "q", true}, {"[a-z]", "Q", false}, {"[a-z]", "[a-z]", true},
		{"?*", "*", false}, {"**", "*", true}, {"*a*b*", "xaybz", true}, {"*ab", "aab", true}, {`\*`, "*", false}, {"*", `\*`, true},
		{`[\]]`, "]", true}, {"a?c", "a[bc]c", true}, {"", "", true}, {"*", "", true}, {"", "*", false}, {"é*", "éa", true},
		{"[", "a", false}, {"a", "[", false}, {"a*c?", "abcc*", false},
	} {
		if got := globCovers(c.wide, c.narrow); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.wide, c.narrow, got, c.want)
		}
	}
}

func globs() *rapid.Generator[string] {
	pieces := []string{"a", "b", "c", "*", "?", "[ab]", "[^a]", "[a-b]", `\*`, `\a`}
	return rapid.Custom(func(t *rapid.T) string {
		s := ""
		for _, p := range rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 5).Draw(t, "pieces") {
			s += p
		}
		return s
	})
}

// names lists all names of a, b, c and * up to a length.
func names(length int) []string {
	all, last := []string{""}, []string{""}
	for range length {
		var next []string
		for _, n := range last {
			for _, c := range []string{"a", "b", "c", "*"} {
				next = append(next, n+c)
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

func TestAGlobSaidToCoverMatchesEverythingTheOtherDoes(t *testing.T) {
	all := names(5)
	rapid.Check(t, func(t *rapid.T) {
		wide, narrow := globs().Draw(t, "wide"), globs().Draw(t, "narrow")
		if !globCovers(wide, narrow) {
			t.Skip()
		}
		for _, n := range all {
			in, _ := path.Match(narrow, n)
			if out, _ := path.Match(wide, n); in && !out {
				t.Fatalf("%q matches %q, and %q does not", narrow, n, wide)
			}
		}
	})
}

func TestAGlobCoversItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if g := globs().Draw(t, "glob"); !globCovers(g, g) {
			t.Fatalf("%q does not cover itself", g)
		}
	})
}

// A rule said to be covered decides nothing: taking it out changes no answer.
func TestACoveredRuleDecidesNothing(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		s := sets().Draw(t, "set")
		covered := s.Covered()
		if len(covered) == 0 {
			return
		}
		found++
		without := *s
		without.Rules = nil
		for _, r := range s.Rules {
			if r.At != covered[0].Rule {
				without.Rules = append(without.Rules, r)
			}
		}
		req, f := requests().Draw(t, "request"), facts().Draw(t, "facts")
		a, errA := s.Decide(req, f)
		b, errB := without.Decide(req, f)
		if diff := cmp.Diff(a, b); diff != "" || (errA == nil) != (errB == nil) || errA != nil && errA.Error() != errB.Error() {
			t.Fatalf("the covered rule %v decided: %v, %v\n%s", covered[0], errA, errB, diff)
		}
	})
	if found == 0 {
		t.Error("no set with a covered rule was drawn")
	}
}

// coveredPlainly compares every rule with every earlier one, text by text.
func coveredPlainly(s *Set) []Pos {
	var all []Pos
	for i := range s.Rules {
		left := slices.DeleteFunc(slices.Clone(s.networksOf(&s.Rules[i])), func(n string) bool { return s.network(n) == nil })
		covered := len(s.Rules[i].Networks) > 0 && len(left) == 0
		for j := range s.Rules[:i] {
			if !widerPlainly(&s.Rules[j], &s.Rules[i]) {
				continue
			}
			left = slices.DeleteFunc(left, func(n string) bool { return slices.Contains(s.networksOf(&s.Rules[j]), n) })
			covered = covered || len(left) == 0
		}
		if covered {
			all = append(all, s.Rules[i].At)
		}
	}
	return all
}

func widerPlainly(r, o *Rule) bool {
	wider := func(wide, narrow []string) bool {
		if len(narrow) == 0 {
			narrow = []string{"*"}
		}
		return len(wide) == 0 || !slices.ContainsFunc(narrow, func(n string) bool {
			return !slices.ContainsFunc(wide, func(w string) bool { return globCovers(w, n) })
		})
	}
	uuids := len(r.UUID) == 0 || len(o.UUID) > 0 && !slices.ContainsFunc(o.UUID, func(u string) bool { return !slices.Contains(r.UUID, u) })
	return wider(r.VM, o.VM) && wider(r.NIC, o.NIC) && uuids && isSubset(r.Label, o.Label)
}

// What is looked up instead of compared is found all the same.
func TestCoveredFindsWhatComparingEveryPairFinds(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		s := sets().Draw(t, "set")
		for i := range rapid.IntRange(0, 12).Draw(t, "more") {
			s.Rules = append(s.Rules, Rule{
				VM: rapid.SliceOfN(globs(), 0, 3).Draw(t, "vm"), NIC: rapid.SliceOfN(globs(), 0, 1).Draw(t, "nic"),
				Networks: sublist(append(someNetworks, "nope")).Draw(t, "networks"), At: at("more", i+1),
			})
		}
		var got []Pos
		for _, c := range s.Covered() {
			got = append(got, c.Rule)
		}
		found += len(got)
		if diff := cmp.Diff(coveredPlainly(s), got); diff != "" {
			t.Fatal(diff)
		}
	})
	if found == 0 {
		t.Error("no set with a covered rule was drawn")
	}
}
