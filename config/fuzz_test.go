package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"

	"github.com/vmnetd/vmnetd"
)

// FuzzLoad: no file breaks the reader, every mistake has a place in its file,
// and what loads comes back the same from the bundle.
func FuzzLoad(f *testing.F) {
	reference, err := os.ReadFile("reference.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(reference), "rules: [")
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		main := string(archive.Files[0].Data)
		for _, file := range archive.Files {
			f.Add(main, string(file.Data))
		}
	}
	f.Fuzz(func(t *testing.T, main, dropin string) { checkLoad(t, main, dropin) })
}

func checkLoad(t *testing.T, main, dropin string) {
	t.Helper()
	raws := []rawFile{{Path: "/etc/vmnetd.yaml", Name: "vmnetd.yaml", Content: main}, {Path: "/etc/conf.d/a.yaml", Name: "conf.d/a.yaml", Content: dropin}}
	cfg, err := loadRaw(raws, &problems{})
	if err != nil {
		checkPlaces(t, err, raws)
		return
	}
	data, err := encodeBundle(cfg.Raw, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := decodeBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	back, err := loadRaw(again, &problems{})
	if err != nil {
		t.Fatalf("loads from the files, not from the bundle: %v", err)
	}
	if diff := cmp.Diff(cfg, back, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("-files +bundle\n%s", diff)
	}
}

// checkPlaces sees that every mistake has a place within one of the files, and
// that nothing in the text acts on a terminal.
func checkPlaces(t *testing.T, err error, raws []rawFile) {
	t.Helper()
	var es Errors
	if !errors.As(err, &es) || len(es) == 0 || !errors.Is(err, vmnetd.ErrInvalid) {
		t.Fatalf("no list of mistakes: %v", err)
	}
	for _, e := range es {
		found := false
		for i, r := range raws {
			f := newFile(r.Path, r.Name, i, r.Content)
			inside := e.Line >= 1 && e.Line <= len(f.lines) && e.Col >= 1 && e.Col <= utf8.RuneCountInString(f.line(e.Line))+1
			found = found || e.File == r.Path && inside
		}
		if !found || e.Text == "" {
			t.Errorf("%s:%d:%d is nowhere (%q)", e.File, e.Line, e.Col, e.Text)
		}
		for _, line := range strings.Split(e.Error(), "\n") {
			if hasControl(line) {
				t.Errorf("unprintable: %q", line)
			}
		}
	}
}
