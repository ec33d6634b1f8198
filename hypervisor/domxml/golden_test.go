package domxml

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/vmnetd/vmnetd"
)

var update = flag.Bool("update", false, "write what the golden tests get into testdata")

// onWAN is a choice as a policy might make it.
func onWAN(i Interface) (Element, error) {
	switch {
	case i.Source.Mode == "private":
		return Element{}, vmnetd.Errorf(vmnetd.ErrDenied, "no rule allows mode private")
	case i.Type == "bridge":
		return Element{NIC: NIC{ID: "lan0", Network: "lan", Mode: "bridge"}, MTU: 1500}, nil
	}
	return Element{NIC: NIC{Network: "wan", Mode: "bridge"}}, nil
}

// TestWhatLibvirtPrintsIsRead runs testdata/*.txtar: domain.xml, which is what a
// real libvirtd printed; domain.json, what is read of it; and, for import*, what
// Import makes of it and says.
func TestWhatLibvirtPrintsIsRead(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(archive.Files[0].Data)
	dom, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	got := []txtar.File{archive.Files[0], {Name: "domain.json", Data: shown(t, dom)}}
	if strings.HasPrefix(filepath.Base(file), "import") {
		imported, changed, err := Import(text, onWAN)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, txtar.File{Name: "imported.xml", Data: []byte(imported)}, txtar.File{Name: "changed.json", Data: shown(t, changed)})
		if back, _, err := Revert(imported); err != nil || back != text {
			t.Errorf("after revert: %v\n%s", err, cmp.Diff(text, back))
		}
	}
	if *update {
		archive.Files = got
		if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !slices.EqualFunc(archive.Files, got, func(a, b txtar.File) bool { return a.Name == b.Name && string(a.Data) == string(b.Data) }) {
		want, now := string(txtar.Format(archive)), string(txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: got}))
		t.Errorf("-want +got (go test ./hypervisor/domxml -update writes it anew)\n%s", cmp.Diff(want, now))
	}
}

func shown(t *testing.T, v any) []byte {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

// sample is a domain.xml of testdata.
func sample(tb testing.TB, name string) string {
	tb.Helper()
	archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		tb.Fatal(err)
	}
	return string(archive.Files[0].Data)
}

// invalid makes sure that err is an operator's mistake told in one line.
func invalid(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, vmnetd.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	if !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 400 {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}
