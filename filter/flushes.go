package filter

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// rulesets are the files that services of distributions give to nft(8) at start,
// reload and stop.
var rulesets = []string{"/etc/nftables.conf", "/etc/nftables/*.nft", "/etc/sysconfig/nftables.conf"}

// flush is a line of a file that removes all tables.
type flush struct {
	file string
	line int
}

var (
	flushWords   = regexp.MustCompile(`(^|[;{\s])flush\s+ruleset(\s+netdev)?\s*($|[;}#])`)
	includeWords = regexp.MustCompile(`^\s*include\s+"([^"]+)"`)
)

// checkFlushes names the lines of a host's files that remove all tables, ours
// too.
func checkFlushes(root string) []vmnetd.Check {
	var checks []vmnetd.Check
	for _, f := range flushesUnder(root) {
		checks = append(checks, vmnetd.Check{
			Level: vmnetd.LevelWarn, Name: "nft flush",
			Text: fmt.Sprintf("%s:%d \"flush ruleset\" removes our filters on reload; they are back within 1 s", f.file, f.line),
			Do:   "flush the tables of that file by their names instead",
		})
	}
	return checks
}

func flushesUnder(root string) []flush {
	s := flushSearch{root: root, seen: map[string]bool{}}
	for _, pattern := range rulesets {
		s.look(pattern)
	}
	return s.found
}

type flushSearch struct {
	root  string
	seen  map[string]bool
	found []flush
}

// look reads the files that a pattern names, and those they include. A file that
// cannot be read flushes nothing that we could name.
func (s *flushSearch) look(pattern string) {
	files, _ := filepath.Glob(filepath.Join(s.root, pattern))
	for _, file := range files {
		if s.seen[file] {
			continue
		}
		s.seen[file] = true
		s.read(file)
	}
}

func (s *flushSearch) read(file string) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	named := "/" + strings.TrimPrefix(strings.TrimPrefix(file, filepath.Clean(s.root)), "/")
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if flushWords.MatchString(text) {
			s.found = append(s.found, flush{named, n})
		}
		if m := includeWords.FindStringSubmatch(text); m != nil {
			s.look(included(m[1], filepath.Dir(named)))
		}
	}
}

// included is the file that an include means: nft(8) looks in /etc for what does
// not begin with a slash or a dot.
func included(path, folder string) string {
	switch {
	case strings.HasPrefix(path, "/"):
		return path
	case strings.HasPrefix(path, "."):
		return filepath.Join(folder, path)
	}
	return filepath.Join("/etc", path)
}
