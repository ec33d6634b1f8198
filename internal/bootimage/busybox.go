package bootimage

import (
	"bytes"
	"errors"
	"os"
)

// AddBusybox adds the machine's busybox as bin/busybox.
func (a *Archive) AddBusybox() error {
	content, err := staticBusybox()
	if err != nil {
		return err
	}
	a.Dir("bin")
	a.File("bin/busybox", 0o755, content)
	return nil
}

func staticBusybox() ([]byte, error) {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		// A dynamically linked program names its loader, and would need it in the
		// image as well.
		if err == nil && bytes.Contains(content[:min(len(content), 4096)], []byte("/ld-linux")) {
			err = errors.New(path + " is not statically linked; apt-get install busybox-static")
		}
		return content, err
	}
	return nil, errors.New("there is no busybox; apt-get install busybox-static")
}
