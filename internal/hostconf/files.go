package hostconf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// What is read of a host is bounded: a plan is made while somebody waits, and
// these folders belong to others.
const (
	maxSize  = 1 << 20 // bytes of a file
	maxTotal = 8 << 20 // bytes of all files together
	maxFiles = 2000    // of all tools together
	maxNames = 10000   // of one folder
)

// file is one file as the host sees it.
type file struct{ path, text string }

// reader reads files beneath root, and notes in one sentence each what it could
// not read.
type reader struct {
	root   string
	files  int
	bytes  int
	unread []string
}

func (r *reader) note(format string, args ...any) {
	if sentence := fmt.Sprintf(format, args...); !slices.Contains(r.unread, sentence) {
		r.unread = append(r.unread, sentence)
	}
}

// here is a path of the host's beneath root.
func (r *reader) here(path string) string { return filepath.Join(r.root, path) }

// glob is the files that match a pattern, with their text.
func (r *reader) glob(pattern string) []file {
	var files []file
	for _, path := range r.paths(pattern) {
		if f, ok := r.read(path); ok {
			files = append(files, f)
		}
	}
	return files
}

// paths is the host's paths that match a pattern, by name. It reads no folder
// twice and none that the pattern does not name, and a limited part of one.
func (r *reader) paths(pattern string) []string {
	found := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(filepath.Clean("/"+pattern), "/"), "/") {
		var deeper []string
		for _, folder := range found {
			for _, name := range r.names(folder, part) {
				deeper = append(deeper, filepath.Join(folder, name))
			}
		}
		found = deeper[:min(len(deeper), maxNames)]
	}
	return found
}

// names is what of a folder matches one part of a pattern; a part without
// wildcards need not be there. A bad pattern matches nothing.
func (r *reader) names(folder, part string) []string {
	if !strings.ContainsAny(part, `*?[\`) {
		return []string{part}
	}
	open, err := os.Open(r.here(folder))
	if err != nil {
		r.failed(folder, err)
		return nil
	}
	defer open.Close()
	all, err := open.Readdirnames(maxNames)
	if err != nil && !errors.Is(err, io.EOF) {
		r.failed(folder, err)
	}
	if len(all) == maxNames {
		r.note("%s has more than %d files, and not all are read", folder, maxNames-1)
	}
	names := slices.DeleteFunc(all, func(name string) bool {
		ok, err := filepath.Match(part, name)
		return err != nil || !ok || name[0] == '.' && part[0] != '.'
	})
	slices.Sort(names)
	return names
}

// failed notes why a path was not read; one that is not there has nothing to
// say.
func (r *reader) failed(path string, err error) {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err // its path is that beneath root
	}
	r.note("%s cannot be read: %v", path, err)
}

// read is one file; folders are none. It is opened without waiting, as a pipe
// would be waited for.
func (r *reader) read(path string) (file, bool) {
	if masked(r.here(path)) {
		return file{path: path}, true
	}
	open, err := os.OpenFile(r.here(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		r.failed(path, err)
		return file{}, false
	}
	defer open.Close()
	info, err := open.Stat()
	switch {
	case err != nil:
		r.failed(path, err)
		return file{}, false
	case info.IsDir():
		return file{}, false
	case !info.Mode().IsRegular():
		r.note("%s is no regular file, and is not read", path)
		return file{}, false
	case r.files == maxFiles:
		r.note("the host has more than %d files about its network, and not all are read", maxFiles)
		return file{}, false
	}
	r.files++
	return r.text(path, open)
}

func (r *reader) text(path string, from io.Reader) (file, bool) {
	text, err := io.ReadAll(io.LimitReader(from, maxSize+1))
	switch {
	case err != nil:
		r.failed(path, err)
		return file{}, false
	case len(text) > maxSize:
		r.note("%s is larger than %d bytes, and is not read", path, maxSize)
		return file{}, false
	case r.bytes+len(text) > maxTotal:
		r.note("the host has more than %d bytes about its network, and not all are read", maxTotal)
		return file{}, false
	}
	r.bytes += len(text)
	return file{path: path, text: string(text)}, true
}

// masked says that a file is a link to /dev/null, which is how a file of the
// same name in another folder is put out of force (systemd.network(5)).
func masked(path string) bool {
	to, err := os.Readlink(path)
	return err == nil && to == os.DevNull
}

// layered is the files of several folders by name; of files of one name only
// that of the first folder counts.
func (r *reader) layered(pattern string, folders ...string) []file {
	byName := map[string]string{}
	for _, folder := range folders {
		for _, path := range r.paths(filepath.Join(folder, pattern)) {
			if name := filepath.Base(path); byName[name] == "" {
				byName[name] = path
			}
		}
	}
	var files []file
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if f, ok := r.read(byName[name]); ok {
			files = append(files, f)
		}
	}
	return files
}
