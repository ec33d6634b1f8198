package agent

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/learn"
)

// heard is an address that a guest was heard to use.
type heard struct {
	IP    netip.Addr
	How   learn.How
	At    time.Time // when it was last told
	Until time.Time // the end of its lease
}

// heardInFile has times count from the boot, which the state file is of: a clock that
// is set ends no lease.
type heardInFile struct {
	IP    netip.Addr `json:"ip"`
	How   learn.How  `json:"how"`
	At    fileTime   `json:"at"`
	Until fileTime   `json:"until,omitzero"`
}

// MarshalJSON implements json.Marshaler.
func (h heard) MarshalJSON() ([]byte, error) {
	return json.Marshal(heardInFile{h.IP, h.How, toFile(h.At), toFile(h.Until)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *heard) UnmarshalJSON(b []byte) error {
	var f heardInFile
	err := json.Unmarshal(b, &f)
	*h = heard{f.IP, f.How, f.At.time(), f.Until.time()}
	return err
}

// fileTime is seconds since the boot (CLOCK_BOOTTIME); 0 is no time.
type fileTime int64

func toFile(t time.Time) fileTime {
	if t.IsZero() {
		return 0
	}
	return fileTime((proc.SinceBoot() + time.Until(t)).Round(time.Second) / time.Second)
}

func (f fileTime) time() time.Time {
	if f == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(f)*time.Second - proc.SinceBoot())
}
