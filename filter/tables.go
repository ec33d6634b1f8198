package filter

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// perTable is how many devices a table is for: a transaction that adds a rule has
// the kernel walk through all chains of that table
// (net/netfilter/nf_tables_api.c, nft_table_validate), 12 µs for each.
const perTable = 64

// table is one of our tables, by its number.
type table int

func (t table) String() string {
	if t == 0 {
		return Table
	}
	return Table + "-" + strconv.Itoa(int(t))
}

// tableNamed is the table of that name; false when it is none of ours.
func tableNamed(name string) (table, bool) {
	end, further := strings.CutPrefix(name, Table+"-")
	n, _ := strconv.Atoi(end)
	t := table(n)
	if !further {
		t = 0
	}
	return t, t >= 0 && name == t.String()
}

// place is a chain's or a set's name, or a device's, in a table.
type place struct {
	table table
	name  string
}

// tables is which device has its filter in which table. Whoever has the socket has
// it; what goes wrong, and what others change, has it read anew.
type tables struct {
	stale atomic.Bool
	most  int // devices of one table
	of    map[string][]table
	size  map[table]int // 0: the table is to be deleted
}

func newTables() *tables {
	t := &tables{most: perTable}
	t.stale.Store(true)
	return t
}

// learn takes over what the kernel has. An earlier vmnetd may have left a device in
// one table more, and more devices in the first than there is room for.
func (t *tables) learn(there map[place]bool) {
	t.of, t.size = map[string][]table{}, map[table]int{}
	for p := range there {
		t.of[p.name] = append(t.of[p.name], p.table)
		t.size[p.table]++
	}
	for _, list := range t.of {
		slices.Sort(list)
	}
}

func (t *tables) known(ifname string) bool { return len(t.of[ifname]) > 0 }

// home is the table of a device, the first when it has none.
func (t *tables) home(ifname string) table {
	if list := t.of[ifname]; len(list) > 0 {
		return list[0]
	}
	return 0
}

// strays are the tables that have something of a device and are not its own.
func (t *tables) strays(ifname string) []table {
	if list := t.of[ifname]; len(list) > 1 {
		return list[1:]
	}
	return nil
}

// settle is the one table that a device has from now on: the one it had, or the
// first with room.
func (t *tables) settle(ifname string) table {
	known := t.known(ifname)
	to := t.home(ifname)
	t.leave(ifname)
	for !known && t.size[to] >= t.most {
		to++
	}
	t.of[ifname] = []table{to}
	t.size[to]++
	return to
}

func (t *tables) leave(ifname string) {
	for _, from := range t.of[ifname] {
		t.size[from]--
	}
	delete(t.of, ifname)
}

// emptied deletes the further tables that nothing is left in. One that has
// something that was not known of is kept, and the transaction refused with EBUSY
// (nf_tables_deltable).
func (t *tables) emptied() []netlink.Message {
	var list []netlink.Message
	for empty, n := range t.size {
		if n == 0 && empty != 0 {
			list = append(list, message(unix.NFT_MSG_DELTABLE, unix.NLM_F_NONREC, text(unix.NFTA_TABLE_NAME, empty.String())))
			delete(t.size, empty)
		}
	}
	return list
}

// byTable are the specs with those of one table side by side.
func (t *tables) byTable(specs []Spec) []Spec {
	return slices.SortedStableFunc(slices.Values(specs), func(a, b Spec) int {
		return cmp.Compare(t.home(a.Ifname), t.home(b.Ifname))
	})
}
