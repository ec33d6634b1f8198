package room

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// follow tells of links that change and, as 0, of filters that others removed, until
// the request is cancelled. What comes while the daemon does not read is told once.
func follow(c *call) error {
	news := newNews()
	ended := make(chan error, 1)
	go func() { ended <- c.s.watch(c.ctx, news.add) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-news.some:
			if err := c.tell(news.take()); err != nil {
				return <-ended // with the connection, which has ended
			}
		}
	}
}

// watch calls changed until ctx ends.
func (s *server) watch(ctx context.Context, changed func(ifindex int)) error {
	links, err := rtnl.OpenWatch()
	if err != nil {
		return err
	}
	links.OnChange(changed)
	ctx, cancel := context.WithCancel(ctx)
	var filters sync.WaitGroup
	filters.Go(func() {
		if err := s.in.filters.Watch(ctx, func() { changed(0) }); err != nil {
			s.log.Warn("nobody notices when filters are removed in this namespace", "error", err)
		}
	})
	err = links.Run(ctx)
	cancel()
	filters.Wait()
	return err
}

// news is the ifindexes that have changed since they were last taken.
type news struct {
	some chan struct{} // has a token while there are any

	mu      sync.Mutex
	changed map[int]bool
}

func newNews() *news { return &news{some: make(chan struct{}, 1), changed: map[int]bool{}} }

func (n *news) add(ifindex int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed[ifindex] = true
	select {
	case n.some <- struct{}{}:
	default:
	}
}

func (n *news) take() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := slices.Sorted(maps.Keys(n.changed))
	clear(n.changed)
	return list
}
