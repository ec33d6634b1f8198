package hypervisor

import (
	"encoding/binary"

	libvirt "github.com/digitalocean/go-libvirt"
)

type lvUUID = libvirt.UUID

// What libvirtd tells (src/remote/remote_protocol.x, qemu_protocol.x).
const (
	lvProgram        = 0x20008086
	lvQEMUProgram    = 0x20008087
	lvMessage        = 2 // VIR_NET_MESSAGE
	lvLifecycle      = 318
	lvDeviceRemoved  = 333
	lvDeviceAdded    = 354
	lvRemovalFailed  = 367
	lvMetadataChange = 379
	lvMonitor        = 6 // of the QEMU program
)

// lvSubscriptions is the events of libvirt that are asked for, lvMonitorEvents
// those of QEMU's monitor, which come before libvirt's own.
var (
	lvSubscriptions = []libvirt.DomainEventID{
		libvirt.DomainEventIDLifecycle, libvirt.DomainEventIDDeviceRemoved, libvirt.DomainEventIDDeviceAdded,
		libvirt.DomainEventIDDeviceRemovalFailed, libvirt.DomainEventIDMetadataChange,
	}
	lvMonitorEvents = []string{"RESUME", "STOP", "NIC_RX_FILTER_CHANGED", "RESET"}
)

// lvEvent is one event of a domain.
type lvEvent struct {
	proc   uint32
	dom    libvirt.Domain
	event  libvirt.DomainEventType // lvLifecycle
	detail int32                   // lvLifecycle
	text   string                  // a device's alias, or the monitor event's name
}

func isLvEvent(program, procedure, kind uint32) bool {
	if kind != lvMessage {
		return false
	}
	switch procedure {
	case lvLifecycle, lvDeviceRemoved, lvDeviceAdded, lvRemovalFailed, lvMetadataChange:
		return program == lvProgram
	case lvMonitor:
		return program == lvQEMUProgram
	}
	return false
}

// decodeLvEvent reads an event's arguments; ok is false when they are cut short.
func decodeLvEvent(proc uint32, body []byte) (ev lvEvent, ok bool) {
	x := xdrReader{b: body, ok: true}
	ev.proc = proc
	x.word() // the subscription's id
	ev.dom.Name = x.text()
	copy(ev.dom.UUID[:], x.bytes(len(ev.dom.UUID)))
	ev.dom.ID = int32(x.word())
	switch proc {
	case lvLifecycle:
		ev.event, ev.detail = libvirt.DomainEventType(x.word()), int32(x.word())
	case lvMonitor, lvDeviceRemoved, lvDeviceAdded, lvRemovalFailed:
		ev.text = x.text()
	}
	return ev, x.ok
}

// xdrReader reads XDR (RFC 4506).
type xdrReader struct {
	b  []byte
	ok bool
}

func (x *xdrReader) bytes(n int) []byte {
	if n < 0 || n > len(x.b) {
		x.ok = false
		return nil
	}
	b := x.b[:n]
	x.b = x.b[n:]
	return b
}

func (x *xdrReader) word() uint32 {
	b := x.bytes(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// text is a string, padded to a multiple of four bytes.
func (x *xdrReader) text() string {
	n := int(x.word())
	s := string(x.bytes(n))
	x.bytes(-n & 3)
	return s
}
