package hostconf

import (
	"os"
	"path/filepath"
	"slices"
)

// file is one file as the host sees it.
type file struct{ path, text string }

// glob is the files that match a pattern beneath root, with their text.
func glob(root, pattern string) []file {
	paths, _ := filepath.Glob(filepath.Join(root, pattern)) // a bad pattern of interfaces(5) matches nothing
	var files []file
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() && !masked(path) {
			continue // a folder, or a pipe that would not end
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		inside, err := filepath.Rel(root, path)
		if err != nil {
			continue
		}
		files = append(files, file{path: "/" + inside, text: string(text)})
	}
	return files
}

// masked says that a file is a link to /dev/null, which is how a file of the
// same name in another folder is put out of force (systemd.network(5)).
func masked(path string) bool {
	to, err := os.Readlink(path)
	return err == nil && to == os.DevNull
}

// layered is the files of several folders by name; of files of one name only
// that of the first folder counts.
func layered(root, pattern string, folders ...string) []file {
	byName := map[string]file{}
	var names []string
	for _, folder := range folders {
		for _, f := range glob(root, filepath.Join(folder, pattern)) {
			name := filepath.Base(f.path)
			if _, hidden := byName[name]; !hidden {
				byName[name] = f
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	files := make([]file, 0, len(names))
	for _, name := range names {
		files = append(files, byName[name])
	}
	return files
}
