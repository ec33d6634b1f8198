package hypervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// dirWatch tells when something that matters happens in directories. It costs
// nothing while nothing happens.
type dirWatch struct {
	f      *os.File // in the runtime's poller
	fd     int
	wanted map[int32][]func(name string) bool // by watch descriptor: which names matter
}

const dirMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_MOVED_FROM |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

func newDirWatch() (*dirWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot watch for VMs: inotify_init: %w", err).
			WithNext("sysctl fs.inotify.max_user_instances=1024")
	}
	return &dirWatch{f: os.NewFile(uintptr(fd), "inotify"), fd: fd, wanted: map[int32][]func(string) bool{}}, nil
}

func (d *dirWatch) close() { _ = d.f.Close() }

// follow makes the watches be those that the patterns need now. A directory that
// is not there yet is waited for in the nearest one that is.
func (d *dirWatch) follow(patterns []pattern) error {
	before := d.wanted
	d.wanted = map[int32][]func(string) bool{}
	var errs []error
	for _, p := range patterns {
		errs = append(errs, d.followPattern(p))
	}
	for wd := range before {
		if _, ok := d.wanted[wd]; !ok {
			_, _ = unix.InotifyRmWatch(d.fd, uint32(wd)) // EINVAL: the directory has gone, and the watch with it
		}
	}
	return errors.Join(errs...)
}

// followPattern watches a directory before it looks what is in it, so that
// nothing comes in between.
func (d *dirWatch) followPattern(p pattern) error {
	there, err := d.descend("/", strings.Split(strings.Trim(p.dir, "/"), "/"))
	if err != nil || !there {
		return err
	}
	ok, err := d.add(p.dir, func(name string) bool { _, ok := p.match(name); return ok })
	if err != nil || !ok || p.rest == "" {
		return err
	}
	entries, _ := os.ReadDir(p.dir) // it may have gone again: its parent tells
	for _, e := range entries {
		if _, ok := p.match(e.Name()); !ok || !e.IsDir() {
			continue
		}
		if err := d.followRest(filepath.Join(p.dir, e.Name()), p.rest); err != nil {
			return err
		}
	}
	return nil
}

// followRest watches for the socket beneath a VM's own directory.
func (d *dirWatch) followRest(dir, rest string) error {
	parts := strings.Split(rest, "/")
	last := len(parts) - 1
	there, err := d.descend(dir, parts[:last])
	if err != nil || !there {
		return err
	}
	_, err = d.add(filepath.Join(dir, filepath.Dir(rest)), is(parts[last]))
	return err
}

func is(name string) func(string) bool { return func(s string) bool { return s == name } }

// descend walks down from dir and watches each directory for the next one to
// come or go. there is false when one is missing.
func (d *dirWatch) descend(dir string, parts []string) (there bool, err error) {
	for _, part := range parts {
		if part == "" {
			continue
		}
		ok, err := d.add(dir, is(part))
		if err != nil || !ok {
			return false, err
		}
		dir = filepath.Join(dir, part)
	}
	st, err := os.Stat(dir)
	return err == nil && st.IsDir(), nil
}

// add watches one directory; ok is false when it is not there.
func (d *dirWatch) add(dir string, matters func(string) bool) (ok bool, err error) {
	wd, err := unix.InotifyAddWatch(d.fd, dir, dirMask)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return false, nil
	case errors.Is(err, unix.ENOSPC):
		return false, vmnetd.Errorf(vmnetd.ErrFailed, "cannot watch %s for VMs: the limit of inotify watches is reached: %w", dir, err).
			WithNext("sysctl fs.inotify.max_user_watches=65536")
	case err != nil:
		return false, fmt.Errorf("cannot watch %s for VMs: %w", dir, err)
	}
	d.wanted[int32(wd)] = append(d.wanted[int32(wd)], matters)
	return true, nil
}

// dirEvent is one event of inotify(7).
type dirEvent struct {
	wd   int32
	mask uint32
	name string
}

// read waits for events; the error is os.ErrClosed after close.
func (d *dirWatch) read(buf []byte) ([]dirEvent, error) {
	n, err := d.f.Read(buf)
	if err != nil {
		return nil, err
	}
	return parseDirEvents(buf[:n]), nil
}

func parseDirEvents(b []byte) []dirEvent {
	var events []dirEvent
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofInotifyEvent {
		size := unix.SizeofInotifyEvent + int(ne.Uint32(b[12:]))
		if size > len(b) {
			break
		}
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:size]), "\x00")
		events = append(events, dirEvent{wd: int32(ne.Uint32(b)), mask: ne.Uint32(b[4:]), name: name})
		b = b[size:]
	}
	return events
}

// matters says whether an event can have to do with a VM. /run is a busy
// place, and most of it is none of our business.
func (d *dirWatch) matters(ev dirEvent) bool {
	if ev.mask&(unix.IN_Q_OVERFLOW|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0 {
		return true
	}
	for _, wanted := range d.wanted[ev.wd] {
		if wanted(ev.name) {
			return true
		}
	}
	return false
}
