package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

// maxFile is the largest configuration file in bytes: some 20,000 rules.
const maxFile = 1 << 20

// Check reads a configuration as the daemon would, and changes nothing.
// dropinDir may be empty or not there. The error is Errors, or says that file
// is not there.
func Check(file, dropinDir string) (agent.Config, error) {
	var p problems
	raws, notes, err := readRaw(file, dropinDir, &p)
	if err != nil {
		return agent.Config{}, err
	}
	cfg, err := loadRaw(raws, &p)
	if err != nil {
		return agent.Config{}, err
	}
	cfg.Warnings = append(notes, cfg.Warnings...)
	return cfg, nil
}

// rawFile is a file before anybody looked into it.
type rawFile struct {
	Path    string `json:"path"`
	Name    string `json:"name"`
	Content string `json:"content"`
}

// loadRaw makes a configuration of files, the main file first, and keeps them
// in it.
func loadRaw(raws []rawFile, p *problems) (agent.Config, error) {
	files := make([]*file, len(raws))
	if len(raws) > 0 {
		p.main = raws[0].Path
	}
	for i, r := range raws {
		files[i] = newFile(r.Path, r.Name, i, r.Content)
	}
	cfg, err := load(files, p)
	if err != nil {
		return agent.Config{}, err
	}
	cfg.Raw, err = encodeRaw(raws)
	return cfg, err
}

// readRaw reads the main file and the drop-ins in the order of their names.
// Notes are about files that are not read.
func readRaw(main, dropinDir string, p *problems) (raws []rawFile, notes []string, err error) {
	content, err := readFile(main)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, vmnetd.Errorf(vmnetd.ErrInvalid, "there is no configuration: %w", missing(main)).
			WithNext("write it: man vmnetd.yaml")
	}
	raws = append(raws, rawFile{Path: main, Name: filepath.Base(main), Content: content})
	addUnreadable(p, raws[0], 0, err)
	names, notes, err := dropins(dropinDir)
	addUnreadable(p, rawFile{Path: dropinDir, Name: dropinDir}, 1, err)
	for _, name := range names {
		path := filepath.Join(dropinDir, name)
		content, err := readFile(path)
		raw := rawFile{Path: path, Name: shortName(main, path), Content: content}
		raws = append(raws, raw)
		addUnreadable(p, raw, len(raws)-1, err)
	}
	return raws, notes, nil
}

// missing is os.ErrNotExist in plain words.
type missing string

func (m missing) Error() string { return vmnetd.Printable(string(m)) + " does not exist" }

// Is makes it os.ErrNotExist.
func (m missing) Is(target error) bool { return target == os.ErrNotExist }

func addUnreadable(p *problems, r rawFile, order int, err error) {
	if err != nil {
		m := p.add(newFile(r.Path, r.Name, order, "").whole(), "cannot be read: %v", err)
		m.cause = err
		if errors.Is(err, os.ErrPermission) {
			m.next = "run it as root"
		}
	}
}

// dropins lists what is read of a folder: visible files named *.yaml.
func dropins(dir string) (names, notes []string, err error) {
	if dir == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, "."):
		case strings.HasSuffix(name, ".yaml"):
			names = append(names, name)
		case strings.HasSuffix(name, ".yml"):
			notes = append(notes, fmt.Sprintf("%s: not read, its name must end with .yaml", filepath.Join(dir, name)))
		}
	}
	return names, notes, err
}

// shortName is a drop-in's path from the main file's folder, where it is
// beneath it: conf.d/30-rules.yaml.
func shortName(main, path string) string {
	rel, err := filepath.Rel(filepath.Dir(main), path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}

// readFile reads a regular file up to its size limit: a FIFO would wait for a
// writer for ever, a device might not end.
func readFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if len(data) > maxFile {
		return "", fmt.Errorf("it is larger than %d KiB", maxFile>>10)
	}
	return string(data), nil
}
