package reachability

import (
	"fmt"
	"slices"
	"strings"
)

// Table is who reaches whom, as docs/modes.md has it.
type Table struct {
	NICs    []string // the rows, as "ipvtap l2"
	Columns []string
	cells   map[string][]string // by NIC
}

// What a cell of the table may say.
const (
	Yes    = "yes"
	No     = "no"
	Nobody = "-" // there is nobody to ask
)

// tableHead begins the table's first line.
const tableHead = "| NIC |"

// ParseTable finds the table in a text in Markdown.
func ParseTable(text string) (Table, error) {
	t := Table{cells: map[string][]string{}}
	lines := strings.Split(text, "\n")
	first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, tableHead) })
	if first < 0 || first+1 == len(lines) {
		return t, fmt.Errorf("there is no table that begins with %q", tableHead)
	}
	t.Columns = cells(lines[first])[1:]
	for _, line := range lines[first+2:] { // after the line of dashes
		if !strings.HasPrefix(line, "|") {
			break
		}
		row := cells(line)
		if err := t.check(row); err != nil {
			return t, fmt.Errorf("%w: %s", err, line)
		}
		t.NICs = append(t.NICs, row[0])
		t.cells[row[0]] = row[1:]
	}
	return t, nil
}

func (t Table) check(row []string) error {
	if len(row) != len(t.Columns)+1 {
		return fmt.Errorf("%d cells, want %d", len(row), len(t.Columns)+1)
	}
	if _, twice := t.cells[row[0]]; twice {
		return fmt.Errorf("a second row for %s", row[0])
	}
	for _, cell := range row[1:] {
		if !slices.Contains([]string{Yes, No, Nobody}, cell) {
			return fmt.Errorf("%q is none of %s, %s and %s", cell, Yes, No, Nobody)
		}
	}
	return nil
}

func cells(line string) []string {
	var row []string
	for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		row = append(row, strings.TrimSpace(cell))
	}
	return row
}

// Says is what the table says of a NIC in a column, "" where it has no such cell.
func (t Table) Says(nic, column string) string {
	i := slices.Index(t.Columns, column)
	if row := t.cells[nic]; i >= 0 && row != nil {
		return row[i]
	}
	return ""
}
