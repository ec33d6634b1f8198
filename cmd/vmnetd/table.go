package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/vmnetd/vmnetd"
)

// gap is the space between two columns.
const gap = 2

// narrowest is how far a column of names is shortened.
const narrowest = 8

// cells measures text as a terminal shows it, the same in every locale.
var cells = &runewidth.Condition{}

// column is one column of a table.
type column struct {
	name  string
	right bool // numbers
	flex  bool // may be shortened to fit the terminal
}

// table prints rows under a header, columns aligned.
type table struct {
	columns []column
	rows    [][]string
}

// add adds a row; an empty cell is shown as "-".
func (t *table) add(row ...string) {
	for i, cell := range row {
		row[i] = vmnetd.Printable(cell)
		if cell == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// write prints the table into width columns, where names can be shortened that
// far; width 0 is no limit. head decorates the header line.
func (t *table) write(w io.Writer, width int, head func(string) string) {
	widths := t.widths()
	if width > 0 {
		t.shrink(widths, width)
	}
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	fmt.Fprintln(w, head(t.line(names, widths)))
	for _, row := range t.rows {
		fmt.Fprintln(w, t.line(row, widths))
	}
}

func (t *table) widths() []int {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = cells.StringWidth(c.name)
		for _, row := range t.rows {
			widths[i] = max(widths[i], cells.StringWidth(row[i]))
		}
	}
	return widths
}

// fits says whether the table fits into width columns with every cell whole.
func (t *table) fits(width int) bool { return totalOf(t.widths()) <= width }

func totalOf(widths []int) int {
	total := gap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	return total
}

// shrink takes from the widest flexible column until all fit, or none gives.
func (t *table) shrink(widths []int, width int) {
	for total := totalOf(widths); total > width; total-- {
		widest := -1
		for i, c := range t.columns {
			if c.flex && widths[i] > narrowest && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func (t *table) line(row []string, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		cell = cells.Truncate(cell, widths[i], "…")
		pad := strings.Repeat(" ", widths[i]-cells.StringWidth(cell))
		if t.columns[i].right {
			b.WriteString(pad + cell)
		} else {
			b.WriteString(cell + pad)
		}
		b.WriteString(strings.Repeat(" ", gap))
	}
	return strings.TrimRight(b.String(), " ")
}

// wrap breaks text at spaces into lines of at most width columns; width 0 is
// no limit. A word that is longer stands alone.
func wrap(text string, width int) []string {
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		if line != "" && cells.StringWidth(line)+1+cells.StringWidth(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// printHanging prints a line; on a terminal that is too narrow it goes on below,
// indented.
func (a *app) printHanging(head, indent, text string) {
	width := 0
	if a.io.width > len(indent) {
		width = a.io.width - max(len(head), len(indent))
	}
	for _, line := range wrap(text, width) {
		a.printf("%s%s\n", head, line)
		head = indent
	}
}
