package room

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/vmnetd/vmnetd"
)

// runPause is how long Run waits for a process that is there and does not answer.
const runPause = 5 * time.Second

// Ended is what Run tells of a namespace whose process has ended.
const Ended = -1

// Run tells of devices in vmnetd's own namespace that come, go or change, and of
// filters of ours there that others removed (0), until ctx ends; changed must not
// block. It tells of a namespace that is found by 0, and of one that has gone with its
// process by Ended. It makes no namespace.
func (r *Rooms) Run(ctx context.Context, changed func(ifindex int)) error {
	for ctx.Err() == nil {
		r.mu.Lock()
		came := r.came
		r.mu.Unlock()
		_, err := r.Own(ctx, false)
		if own := r.found(); err == nil && own != nil {
			r.follow(ctx, own.link, changed)
			continue
		}
		var again <-chan time.Time
		if err != nil && !errors.Is(err, vmnetd.ErrNotFound) && ctx.Err() == nil {
			r.o.Log.Warn("our own network namespace cannot be watched", "error", err)
			again = time.After(runPause)
		}
		select {
		case <-ctx.Done():
		case <-came:
		case <-again:
		}
	}
	return nil
}

// follow passes on what a process tells until it has ended, or ctx.
func (r *Rooms) follow(ctx context.Context, l *link, changed func(ifindex int)) {
	failed := make(chan error, 1)
	id, err := l.ask(verbWatch, nil, func(a answered) {
		closeFD(a.fd)
		var list []int
		switch {
		case a.Error != nil:
			failed <- a.Error.err()
		case json.Unmarshal(a.Result, &list) == nil:
			for _, ifindex := range list {
				changed(ifindex)
			}
		}
	})
	if err != nil {
		return
	}
	select {
	case <-ctx.Done():
		l.cancel(id)
		return
	case <-l.dead:
		r.o.Log.Warn("the process that held our network namespace has ended")
		changed(Ended)
	case err := <-failed:
		l.forget(id)
		r.o.Log.Warn("our own network namespace is no longer watched", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(runPause):
		}
		changed(0)
	}
}
