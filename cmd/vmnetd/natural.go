package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// sortNICs puts NICs into the order in which people count: net9 before net10.
func sortNICs(all []vmnetd.Attachment) {
	slices.SortStableFunc(all, func(a, b vmnetd.Attachment) int {
		return cmp.Or(natural(a.VM, b.VM), natural(a.ID, b.ID))
	})
}

// natural compares names, the numbers in them by their value.
func natural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		if isDigit(x[0]) && isDigit(y[0]) {
			m, restX := leadingNumber(x)
			n, restY := leadingNumber(y)
			if c := cmp.Or(cmp.Compare(len(m), len(n)), strings.Compare(m, n)); c != 0 {
				return c
			}
			x, y = restX, restY
			continue
		}
		if x[0] != y[0] {
			return cmp.Compare(x[0], y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(a, b))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// leadingNumber splits off the number that s begins with, without leading zeros.
func leadingNumber(s string) (digits, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	return strings.TrimLeft(s[:len(s)-len(rest)], "0"), rest
}
