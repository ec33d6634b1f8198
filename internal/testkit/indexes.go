package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// skipGroup is the link group of devices that are only there to be deleted.
const skipGroup = 0x736b6970

// apart is more devices than the namespaces of a test get once they have skipped some.
const apart = 200

// skipped is how many indexes a namespace of this process has skipped last. Its
// devices may be still to come, and leave no node yet.
var skipped struct {
	sync.Mutex
	count int
}

// SkipIndexes makes the namespace give out ifindexes that no other one on this
// machine is likely to: /dev/tapINDEX is one name for all of them, and libvirt's
// type='direct' does not look whose it opens. The kernel counts only those that it
// gives out itself (net/core/dev.c, dev_index_reserve), so devices come and go on
// lower.
func (n *Netns) SkipIndexes(t TB, lower string) {
	t.Helper()
	count := toSkip()
	index := n.Link(t, lower).Index
	for i := range count {
		link := rtnl.NewLink{Name: fmt.Sprintf("skip%d", i), Kind: "macvlan", Lower: index, Group: skipGroup}
		if err := n.conn.Create(context.Background(), link); err != nil {
			t.Fatalf("cannot make %s: %v", link.Name, err)
		}
	}
	if err := n.conn.DeleteGroup(context.Background(), skipGroup); err != nil {
		t.Fatalf("cannot delete the devices again: %v", err)
	}
}

func toSkip() int {
	skipped.Lock()
	defer skipped.Unlock()
	count := max(500+rand.IntN(500), skipped.count+apart)
	for _, used := range tapNodes() {
		if used < 1<<16 { // what is higher was asked for
			count = max(count, used+apart)
		}
	}
	skipped.count = count
	return count
}

func tapNodes() (indexes []int) {
	paths, _ := filepath.Glob("/dev/tap*") // the pattern is good
	for _, p := range paths {
		if n, err := strconv.Atoi(filepath.Base(p)[len("tap"):]); err == nil {
			indexes = append(indexes, n)
		}
	}
	return indexes
}
