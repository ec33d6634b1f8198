package tapdev

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// had is the kinds that the kernel was found to have: it keeps them, for a module
// in use is not removed, and one that was removed comes back when it is needed.
type had struct {
	mu    sync.Mutex
	kinds map[vmnetd.Kind]bool
}

// Lacking is the kinds of device that this kernel does not have, and says of each
// in one sentence why it cannot be used. Those that were there once are not asked
// for again, the others each time: loading a module is enough.
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
	_, err := k.maker.probe(ctx, h, k)
	if err == nil {
		if h.found.kinds == nil {
			h.found.kinds = map[vmnetd.Kind]bool{}
		}
		h.found.kinds[k.name] = true
	}
	return err
}
