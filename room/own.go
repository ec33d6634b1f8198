package room

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vmnetd/vmnetd"
)

// socket is where the process that holds vmnetd's own namespace answers.
func (r *Rooms) socket() string { return filepath.Join(r.o.RunDir, "room.sock") }

// Own is vmnetd's own namespace: the one that is there, or, with mayMake, a new one;
// vmnetd.ErrNotFound when there is none. The Place stays the Rooms'. When its process
// was killed, the namespace and all devices in it have gone: the next Own is another
// one.
func (r *Rooms) Own(ctx context.Context, mayMake bool) (Place, error) {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { r.turn <- struct{}{} }()
	if own := r.found(); own != nil {
		return own, nil
	}
	l, err := r.connect(ctx)
	if mayMake && errors.Is(err, vmnetd.ErrNotFound) {
		l, err = r.make(ctx)
	}
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no network namespace of vmnetd's own")
	}
	if err != nil {
		return nil, err
	}
	return r.keep(l), nil
}

// found is the namespace as it was last found, nil where it has gone.
func (r *Rooms) found() *remote {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil || !r.own.link.alive() {
		return nil
	}
	return r.own
}

func (r *Rooms) keep(l *link) *remote {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = newRemote(l, true)
	close(r.came)
	r.came = make(chan struct{})
	return r.own
}

// make starts the process, under a lock that keeps a second one from being started.
func (r *Rooms) make(ctx context.Context) (*link, error) {
	unlock, err := lock(ctx, filepath.Join(r.o.RunDir, "room.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	l, err := r.connect(ctx) // somebody else may have been first
	if !errors.Is(err, vmnetd.ErrNotFound) {
		return l, err
	}
	if err := r.o.Starter.Start(ctx, "", r.socket()); err != nil {
		return nil, err
	}
	l, err = r.connect(ctx)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "a network namespace of vmnetd's own was made, and its process is not there: %w", err)
	}
	r.o.Log.Info("made a network namespace of our own", "netns", l.ns.ID())
	return l, nil
}

// connect reaches the process that is there, and has one of another version become
// ours first.
func (r *Rooms) connect(ctx context.Context) (*link, error) {
	l, err := dial(ctx, r.socket())
	if err != nil {
		return nil, err
	}
	if r.o.Program != "" && l.said.Version != r.o.Version {
		if l, err = r.replace(ctx, l); err != nil {
			return nil, err
		}
	}
	if l.said.Protocol != protocol {
		_ = l.close()
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "the process that holds vmnetd's own network namespace is of version %s, and does not understand this one", vmnetd.Printable(l.said.Version)).
			WithNext("run that version; or stop every VM with an ipvtap, kill that process, and start them again")
	}
	return l, nil
}

// replace has the process become our program, and connects to it again. Where it
// cannot, the one that is there is as good as its protocol.
func (r *Rooms) replace(ctx context.Context, l *link) (*link, error) {
	was := l.said.Version
	_, err := l.call(ctx, verbBecome, becomeArgs{Program: r.o.Program}, nil)
	if l.alive() {
		r.o.Log.Warn("the process that holds our network namespace stays of an older version", "version", was, "error", err)
		return l, nil
	}
	_ = l.close()
	if l, err = dial(ctx, r.socket()); err != nil {
		return nil, err
	}
	r.o.Log.Info("the process that holds our network namespace was of another version", "was", was, "is", l.said.Version)
	return l, nil
}

// inside says what is in vmnetd's own namespace, and how an operator looks into it.
func (r *Rooms) inside(devices int) string {
	text := fmt.Sprintf("devices in it: %d", devices)
	own := r.found()
	if own == nil {
		return text
	}
	if cred, err := peer(own.link.conn); err == nil {
		text += fmt.Sprintf("; to look into it:  nsenter --net=/proc/%d/ns/net ip address", cred.Pid)
	}
	return text
}
