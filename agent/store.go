package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/atomicfile"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/policy"
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
	records map[key]*entry
	byVM    map[string]map[key]*entry
	byPlace map[string]map[key]*entry // by uplink
	byIndex map[int]*entry
	byName  map[string]*entry       // by the device's
	loose   map[key]*entry          // not attached: on their way, in trouble or going
	away    map[key]*entry          // attached, and their device lives in another namespace
	byIP    map[netip.Addr][]*entry // networks that are apart may use one address each
	held    map[key]string          // NICs of vms: detached until the VM's next start: the run they were detached from
	unsaved bool                    // the file may not say what the records say
	file    bytes.Buffer            // what is written, kept for its memory
}

type entry struct {
	record
	raw json.RawMessage
}

type stateFile struct {
	Version     int               `json:"version"`
	Boot        string            `json:"boot"`
	Held        map[string]string `json:"held,omitempty"` // VM/NIC
	Attachments []json.RawMessage `json:"attachments"`
}

func newStore(path, boot string, fp failpoint.Set) *store {
	return &store{
		path: path, boot: boot, fp: fp, records: map[key]*entry{}, byVM: map[string]map[key]*entry{}, byPlace: map[string]map[key]*entry{},
		byIndex: map[int]*entry{}, byName: map[string]*entry{}, loose: map[key]*entry{}, away: map[key]*entry{}, byIP: map[netip.Addr][]*entry{}, held: map[key]string{},
	}
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
	entries := make([]*entry, len(f.Attachments))
	for i, raw := range f.Attachments {
		entries[i] = &entry{raw: raw}
		if err := json.Unmarshal(raw, &entries[i].record); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		s.set(e)
	}
	for name, instance := range f.Held {
		if vm, id, ok := vmnetd.SplitFullName(name); ok {
			s.held[key{vm, id}] = instance
		}
	}
	return nil
}

func (s *store) set(e *entry) {
	k := e.key()
	s.unset(k)
	s.records[k] = e
	if s.byVM[k.vm] == nil {
		s.byVM[k.vm] = map[key]*entry{}
	}
	s.byVM[k.vm][k] = e
	if s.byPlace[e.Uplink] == nil {
		s.byPlace[e.Uplink] = map[key]*entry{}
	}
	s.byPlace[e.Uplink][k] = e
	if e.Ifindex != 0 && !e.Moved { // of another namespace's index nothing is heard here
		s.byIndex[e.Ifindex] = e
	}
	if e.Ifname != "" {
		s.byName[e.Ifname] = e
	}
	switch {
	case e.Phase != vmnetd.Attached:
		s.loose[k] = e
	case e.Moved:
		s.away[k] = e
	}
	for _, p := range e.known() {
		s.byIP[p.Addr()] = append(s.byIP[p.Addr()], e)
	}
}

func (s *store) unset(k key) {
	old := s.records[k]
	if old == nil {
		return
	}
	delete(s.records, k)
	delete(s.loose, k)
	delete(s.away, k)
	for _, p := range old.known() {
		rest := slices.DeleteFunc(s.byIP[p.Addr()], func(e *entry) bool { return e == old })
		if s.byIP[p.Addr()] = rest; len(rest) == 0 {
			delete(s.byIP, p.Addr())
		}
	}
	if s.byIndex[old.Ifindex] == old {
		delete(s.byIndex, old.Ifindex)
	}
	if s.byName[old.Ifname] == old {
		delete(s.byName, old.Ifname)
	}
	if delete(s.byVM[k.vm], k); len(s.byVM[k.vm]) == 0 {
		delete(s.byVM, k.vm)
	}
	if delete(s.byPlace[old.Uplink], k); len(s.byPlace[old.Uplink]) == 0 {
		delete(s.byPlace, old.Uplink)
	}
}

// put writes a record down. When that fails the record is as it was before.
func (s *store) put(r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.records[r.key()]
	if old != nil && !s.unsaved && bytes.Equal(old.raw, raw) {
		return nil
	}
	s.set(&entry{r, raw})
	return s.writeOr(r.key(), old)
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
	if s.records[r.key()] != nil {
		s.set(&entry{r, raw})
		s.unsaved = true
	}
}

// drop forgets a record. When that cannot be written down the record stays.
func (s *store) drop(k key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.records[k]
	s.unset(k)
	return s.writeOr(k, old)
}

