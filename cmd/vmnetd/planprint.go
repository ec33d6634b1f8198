package main

import (
	"fmt"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// section is the width of a plan's section names: "at boot  ".
const section = 9

const nothingToDo = "nothing to do: what runs is what is declared"

// printPlan prints all of a plan but its last line.
func (a *app) printPlan(p vmnetd.Plan) {
	a.printHung("", "", "from "+orElse(p.From, "the configuration")+", against what runs now"+neverApplied(p))
	a.printf("\n")
	name := 0
	for _, ch := range p.Changes {
		if ch.Op != ">" {
			name = max(name, cells.StringWidth(vmnetd.Printable(ch.Name)))
		}
	}
	for _, ch := range p.Changes {
		a.printChange(ch, name)
	}
	if p.Empty() {
		a.printf("%s\n", nothingToDo)
	}
	a.printPlanSections(p)
}

func neverApplied(p vmnetd.Plan) string {
	if p.Never {
		return "; nothing was ever applied here"
	}
	return ""
}

// printChange prints "+ team0  team, activebackup; …" and, below, its details.
func (a *app) printChange(ch vmnetd.PlanChange, name int) {
	head := vmnetd.Printable(ch.Op) + " "
	indent := strings.Repeat(" ", name+4)
	if ch.Op == ">" { // what moves is named by the text
		indent = "  "
	} else {
		shown := vmnetd.Printable(ch.Name)
		head += shown + strings.Repeat(" ", max(0, name-cells.StringWidth(shown))) + "  "
	}
	a.printHung(head, indent, ch.Text)
	for _, d := range ch.Detail {
		a.printHung(indent, indent, d)
	}
	if ch.Impact != "" {
		a.printHung(indent, indent, ch.Impact)
	}
}

func (a *app) printPlanSections(p vmnetd.Plan) {
	if len(p.Cost)+len(p.Mind)+len(p.Problems) > 0 || !p.Empty() {
		a.printf("\n")
	}
	a.printSection("cost", p.Cost)
	a.printSection("mind", p.Mind)
	for _, c := range p.Problems {
		a.printPlanProblem(c)
	}
	if !p.Empty() {
		a.printSection("undo", []string{"step by step; a timer undoes it even if vmnetd dies"})
	}
}

func (a *app) printSection(name string, lines []string) {
	indent := strings.Repeat(" ", section)
	for i, line := range lines {
		head := indent
		if i == 0 {
			head = fmt.Sprintf("%-*s", section, name)
		}
		a.printHung(head, indent, line)
	}
}

// printPlanProblem prints why a plan is refused. What is to be pasted into a
// file stands in lines of its own and is not wrapped.
func (a *app) printPlanProblem(c vmnetd.Check) {
	name, text := vmnetd.Printable(c.Name), c.Text
	if cells.StringWidth(name) > section-2 || name == "" {
		name, text = "problem", subject(c)
	}
	indent := strings.Repeat(" ", section)
	head := name + strings.Repeat(" ", section-cells.StringWidth(name))
	word := "REFUSED: "
	if c.Level == vmnetd.LevelWarn {
		word = ""
	}
	do := strings.Split(printableLines(c.Do), "\n")
	if len(do) > 1 { // "change it to", and below what to write
		text += ". " + capital(do[0])
	}
	lines := strings.Split(printableLines(text), "\n")
	a.printHung(a.io.paint(red, head), indent, word+lines[0])
	for _, line := range lines[1:] {
		a.printf("%s%s\n", indent, line)
	}
	for _, line := range do[1:] {
		a.printf("%s    %s\n", indent, line)
	}
	if len(do) == 1 && do[0] != "" {
		a.printHung(indent, indent, "do: "+do[0])
	}
}

// printPlanEnd prints a plan's last lines: what to type.
func (a *app) printPlanEnd(p vmnetd.Plan) {
	const apply, rollsBack = "vmnetd uplink apply", "(it rolls back after 60 s unless you type  vmnetd uplink confirm)"
	var lines []string
	switch {
	case p.Pending != nil:
		lines = []string{"an apply waits to be confirmed and is undone at " + a.clock(p.Pending.Until) + ":", "vmnetd uplink confirm, or  vmnetd uplink rollback"}
	case len(p.Problems) > 0:
		n := len(p.Problems)
		lines = []string{plural(n, "problem") + ", nothing changed. When " + itIs(n) + " solved:  " + apply, rollsBack}
	case !p.Empty():
		lines = []string{"nothing changed yet. To do it:  " + apply, rollsBack}
	default:
		return
	}
	a.printf("\n")
	for _, line := range lines {
		a.printHung("", "", line)
	}
}

func itIs(n int) string {
	if n == 1 {
		return "it is"
	}
	return "they are"
}

// printHung is printHanging that also wraps where there is no terminal: a plan
// is read in mails and tickets.
func (a *app) printHung(head, indent, text string) {
	width := a.io.width
	if width == 0 {
		width = 80
	}
	for _, line := range wrap(vmnetd.Printable(text), width-len(indent)) {
		a.printf("%s%s\n", head, line)
		head = indent
	}
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
