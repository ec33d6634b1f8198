package uplink

import (
	"context"
	"sync"
	"testing"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// askedMirror tells that all links were asked for.
type askedMirror struct {
	*rtnl.Watch
	asked func()
}

func (m askedMirror) All() []rtnl.Link {
	defer m.asked()
	return m.Watch.All()
}

// At a start the mirror may be filled after the teams in it were looked for.
func TestVMTeamsThatTheMirrorShowsLaterAreFollowed(t *testing.T) {
	h := newHost(t)
	h.ip(t, "link", "add", "tm0", "type", "team")
	var late *rtnl.Watch
	err := h.ns.Do(func() (err error) {
		late, err = rtnl.OpenWatch()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.Close() })
	asked := make(chan struct{})
	h.start(t, func(o *Options) { o.Links = askedMirror{late, sync.OnceFunc(func() { close(asked) })} })
	run(t, func(ctx context.Context) error { return h.Run(ctx, func(int) {}) })
	<-asked
	if err := late.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	team := h.ns.Link(t, "tm0").Index
	eventually(t, "the team is followed", func() bool { return h.o.Teams.Known(team) })
}
