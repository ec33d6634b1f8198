package tapdev

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// had is the kinds that the kernel was found to have: it keeps them, for a module
// in use is not removed, and one that was removed comes back when it is needed. And
// those that it was found to lack, which may come.
type had struct {
	mu     sync.Mutex
	kinds  map[vmnetd.Kind]bool
	lacked map[vmnetd.Kind]lack

	lackFor time.Duration
}

// lack is what the kernel said of a kind that it has not, and when.
type lack struct {
	err error
	at  time.Time
}

// lackFor is how long what a kernel lacks is not asked for again, unless its module
// was loaded meanwhile: each time the kernel looks for that, and starts a process
// (net/core/rtnetlink.c, rtnl_newlink).
const lackFor = time.Minute

func newHad() *had {
	return &had{kinds: map[vmnetd.Kind]bool{}, lacked: map[vmnetd.Kind]lack{}, lackFor: lackFor}
}

// lacks is what the kernel said of a kind a short while ago; nil: it has to be asked.
func (h *had) lacks(k kind) error {
	l, known := h.lacked[k.name]
	if !known || time.Since(l.at) >= h.lackFor {
		return nil
	}
	if _, err := os.Stat("/sys/module/" + k.module); err == nil {
		return nil
	}
	return l.err
}

// Lacking is the kinds of device that this kernel does not have, and says of each
// in one sentence why it cannot be used. Those that were there once are not asked
// for again, the others after a while: loading a module is enough.
func (h *Host) Lacking(ctx context.Context) map[vmnetd.Kind]string {
	lacking := map[vmnetd.Kind]string{}
	for _, k := range kinds {
		if err := h.probe(ctx, k); errors.Is(err, unix.EOPNOTSUPP) {
			lacking[k.name] = missing(k, err).Error()
		}
	}
	return lacking
}

// probe asks the kernel whether it has a kind, unless it had it before.
func (h *Host) probe(ctx context.Context, k kind) error {
	h.found.mu.Lock()
	defer h.found.mu.Unlock()
	if h.found.kinds[k.name] {
		return nil
	}
	if err := h.found.lacks(k); err != nil {
		return err
	}
	_, err := k.maker.probe(ctx, h, k)
	switch {
	case err == nil:
		h.found.kinds[k.name] = true
	case errors.Is(err, unix.EOPNOTSUPP):
		h.found.lacked[k.name] = lack{err, time.Now()}
	}
	return err
}
