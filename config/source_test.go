package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

const sound = "uplinks: [{name: wan, nic: {}}]\nnetworks: [{name: lan, uplinks: [wan]}]\nrules: [{vm: a, networks: [lan]}]\n"

// etc makes a Source over files, given as name and content in turn.
func etc(t *testing.T, files ...string) (*Source, string) {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		put(t, filepath.Join(dir, files[i]), files[i+1])
	}
	s := New(filepath.Join(dir, "vmnetd.yaml"), filepath.Join(dir, "conf.d"), filepath.Join(dir, "lib"))
	s.now = func() time.Time { return time.Date(2026, 11, 20, 14, 2, 0, 0, time.UTC) }
	return s, dir
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func accept(t *testing.T, s *Source) agent.Config {
	t.Helper()
	cfg, err := s.Candidate()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Accept(cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestWhatWasAcceptedComesBackTheSame(t *testing.T) {
	s, dir := etc(t, "vmnetd.yaml", sound, "conf.d/a.yaml", "rules: [{vm: \"<b>&\", networks: [lan]}]\r\n", "conf.d/b.yml", "x: 1", "conf.d/.c.yaml", "x: 1")
	want := accept(t, s)
	put(t, filepath.Join(dir, "vmnetd.yaml"), "rules: [") // edited since, and broken
	got, err := s.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	if !got.At.Equal(s.now()) {
		t.Errorf("accepted at %v, want %v", got.At, s.now())
	}
	if len(want.Warnings) != 1 || !strings.Contains(want.Warnings[0], "b.yml: not read") {
		t.Errorf("warnings: %q", want.Warnings)
	}
	got.At, got.Warnings, want.Warnings = time.Time{}, nil, nil
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-candidate +accepted\n%s", diff)
	}
}

func TestSameFilesAreTheSameConfigurationWheneverAccepted(t *testing.T) {
	s, _ := etc(t, "vmnetd.yaml", sound)
	first := accept(t, s)
	s.now = func() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }
	accept(t, s)
	got, err := s.Accepted()
	if err != nil || string(got.Raw) != string(first.Raw) {
		t.Errorf("%v\n%s\n%s", err, got.Raw, first.Raw)
	}
}

func TestAcceptedIsReadableByItsOwnerAlone(t *testing.T) {
	s, dir := etc(t, "vmnetd.yaml", sound)
	accept(t, s)
	for path, want := range map[string]os.FileMode{"lib": 0o700, "lib/applied": 0o700, "lib/applied/config.json": 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

func TestNothingAcceptedIsErrNotExist(t *testing.T) {
	s, _ := etc(t)
	if _, err := s.Accepted(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestDamagedBundleIsMovedAsideAndSaysSo(t *testing.T) {
	for name, content := range map[string]string{
		"cut off":       `{"version":1,"files":[{"pa`,
		"empty":         ``,
		"null":          `null`,
		"no files":      `{"version":1,"files":[]}`,
		"files a text":  `{"version":1,"files":"x"}`,
		"later version": `{"version":2,"files":[{"path":"a","name":"a","content":""}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := etc(t)
			put(t, s.applied, content)
			_, err := s.Accepted()
			if err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), s.applied+".corrupt") {
				t.Errorf("got %v", err)
			}
			if kept, err := os.ReadFile(s.applied + ".corrupt"); err != nil || string(kept) != content {
				t.Errorf("not kept: %q, %v", kept, err)
			}
			if _, err := s.Accepted(); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

func TestAcceptedThatNoLongerLoadsTellsItsMistakesAndStays(t *testing.T) {
	s, _ := etc(t)
	put(t, s.applied, `{"version":1,"accepted":"2026-01-02T03:04:05Z","files":[{"path":"/etc/vmnetd/vmnetd.yaml","name":"vmnetd.yaml","content":"gone_key: 1\n"}]}`)
	_, err := s.Accepted()
	var es Errors
	if !errors.As(err, &es) || len(es) != 1 || es[0].File != "/etc/vmnetd/vmnetd.yaml" || es[0].Line != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(s.applied); err != nil {
		t.Errorf("it was moved: %v", err)
	}
}

func TestAcceptThatFailsLeavesTheOldOne(t *testing.T) {
	s, dir := etc(t, "vmnetd.yaml", sound)
	want := accept(t, s)
	put(t, filepath.Join(dir, "vmnetd.yaml"), sound+"vms: [{vm: x}]\n")
	next, err := s.Candidate()
	if err != nil {
		t.Fatal(err)
	}
	old := s.applied
	s.applied = filepath.Join(dir, "vmnetd.yaml", "applied", "config.json") // a file is in the way
	if err := s.Accept(next); !errors.Is(err, vmnetd.ErrFailed) || vmnetd.NextOf(err) == "" {
		t.Errorf("got %v", err)
	}
	s.applied = old
	if err := s.Accept(agent.Config{}); err == nil {
		t.Error("a configuration without files was kept")
	}
	if got, err := s.Accepted(); err != nil || string(got.Raw) != string(want.Raw) {
		t.Errorf("got %v, %s", err, got.Raw)
	}
}

func TestNoConfigurationSaysWhatToDo(t *testing.T) {
	s, dir := etc(t, "conf.d/a.yaml", "rules: []")
	_, err := s.Candidate()
	if !errors.Is(err, vmnetd.ErrInvalid) || !errors.Is(err, os.ErrNotExist) ||
		err.Error() != "there is no configuration: "+dir+"/vmnetd.yaml does not exist" || vmnetd.NextOf(err) != "write it: man vmnetd.yaml" {
		t.Errorf("got %v, next %q", err, vmnetd.NextOf(err))
	}
}

func TestFilesThatCannotBeReadAreToldBesideTheRest(t *testing.T) {
	s, dir := etc(t, "vmnetd.yaml", sound, "conf.d/a.yaml", "x: 1\n", "conf.d/b.yaml/c", "", "conf.d/d.yaml", strings.Repeat("#", maxFile+1))
	if err := syscall.Mkfifo(filepath.Join(dir, "conf.d/e.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "conf.d/f.yaml")); err != nil {
		t.Fatal(err)
	}
	_, err := s.Candidate()
	var es Errors
	if !errors.As(err, &es) || !errors.Is(err, vmnetd.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, e := range es {
		got = append(got, fmt.Sprintf("%s:%d %s", filepath.Base(e.File), e.Line, strings.ReplaceAll(e.Text, dir, "")))
	}
	want := []string{
		`a.yaml:1 unknown key "x" in the configuration`,
		"b.yaml:0 cannot be read: it is no regular file",
		"d.yaml:0 cannot be read: it is larger than 1024 KiB",
		"e.yaml:0 cannot be read: it is no regular file",
		"f.yaml:0 cannot be read: stat /conf.d/f.yaml: no such file or directory",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestDropinFolderMayBeMissing(t *testing.T) {
	s, _ := etc(t, "vmnetd.yaml", sound)
	if cfg, err := s.Candidate(); err != nil || len(cfg.Policy.Rules) != 1 {
		t.Errorf("got %v, %v", cfg.Policy.Rules, err)
	}
}
