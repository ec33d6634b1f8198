package hypervisor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// dirWatch tells when something that matters happens in directories. It costs
// nothing while nothing happens.
type dirWatch struct {
	f      *os.File // in the runtime's poller
	fd     int
	wanted map[int32]*dirWant // by watch descriptor
}

// dirWant is what is watched for in one directory.
type dirWant struct {
	dir     string
	matters []func(name string) bool // which names
	passed  int                      // how many of them are directories on the way that are there
}

// A directory on the way to another one that is there is watched for nothing
// but its own end: /run is a busy place, and who watches it all never rests.
const (
	selfMask = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	dirMask  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_MOVED_FROM | selfMask
)

func newDirWatch() (*dirWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot watch for VMs: inotify_init: %w", err).
			WithNext("sysctl fs.inotify.max_user_instances=1024")
	}
	return &dirWatch{f: os.NewFile(uintptr(fd), "inotify"), fd: fd, wanted: map[int32]*dirWant{}}, nil
}

func (d *dirWatch) close() { _ = d.f.Close() }

// follow makes the watches be those that the patterns need now. A directory that
// is not there yet is waited for in the nearest one that is.
func (d *dirWatch) follow(patterns []pattern) error {
	before := d.wanted
	d.wanted = map[int32]*dirWant{}
	var errs []error
	for _, p := range patterns {
		errs = append(errs, d.followPattern(p))
	}
	for wd := range before {
		if _, ok := d.wanted[wd]; !ok {
			d.drop(wd)
		}
	}
	for wd, w := range d.wanted {
		if w.passed == len(w.matters) {
			d.quiet(wd, w.dir)
		}
	}
	return errors.Join(errs...)
}

// drop ends a watch. EINVAL: the directory has gone, and the watch with it.
func (d *dirWatch) drop(wd int32) { _, _ = unix.InotifyRmWatch(d.fd, uint32(wd)) }

// quiet leaves of a watch what tells that the directory goes.
func (d *dirWatch) quiet(wd int32, dir string) {
	now, err := unix.InotifyAddWatch(d.fd, dir, selfMask)
	if err == nil && int32(now) != wd { // another directory by now: the end of the first one is told
		d.drop(int32(now))
	}
}

// followPattern watches a directory before it looks what is in it, so that
// nothing comes in between.
func (d *dirWatch) followPattern(p pattern) error {
	there, err := d.descend("/", strings.Split(strings.Trim(p.dir, "/"), "/"))
	if err != nil || !there {
		return err
	}
	w, err := d.add(p.dir, func(name string) bool { _, ok := p.match(name); return ok })
	if w == nil || p.rest == "" {
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
		w, err := d.add(dir, is(part))
		if w == nil {
			return false, err
		}
		dir = filepath.Join(dir, part)
		if !isDir(dir) {
			return false, nil
		}
		w.passed++
	}
	return true, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// add watches one directory; nil when it is not there.
func (d *dirWatch) add(dir string, matters func(string) bool) (*dirWant, error) {
	wd, err := unix.InotifyAddWatch(d.fd, dir, dirMask)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil, nil
	case errors.Is(err, unix.ENOSPC):
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot watch %s for VMs: the limit of inotify watches is reached: %w", dir, err).
			WithNext("sysctl fs.inotify.max_user_watches=65536")
	case err != nil:
		return nil, fmt.Errorf("cannot watch %s for VMs: %w", dir, err)
	}
	w := d.wanted[int32(wd)]
	if w == nil {
		w = &dirWant{dir: dir}
		d.wanted[int32(wd)] = w
	}
	w.matters = append(w.matters, matters)
	return w, nil
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

// pass passes on what inotify tells until d is closed or ctx ends.
func (d *dirWatch) pass(ctx context.Context, to chan<- []dirEvent) {
	buf := make([]byte, 64<<10)
	for {
		events, err := d.read(buf)
		if err != nil {
			return
		}
		select {
		case to <- events:
		case <-ctx.Done():
			return
		}
	}
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

// matters says whether an event can have to do with a VM.
func (d *dirWatch) matters(ev dirEvent) bool {
	if ev.mask&(unix.IN_Q_OVERFLOW|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0 {
		return true
	}
	w := d.wanted[ev.wd]
	return w != nil && slices.ContainsFunc(w.matters, func(wanted func(string) bool) bool { return wanted(ev.name) })
}