// writeOr puts back what was there before a change that cannot be written down.
func (s *store) writeOr(k key, old *entry) error {
	err := s.write()
	s.unsaved = err != nil
	if err == nil {
		return nil
	}
	if s.unset(k); old != nil {
		s.set(old)
	}
	return err
}

func (s *store) write() error {
	if err := s.fp.Hit(failpoint.StoreWrite); err != nil {
		return err
	}
	b := &s.file
	b.Reset()
	fmt.Fprintf(b, "{\"version\":%d,\"boot\":%q,\"held\":", stateVersion, s.boot)
	held := map[string]string{}
	for k, instance := range s.held {
		held[vmnetd.FullName(k.vm, k.id)] = instance
	}
	if err := json.NewEncoder(b).Encode(held); err != nil {
		return err
	}
	b.WriteString(",\"attachments\":[")
	sep := "\n"
	for _, e := range s.records {
		b.WriteString(sep)
		b.Write(e.raw)
		sep = ",\n"
	}
	b.WriteString("\n]}\n")
	if err := atomicfile.Write(s.path, b.Bytes()); err != nil {
		return err
	}
	return s.fp.Hit(failpoint.StoreWritten)
}

func (s *store) get(k key) (record, bool) { return one(s, s.records, k) }

func one[K comparable](s *store, entries map[K]*entry, k K) (record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := entries[k]; e != nil {
		return e.record, true
	}
	return record{}, false
}

// of is the records of a VM, or of all VMs for "", by name.
func (s *store) of(vm string) []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if vm == "" {
		return sorted(s.records)
	}
	return sorted(s.byVM[vm])
}

// on is the records that stand on an uplink, by name.
func (s *store) on(uplink string) []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sorted(s.byPlace[uplink])
}

// each shows every record that stands on an uplink, "": every one there is, in no
// order and without a copy; see must not call the store.
func (s *store) each(uplink string, see func(r *record)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := s.byPlace[uplink]
	if uplink == "" {
		entries = s.records
	}
	for _, e := range entries {
		see(&e.record)
	}
}

// keys is the NICs of a VM that have a record, by name.
func (s *store) keys(vm string) []key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.byVM[vm]), compareKeys)
}

// unsettled is the records that are not attached, by name.
func (s *store) unsettled() []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sorted(s.loose)
}

// unseen is the records whose devices the mirror of links may not have: those that
// are not attached, and those whose device lives elsewhere.
func (s *store) unseen() []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(sorted(s.loose), sorted(s.away))
}

// heldIPs is the addresses that attachments have, and which.
func (s *store) heldIPs() map[netip.Addr][]policy.Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(map[netip.Addr][]policy.Holder, len(s.byIP))
	for ip, entries := range s.byIP {
		for _, e := range entries {
			held[ip] = append(held[ip], policy.Holder{Owner: e.FullName(), Claimed: !e.given(ip), Network: e.Network, Uplink: e.Uplink, VLAN: e.VLAN})
		}
	}
	return held
}

// claimants is the attachments on that uplink and VLAN that were heard to use an
// address that nobody gave them.
func (s *store) claimants(ip netip.Addr, uplink string, vlan int) (list []record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.byIP[ip] {
		if e.Uplink == uplink && e.VLAN == vlan && !e.given(ip) {
			list = append(list, e.record)
		}
	}
	return list
}

// holderOf is the attachment on that uplink and VLAN that has an address, "" for
// none; other than one is left out.
func (s *store) holderOf(ip netip.Addr, uplink string, vlan int, other key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.byIP[ip] {
		if e.Uplink == uplink && e.VLAN == vlan && e.key() != other {
			return e.FullName()
		}
	}
	return ""
}

func sorted(entries map[key]*entry) []record {
	list := make([]record, 0, len(entries))
	for _, k := range slices.SortedFunc(maps.Keys(entries), compareKeys) {
		list = append(list, entries[k].record)
	}
	return list
}

func (s *store) byIfname(ifname string) (record, bool) { return one(s, s.byName, ifname) }

func (s *store) byIfindex(ifindex int) (record, bool) { return one(s, s.byIndex, ifindex) }

// hold keeps a NIC of vms: away until the VM's next start. It is written down
// with the next record that is.
func (s *store) hold(k key, instance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[k], s.unsaved = instance, true
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

// release ends a hold.
func (s *store) release(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[k]; ok {
		delete(s.held, k)
		s.unsaved = true
	}
}
