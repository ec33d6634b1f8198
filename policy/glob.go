package policy

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// token is one piece of a path.Match pattern.
type token struct {
	star    bool
	literal string // the character itself, unescaped; "" for ? and classes
	pattern string // as written: ?, [a-z]
}

// glob is a pattern taken apart once, to be compared with many others.
type glob struct {
	pattern string
	good    bool    // path.Match takes it
	name    bool    // it has no wildcards: text is the one name it matches
	tokens  []token // none of a name
	text    string  // its characters, each wildcard as a zero byte
	prefix  string  // the characters before the first wildcard
	run     string  // the longest that stand together
}

func newGlob(pattern string) *glob {
	g := &glob{pattern: pattern}
	if !strings.ContainsAny(pattern, `*?[\`) {
		g.good, g.name, g.text, g.prefix, g.run = true, true, pattern, pattern, pattern
		return g
	}
	if g.tokens, g.good = tokens(pattern); !g.good {
		return g
	}
	g.name = !slices.ContainsFunc(g.tokens, token.wild)
	var text strings.Builder
	for _, t := range g.tokens {
		if t.wild() {
			text.WriteByte(0)
		}
		text.WriteString(t.literal)
	}
	g.text = text.String()
	runs := strings.Split(g.text, "\x00")
	g.prefix = runs[0]
	g.run = slices.MaxFunc(runs, func(a, b string) int { return len(a) - len(b) })
	return g
}

func (t token) wild() bool { return t.literal == "" }

// covers says that every name without '/' that n matches, w matches too. False
// means "not certain", not "no". Each piece of w must stand for the same or
// more than the piece of n beside it; only a star may swallow several pieces,
// or none. So characters that stand together in w stand together in n: most
// globs of a long list are told apart by that.
func (w *glob) covers(n *glob) bool {
	switch {
	case !w.good || !n.good:
		return false
	case w == n:
		return true
	case w.name:
		return n.name && w.text == n.text
	case !strings.HasPrefix(n.prefix, w.prefix) || !strings.Contains(n.text, w.run):
		return false
	case n.name:
		ok, err := path.Match(w.pattern, n.text)
		return ok && err == nil
	}
	return covers(w.tokens, n.tokens)
}

// covers matches w against n as path.Match matches a pattern against a name. A
// star of w takes as little as it can, and more when what follows fails; going
// back to the last star alone is enough, as an earlier one that took more could
// only leave less for the last.
func covers(w, n []token) bool {
	wi, ni, star, took := 0, 0, -1, 0
	for ni < len(n) {
		switch {
		case wi < len(w) && w[wi].star:
			star, took = wi, ni
			wi++
		case wi < len(w) && !n[ni].star && w[wi].covers(n[ni]):
			wi++
			ni++
		case star >= 0:
			took++
			wi, ni = star+1, took
		default:
			return false
		}
	}
	for wi < len(w) && w[wi].star {
		wi++
	}
	return wi == len(w)
}

// covers is about single characters.
func (t token) covers(o token) bool {
	switch {
	case t.pattern == "?" || t.pattern != "" && t.pattern == o.pattern:
		return true
	case o.wild():
		return false
	case !t.wild():
		return t.literal == o.literal
	}
	ok, err := path.Match(t.pattern, o.literal)
	return ok && err == nil
}

// tokens takes a pattern apart; false when path.Match would refuse it.
func tokens(glob string) ([]token, bool) {
	if _, err := path.Match(glob, ""); err != nil {
		return nil, false
	}
	var all []token
	for glob != "" {
		switch glob[0] {
		case '*':
			all, glob = append(all, token{star: true}), glob[1:]
			continue
		case '?':
			all, glob = append(all, token{pattern: "?"}), glob[1:]
			continue
		case '[':
			end := classEnd(glob)
			all, glob = append(all, token{pattern: glob[:end]}), glob[end:]
			continue
		case '\\':
			glob = glob[1:]
		}
		_, size := utf8.DecodeRuneInString(glob)
		all, glob = append(all, token{literal: glob[:size]}), glob[size:]
	}
	return all, true
}

// classEnd is where the class at the beginning of a good pattern ends. A ']'
// ends it unless it is escaped: path.Match takes none as the first member.
func classEnd(glob string) int {
	for i := 1; i < len(glob); i++ {
		switch glob[i] {
		case '\\':
			i++
		case ']':
			return i + 1
		}
	}
	return len(glob) // not reached: path.Match has refused it
}
