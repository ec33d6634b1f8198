package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/atomicfile"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// stateVersion is the version of state.json that this program writes; it reads
// no other.
const stateVersion = 1

// store is what is wanted, in memory and in state.json. It keeps each record's
// JSON, so that a change costs one record's encoding, however many there are.
type store struct {
	path string
	boot string
	fp   failpoint.Set

	mu      sync.Mutex
	records map[key]record
	byIndex map[int]key
	encoded map[key]json.RawMessage
	held    map[key]string // NICs of vms: detached until the VM's next start: the run they were detached from
}

type stateFile struct {
	Version     int               `json:"version"`
	Boot        string            `json:"boot"`
	Held        map[string]string `json:"held,omitempty"` // VM/NIC
	Attachments []json.RawMessage `json:"attachments"`
}

func newStore(path, boot string, fp failpoint.Set) *store {
	return &store{path: path, boot: boot, fp: fp, records: map[key]record{}, byIndex: map[int]key{}, encoded: map[key]json.RawMessage{}, held: map[key]string{}}
}

// load reads the state file. One that cannot be read is moved aside and
// reported: the devices in the kernel then say what was ours.
func (s *store) load() error {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.decode(b)
	}
	if err == nil {
		return nil
	}
	aside := fmt.Sprintf("%s.%s", s.path, time.Now().UTC().Format("20060102T150405.000000000"))
	if mv := os.Rename(s.path, aside); mv != nil {
		return errors.Join(err, mv)
	}
	return fmt.Errorf("%s cannot be used and was moved to %s: %w", s.path, filepath.Base(aside), err)
}

func (s *store) decode(b []byte) error {
	var f stateFile
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if f.Version != stateVersion {
		return fmt.Errorf("it is of version %d, this program reads version %d", f.Version, stateVersion)
	}
	if f.Boot != s.boot {
		return nil // the devices it describes went with that boot
	}
	records := make([]record, len(f.Attachments))
	for i, raw := range f.Attachments {
		if err := json.Unmarshal(raw, &records[i]); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range records {
		s.set(r, f.Attachments[i])
	}
	for name, instance := range f.Held {
		if vm, id, ok := vmnetd.SplitFullName(name); ok {
			s.held[key{vm, id}] = instance
		}
	}
	return nil
}

func (s *store) set(r record, raw json.RawMessage) {
	s.unset(r.key())
	s.records[r.key()], s.encoded[r.key()] = r, raw
	if r.Ifindex != 0 {
		s.byIndex[r.Ifindex] = r.key()
	}
}

func (s *store) unset(k key) {
	if old, ok := s.records[k]; ok && s.byIndex[old.Ifindex] == k {
		delete(s.byIndex, old.Ifindex)
	}
	delete(s.records, k)
	delete(s.encoded, k)
}

// put writes a record down. When that fails the record is as it was before.
func (s *store) put(r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, had := s.records[r.key()]
	oldRaw := s.encoded[r.key()]
	s.set(r, raw)
	if err := s.write(); err != nil {
		if s.unset(r.key()); had {
			s.set(old, oldRaw)
		}
		return err
	}
	return nil
}

// note changes what is only shown, without a write: it is found again by
// looking.
func (s *store) note(r record) {
	raw, err := json.Marshal(r)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.records[r.key()]; ok {
		s.set(r, raw)
	}
}

// drop forgets records, all in one write.
func (s *store) drop(keys ...key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		s.unset(k)
	}
	return s.write()
}

func (s *store) write() error {
	if err := s.fp.Hit(failpoint.StoreWrite); err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"version\":%d,\"boot\":%q,\"held\":", stateVersion, s.boot)
	held := map[string]string{}
	for k, instance := range s.held {
		held[k.vm+"/"+k.id] = instance
	}
	if err := json.NewEncoder(&b).Encode(held); err != nil {
		return err
	}
	b.WriteString(",\"attachments\":[")
	sep := "\n"
	for _, raw := range s.encoded {
		b.WriteString(sep)
		b.Write(raw)
		sep = ",\n"
	}
	b.WriteString("\n]}\n")
	if err := atomicfile.Write(s.path, b.Bytes()); err != nil {
		return err
	}
	return s.fp.Hit(failpoint.StoreWritten)
}

func (s *store) get(k key) (record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[k]
	return r, ok
}

// of is the records of a VM, or of all VMs for "", by name.
func (s *store) of(vm string) []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []record
	for k, r := range s.records {
		if vm == "" || k.vm == vm {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b record) int { return compareKeys(a.key(), b.key()) })
	return list
}

// deviceless is the decided records that have no device yet, in no order.
func (s *store) deviceless() []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []record
	for _, r := range s.records {
		if r.Ifindex == 0 && r.MAC != "" {
			list = append(list, r)
		}
	}
	return list
}

func (s *store) byIfindex(ifindex int) (record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.byIndex[ifindex]
	return s.records[k], ok
}

// hold keeps a NIC of vms: away until the VM's next start.
func (s *store) hold(k key, instance string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[k] = instance
	return s.write()
}

// isHeld says whether a NIC was detached from this run of the VM; what was
// detached from an earlier run is forgotten.
func (s *store) isHeld(k key, instance string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.held[k]
	if ok && was != instance {
		delete(s.held, k)
	}
	return ok && was == instance
}

// release lets NICs of a VM be made again at once.
func (s *store) release(match func(key) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.held, func(k key, _ string) bool { return match(k) })
}
