package room

import (
	"bytes"
	"encoding/json"

	"github.com/vmnetd/vmnetd"
)

// protocol is the version of what is spoken on a room's socket; it counts up when
// either side would no longer understand the other.
const protocol = 1

// greeting is what a process says first, with the descriptor of its namespace. Its
// form, and that of the request to become another program, stay as they are in all
// versions.
type greeting struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of the program
}

// request asks for one thing; a reply of the same id comes, of verbWatch many.
type request struct {
	ID   uint64          `json:"id"`
	Verb string          `json:"verb"`
	Args json.RawMessage `json:"args,omitempty"`
}

// reply carries the descriptor that was asked for, where one was.
type reply struct {
	ID     uint64          `json:"id"`
	Error  *failure        `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// failure is an error as it travels: its class by the name in vmnetd.Classes.
type failure struct {
	Class string `json:"class"`
	Text  string `json:"text"`
	Next  string `json:"next,omitempty"`
}

func failureOf(err error) *failure {
	return &failure{Class: vmnetd.ClassOf(err).Name, Text: err.Error(), Next: vmnetd.NextOf(err)}
}

func (f *failure) err() error {
	class := vmnetd.ErrFailed
	for _, c := range vmnetd.Classes {
		if c.Name == f.Class {
			class = c.Err
		}
	}
	return vmnetd.Errorf(class, "%s", f.Text).WithNext(f.Next)
}

// decode reads arguments; what it does not know it refuses: half of what a newer
// daemon asks for is not what it asks for.
func decode(data json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "the process in the namespace does not understand the request: %w", err)
	}
	return nil
}
