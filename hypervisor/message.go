package hypervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/digitalocean/go-qemu/qmp"
)

// Error is an error reply of QEMU.
type Error struct {
	Class string `json:"class"` // qapi/error.json, QapiErrorClass: GenericError, DeviceNotFound, …
	Desc  string `json:"desc"`
}

func (e *Error) Error() string { return e.Desc }

// isClass says whether err is an error reply of that class.
func isClass(err error, class string) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == class
}

// Classes of error replies that the callers tell apart.
const (
	deviceNotFound  = "DeviceNotFound"
	commandNotFound = "CommandNotFound"
)

// message is anything that QEMU sends: a greeting, a reply or an event.
type message struct {
	Greeting *struct {
		Version qmp.Version `json:"version"`
	} `json:"QMP"`
	ID     json.RawMessage `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *Error          `json:"error"`

	event *qmp.Event
	size  int // bytes on the wire
}

// decoder reads messages off a stream, however long each is, up to a limit that
// keeps a QEMU gone wild from eating the daemon's memory.
type decoder struct {
	in    *meter
	json  *json.Decoder
	limit int
}

func newDecoder(r io.Reader, limit int) *decoder {
	in := &meter{r: r, left: limit}
	return &decoder{in: in, json: json.NewDecoder(in), limit: limit}
}

func (d *decoder) next() (message, error) {
	d.in.left = d.limit
	var raw json.RawMessage
	if err := d.json.Decode(&raw); err != nil {
		return message{}, err
	}
	return parseMessage(raw)
}

// parseMessage reads one message; what is neither greeting nor reply nor event
// is an error.
func parseMessage(raw []byte) (message, error) {
	var kind struct {
		Event string `json:"event"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return message{}, fmt.Errorf("QEMU sent something that is no QMP message: %w", err)
	}
	m := message{size: len(raw)}
	if kind.Event != "" {
		m.event = &qmp.Event{}
		return m, json.Unmarshal(raw, m.event)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return message{}, fmt.Errorf("QEMU sent something that is no QMP message: %w", err)
	}
	if m.Greeting == nil && m.Return == nil && m.Error == nil {
		return message{}, fmt.Errorf("QEMU sent something that is no QMP message: %.80q", raw)
	}
	return m, nil
}

// meter stops a stream at a message that is too long.
type meter struct {
	r    io.Reader
	left int
}

var errTooLong = errors.New("QEMU sent a message that is longer than allowed")

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errTooLong
	}
	n, err := m.r.Read(p)
	m.left -= n
	return n, err
}
