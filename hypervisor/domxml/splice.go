package domxml

import (
	"cmp"
	"slices"
	"strings"
)

// edit puts text in the place of the bytes from start to before end.
type edit struct {
	start, end int
	text       string
}

// splice makes edits that do not overlap.
func splice(text string, edits []edit) string {
	edits = slices.SortedFunc(slices.Values(edits), func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.WriteString(text[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(text[at:])
	return b.String()
}

const blanks = " \t\r\n"

// lead is the newline and the indentation right before an offset, "" when
// something else stands on that line.
func lead(text string, at int) string {
	before := text[len(strings.TrimRight(text[:at], blanks)):at]
	if k := strings.LastIndexByte(before, '\n'); k >= 0 {
		return before[k:]
	}
	return ""
}

// deeper is a lead one level down.
func deeper(lead string) string {
	if lead == "" {
		return ""
	}
	return lead + "  "
}

// without takes an element away, and the white space before it.
func without(text string, e *element) edit {
	return edit{start: len(strings.TrimRight(text[:e.start], blanks)), end: e.end}
}
