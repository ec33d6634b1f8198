package config

import "fmt"

// didYouMean is `, did you mean "name"?` where one of the known names is near.
func didYouMean(name string, known []string) string {
	best, near := "", max(1, len([]rune(name))/3)
	for _, k := range known {
		if d := distance(name, k); d <= near {
			best, near = k, d-1 // another one must be nearer
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// distance is how many characters must be put in, left out, changed, or swapped
// with their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	const longest = 64 // no name is longer; the cost is the product of both
	x, y := []rune(a), []rune(b)
	if len(x) > longest || len(y) > longest {
		return longest
	}
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			change := 1
			if x[i-1] == y[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
