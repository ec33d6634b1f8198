package policy

import (
	"path"
	"unicode/utf8"
)

// token is one piece of a path.Match pattern.
type token struct {
	star    bool
	literal string // the character itself, unescaped; "" for ? and classes
	pattern string // as written: ?, [a-z]
}

// globCovers says that every name without '/' that narrow matches, wide
// matches too. False means "not certain", not "no". Each piece of wide must
// stand for the same or more than the piece of narrow beside it; only a star
// may swallow several pieces, or none.
func globCovers(wide, narrow string) bool {
	w, ok := tokens(wide)
	if !ok {
		return false
	}
	n, ok := tokens(narrow)
	return ok && covers(w, n)
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
	case o.literal == "":
		return false
	case t.literal != "":
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
