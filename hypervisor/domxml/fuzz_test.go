package domxml

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// FuzzParse: nothing panics, and what is a domain is the same bytes after it was
// imported and reverted.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, a := range archive.Files {
			if strings.HasSuffix(a.Name, ".xml") {
				f.Add(string(a.Data))
			}
		}
	}
	for _, text := range imports {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		imported, changed, err := Import(text, onWAN)
		if err != nil {
			return // it has grown over the limit
		}
		back, reverted, err := Revert(imported)
		if err != nil {
			t.Fatalf("%v\n%s", err, imported)
		}
		kept := false // what was imported before is reverted too
		for _, n := range d.NICs {
			kept = kept || n.Was != ""
		}
		if !kept && back != text {
			t.Fatalf("%q\nwas imported as\n%q\nand reverted as\n%q\n%+v %+v", text, imported, back, changed, reverted)
		}
	})
}
