package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/atomicfile"
)

// Source reads configurations from /etc and keeps the accepted one. It has no
// state of its own and may be used by several goroutines, Accept by one.
type Source struct {
	file    string
	dropins string
	applied string // the file with the accepted configuration
	kept    string // the folder with the NICs that attach --config keeps
	now     func() time.Time

	keeping *sync.Mutex // one at a time reads a file of kept NICs and replaces it
}

var _ agent.ConfigSource = (*Source)(nil)

// New makes a Source: the main file (/etc/vmnetd/vmnetd.yaml), the folder of
// drop-ins (/etc/vmnetd/conf.d; may be missing), and the folder for what must
// outlive a reboot (/var/lib/vmnetd; made when needed).
func New(file, dropinDir, libDir string) *Source {
	return &Source{file: file, dropins: dropinDir, applied: filepath.Join(libDir, "applied", "config.json"), kept: filepath.Join(libDir, "vms"), now: time.Now, keeping: new(sync.Mutex)}
}

// Name is the main file's path.
func (s *Source) Name() string { return s.file }

// Candidate reads what the operator has written; the error is Errors with every
// mistake, or says that there is no configuration.
func (s *Source) Candidate() (agent.Config, error) { return Check(s.file, s.dropins) }

// Accept keeps the files of c, readable by root alone, as what every start
// begins with.
func (s *Source) Accept(c agent.Config) error {
	if len(c.Raw) == 0 {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot keep a configuration that was not read from files")
	}
	data, err := encodeBundle(c.Raw, s.now())
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.applied), 0o700)
	}
	if err == nil {
		err = atomicfile.Write(s.applied, data)
	}
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot keep the configuration: %w", err).
			WithNext("see that " + filepath.Dir(s.applied) + " can be written and has space")
	}
	return nil
}

// Accepted is the configuration that was accepted last, with its time; an error
// that is os.ErrNotExist when none ever was. A file that is damaged, or of a
// later version, is moved aside, so that it is told once and does not stand in
// the way of the next Accept.
func (s *Source) Accepted() (agent.Config, error) {
	data, err := os.ReadFile(s.applied)
	if errors.Is(err, os.ErrNotExist) {
		return agent.Config{}, fmt.Errorf("no configuration was ever accepted: %w", err)
	}
	if err != nil {
		return agent.Config{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot read the configuration accepted last: %w", err)
	}
	raws, at, err := decodeBundle(data)
	if err != nil {
		return agent.Config{}, s.moveAside(err)
	}
	var p problems
	cfg, err := loadRaw(raws, &p)
	if err != nil {
		return agent.Config{}, fmt.Errorf("the configuration accepted on %s no longer loads:\n%w", at.Local().Format(time.DateTime), err)
	}
	cfg.At = at
	return cfg, nil
}

func (s *Source) moveAside(why error) error {
	aside := s.applied + ".corrupt"
	if err := os.Rename(s.applied, aside); err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "the configuration accepted last (%s) cannot be used, %v, nor moved aside: %w", s.applied, why, err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "the configuration accepted last cannot be used: %w; it was moved to %s", why, aside).
		WithNext("vmnetd reload  accepts the configuration in /etc/vmnetd")
}
