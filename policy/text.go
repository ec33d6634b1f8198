package policy

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/vmnetd/vmnetd"
)

// TextOptions says how WriteText lays out explanations.
type TextOptions struct {
	Width int // columns, 0: 80
}

// Columns of the text.
const (
	defaultWidth = 80
	valueAt      = 11 // where values begin: two spaces, a label, two spaces
	fromAt       = 35 // where the place or state of a value begins
	widestName   = 20 // of an alternative that still shares a line with its reason
)

// WriteText renders explanations for a terminal or a file, in plain text: one
// in full; of several, those that are denied follow the others in a short list.
// Whatever a terminal would act on is escaped.
func WriteText(w io.Writer, ex []Explanation, o TextOptions) error {
	p := &page{width: o.Width}
	if p.width <= 0 {
		p.width = defaultWidth
	}
	full, short := ex, []Explanation(nil)
	if len(ex) > 1 {
		full, short = splitDenied(ex)
	}
	for i, e := range full {
		if i > 0 {
			p.line("")
		}
		p.explanation(e)
	}
	if len(full) > 0 && len(short) > 0 {
		p.line("")
	}
	p.denied(short)
	_, err := io.WriteString(w, p.b.String())
	return err
}

func splitDenied(ex []Explanation) (rest, denied []Explanation) {
	exit := vmnetd.ClassOf(vmnetd.ErrDenied).Exit
	for _, e := range ex {
		if e.ExitCode == exit {
			denied = append(denied, e)
			continue
		}
		rest = append(rest, e)
	}
	return rest, denied
}

// page is text of a fixed width being written.
type page struct {
	b     strings.Builder
	width int
}

func (p *page) line(s string) {
	p.b.WriteString(strings.TrimRight(s, " ") + "\n")
}

func (p *page) explanation(e Explanation) {
	p.line(heading(e))
	p.line("")
	for _, l := range e.Lines {
		p.value(l)
	}
	if e.Error != "" {
		p.item("why", valueAt, e.Error)
	}
	p.not(e.Not)
	if len(e.Mind) > 0 {
		p.line("")
	}
	for _, m := range e.Mind {
		p.item("mind", valueAt, m)
	}
	if e.Next == "" {
		return
	}
	p.line("")
	if e.Granted { // a command must stay one line to be copied
		p.line("next: " + vmnetd.Printable(e.Next))
		return
	}
	p.wrapped("next: ", 6, e.Next)
}

func heading(e Explanation) string {
	who := vmnetd.Printable(e.VM)
	if e.Where != "" {
		who += " (" + vmnetd.Printable(e.Where) + ")"
	}
	if e.Granted {
		return who + "  would get"
	}
	return fmt.Sprintf("%s  would get nothing: %s (exit %d)", who, outcomes[e.ExitCode], e.ExitCode)
}

var outcomes = map[int]string{1: "failed", 2: "not valid", 3: "denied", 4: "not found", 5: "nothing fits now"}

// value writes a line of what was chosen; its place goes on a line of its own
// where there is no room.
func (p *page) value(l Line) {
	head := "  " + pad(vmnetd.Printable(l.Label), valueAt-2)
	if l.From == "" {
		p.wrapped(head, valueAt, l.Value)
		return
	}
	value := vmnetd.Printable(l.Value)
	if valueAt+columns(value)+2 > fromAt || p.roomFor(l.From) != fromAt && !strings.Contains(l.From, " ") {
		p.wrapped(head, valueAt, l.Value)
		p.wrapped("", p.roomFor(l.From), l.From)
		return
	}
	p.wrapped(head+pad(value, fromAt-valueAt), fromAt, l.From)
}

// roomFor is the column at which a place begins on a line of its own: further
// left where it would run over the edge.
func (p *page) roomFor(from string) int {
	if fromAt+columns(vmnetd.Printable(from)) > p.width {
		return valueAt
	}
	return fromAt
}

// not writes the table of what was not taken.
func (p *page) not(all []Rejected) {
	if len(all) == 0 {
		return
	}
	rows := grouped(all, shortNames(all))
	at := valueAt
	for _, r := range rows {
		if end := 2 + columns(r.What) + 1; end > at && columns(r.What) <= widestName {
			at = end
		}
	}
	p.line("")
	p.line("  " + pad("not", at-2) + "because")
	for _, r := range rows {
		p.item(r.What, at, r.Because)
	}
}

const groupFrom = 3 // alternatives in a row with one reason share it

func grouped(all []Rejected, names []string) []Rejected {
	var rows []Rejected
	for i := 0; i < len(all); {
		end := i + 1
		for end < len(all) && all[end].Because == all[i].Because {
			end++
		}
		if end-i >= groupFrom {
			rows = append(rows, Rejected{strings.Join(names[i:end], ", "), all[i].Because})
			i = end
			continue
		}
		rows = append(rows, Rejected{names[i], all[i].Because})
		i++
	}
	return rows
}

// shortNames leaves away what kind of thing each is, as the reasons tell it;
// where two have one name it stays.
func shortNames(all []Rejected) []string {
	count := map[string]int{}
	names := make([]string, len(all))
	for i, r := range all {
		_, names[i], _ = strings.Cut(r.What, " ")
		count[names[i]]++
	}
	for i, r := range all {
		if count[names[i]] > 1 || names[i] == "" {
			names[i] = r.What
		}
	}
	return names
}

func (p *page) denied(all []Explanation) {
	if len(all) == 0 {
		return
	}
	p.line("not open to " + vmnetd.Printable(all[0].VM))
	var not []Rejected
	for _, e := range all {
		why := e.Error
		if e.Rule == "" {
			why = "no rule gives it to " + vmnetd.FullName(e.VM, e.ID)
		}
		not = append(not, Rejected{"network " + e.Network, why})
	}
	p.not(not)
}

// item writes a label and its text; a label that is too long stands alone.
func (p *page) item(label string, at int, text string) {
	head := "  " + vmnetd.Printable(label)
	if columns(head)+1 > at {
		p.wrapped("  ", 2, label)
		p.wrapped("", at, text)
		return
	}
	p.wrapped(pad(head, at), at, text)
}

// wrapped writes head and then text from column at on, broken between words.
func (p *page) wrapped(head string, at int, text string) {
	line := pad(head, at)
	room := false // whether a word stands on this line
	for _, word := range strings.Fields(vmnetd.Printable(text)) {
		if room && columns(line)+1+columns(word) > p.width {
			p.line(line)
			line, room = strings.Repeat(" ", at), false
		}
		if room {
			line += " "
		}
		line += word
		room = true
	}
	p.line(line)
}

func pad(s string, to int) string {
	if n := to - columns(s); n > 0 {
		return s + strings.Repeat(" ", n)
	}
	return s
}

func columns(s string) int { return utf8.RuneCountInString(s) }
