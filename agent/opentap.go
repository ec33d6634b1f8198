package agent

import (
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

// offerLife is how long the queues of a device can be claimed.
const offerLife = 30 * time.Second

// offers are the devices that wait for their owner: made, and not known to have
// been delivered.
type offers struct {
	mu     sync.Mutex
	tokens map[string]key
	open   map[key]*time.Timer
}

func newOffers() *offers {
	return &offers{tokens: map[string]key{}, open: map[key]*time.Timer{}}
}

// add makes an offer; late is called when it has run out.
func (o *offers) add(token []byte, k key, late func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens[string(token)] = k
	o.open[k] = time.AfterFunc(offerLife, func() {
		o.end(k)
		late()
	})
}

// take uses a token up. The offer stays open, for as long again, until end is
// called: nobody else is to look after the device while it is delivered.
func (o *offers) take(token []byte) (key, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k, ok := o.tokens[string(token)]
	if ok {
		delete(o.tokens, string(token))
		o.open[k].Reset(offerLife)
	}
	return k, ok
}

func (o *offers) isOpen(k key) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[k] != nil
}

func (o *offers) end(k key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.open[k]; t != nil {
		t.Stop()
	}
	delete(o.open, k)
	maps.DeleteFunc(o.tokens, func(_ string, of key) bool { return of == k })
}

func (o *offers) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.open {
		t.Stop()
	}
}

// OpenTap implements API. Request.Via is exec or fd.
func (a *Agent) OpenTap(ctx context.Context, _ Caller, req vmnetd.Request) (vmnetd.Attachment, []byte, error) {
	if err := vmnetd.CheckVMName(req.VM); err != nil {
		return vmnetd.Attachment{}, nil, err
	}
	if req.Via == "" {
		req.Via = viaFD
	}
	if req.Via != viaFD && req.Via != viaExec {
		return vmnetd.Attachment{}, nil, vmnetd.Errorf(vmnetd.ErrInvalid, "queues are opened via exec or fd, not %q", req.Via)
	}
	if req.ID != "" {
		if err := vmnetd.CheckID(req.ID); err != nil {
			return vmnetd.Attachment{}, nil, err
		}
	}
	type opened struct {
		att   vmnetd.Attachment
		token []byte
	}
	out, err := inTurn(ctx, a, req.VM, func(ctx context.Context) (opened, error) {
		att, token, err := a.openTap(ctx, req)
		return opened{att, token}, err
	}, func() (opened, error) {
		return opened{}, vmnetd.Errorf(vmnetd.ErrBusy, "making a NIC for VM %s takes too long; it goes again when nobody claims it", req.VM).WithNext("try again")
	})
	return out.att, out.token, err
}

func (a *Agent) openTap(ctx context.Context, req vmnetd.Request) (vmnetd.Attachment, []byte, error) {
	a.forgetEnded(ctx, req.VM)
	if r, ok := a.store.get(key{req.VM, req.ID}); ok && r.decided() {
		return vmnetd.Attachment{}, nil, vmnetd.Errorf(vmnetd.ErrBusy, "%s is there already (%s, %s): its queues cannot be opened a second time", r.FullName(), r.Phase, r.Via).
			WithNext(strings.Join([]string{"vmnetd detach", r.VM, "--id", r.ID}, " ") + ", or take another --id")
	}
	vm := hypervisor.VM{Name: req.VM, Via: req.Via}
	r, err := a.intend(ctx, func() (record, error) {
		d, err := a.granted(ctx, req, vm)
		if err != nil {
			return record{}, err
		}
		return a.fromDecision(d, req, vm), nil
	})
	if err != nil {
		return vmnetd.Attachment{}, nil, err
	}
	if r, _, err = a.device(ctx, r); err == nil {
		err = a.write(r)
	}
	if err != nil {
		return vmnetd.Attachment{}, nil, a.void(ctx, r, err)
	}
	token := make([]byte, 32)
	_, _ = rand.Read(token) // never fails (crypto/rand)
	a.offers.add(token, r.key(), func() { a.lookAgain(r.VM) })
	return a.justChanged(r), token, nil
}

// Claim implements API.
func (a *Agent) Claim(ctx context.Context, token []byte, owner Owner) (*queuefd.Set, func(error) (vmnetd.Attachment, error), error) {
	k, ok := a.offers.take(token)
	if !ok {
		return nil, nil, vmnetd.Errorf(vmnetd.ErrDenied, "that token is not known, used already or older than %s", offerLife).WithNext("ask for the queues again")
	}
	// Whoever gives up waiting would not close what then comes.
	set, err := inTurn(context.WithoutCancel(ctx), a, k.vm, func(ctx context.Context) (*queuefd.Set, error) {
		return a.claim(ctx, k, owner)
	}, nil)
	if err != nil {
		return nil, nil, err
	}
	return set, func(sent error) (vmnetd.Attachment, error) { return a.claimed(ctx, k, owner, sent) }, nil
}

// claim writes the owner down before it gets anything, so that a start after a
// crash knows whom to ask.
func (a *Agent) claim(ctx context.Context, k key, owner Owner) (*queuefd.Set, error) {
	r, ok := a.store.get(k)
	if !ok || r.Phase != vmnetd.Pending {
		return nil, noMore(k)
	}
	dev, err := a.dev(ctx, r)
	if err != nil {
		return nil, a.void(ctx, r, err)
	}
	set, err := a.o.Devices.Open(ctx, dev)
	if err != nil {
		return nil, a.void(ctx, r, err)
	}
	if r.Request.NoVHost {
		err = set.DropVHost("the owner takes queues only")
	}
	r.Owner, r.Handed = &owner, dev.Ifindex
	r.VHost, r.VHostReason = len(set.VHost) > 0, set.VHostReason
	if err == nil {
		err = a.store.put(r)
	}
	if err == nil {
		err = a.o.FP.Hit(failpoint.HandoverOpened)
	}
	if err != nil {
		_ = set.Close()
		return nil, a.void(ctx, r, err)
	}
	return set, nil
}

// claimed ends a claim: the owner has the queues, or never got them.
func (a *Agent) claimed(ctx context.Context, k key, owner Owner, sent error) (vmnetd.Attachment, error) {
	return inTurn(ctx, a, k.vm, func(ctx context.Context) (vmnetd.Attachment, error) {
		r, ok := a.store.get(k)
		if !ok || r.Phase != vmnetd.Pending || r.Owner == nil || *r.Owner != owner { // detached meanwhile
			return vmnetd.Attachment{}, noMore(k)
		}
		a.offers.end(k)
		if sent != nil {
			return vmnetd.Attachment{}, a.void(ctx, r, sent)
		}
		dev, err := a.dev(ctx, r)
		if err == nil {
			r, err = a.finish(ctx, r, dev)
		}
		if err != nil {
			return vmnetd.Attachment{}, a.void(ctx, r, err)
		}
		a.owners.watch(k, owner)
		a.listen(ctx, r)
		return a.justChanged(r), nil
	}, func() (vmnetd.Attachment, error) { return a.underWay(vmnetd.Request{VM: k.vm, ID: k.id}) })
}

func noMore(k key) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is no more", vmnetd.FullName(k.vm, k.id))
}
