package bootimage

import (
	"bytes"
	"fmt"
	"io/fs"
)

// Archive is a "newc" archive, the format of an initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type Archive struct {
	buf   bytes.Buffer
	inode int
}

// Type bits of a mode in an archive (include/uapi/linux/stat.h).
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
)

// Dir adds a directory.
func (a *Archive) Dir(name string) { a.entry(name, cpioDir|0o755, nil) }

// File adds a file; its directory must have been added before.
func (a *Archive) File(name string, perm fs.FileMode, content []byte) {
	a.entry(name, cpioFile|uint32(perm.Perm()), content)
}

// Bytes closes the archive; nothing may be added afterwards.
func (a *Archive) Bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}

func (a *Archive) entry(name string, mode uint32, content []byte) {
	const links, zero = 1, 0
	a.inode++
	// magic; ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor
	// rdevminor namesize check
	fmt.Fprintf(&a.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, zero, zero, links, zero, len(content), zero, zero, zero, zero, len(name)+1, zero)
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(content)
	a.pad()
}

// pad fills up to the next multiple of four, as the format wants after the
// name and after the content.
func (a *Archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}
