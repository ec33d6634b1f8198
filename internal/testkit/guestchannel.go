package testkit

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// maxScript keeps a script, encoded, within one line that the guest's shell
// reads at once.
const maxScript = 4000

// defaultRunLimit is how long a command may run whose ctx has no deadline.
const defaultRunLimit = time.Minute

// guestChannel is the virtio-serial port to the command loop in guest-init.sh.
type guestChannel struct {
	mu      sync.Mutex // one command at a time
	to      io.Writer
	lastID  int
	ready   chan struct{}
	once    sync.Once // closes ready: a guest that is booted again says so again
	replies chan guestReply
	ended   <-chan struct{} // QEMU is gone
}

type guestReply struct {
	id     int
	code   int
	output string
}

var errGuestEnded = errors.New("QEMU has ended")

func newGuestChannel(to io.Writer, ended <-chan struct{}) *guestChannel {
	return &guestChannel{to: to, ended: ended, ready: make(chan struct{}), replies: make(chan guestReply, 1)}
}

// read delivers replies until the line ends. Reading apart from run means that
// a caller who gives up in the middle of a reply does not disturb the next.
func (c *guestChannel) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var r guestReply
		var length int
		if strings.TrimSpace(line) == "vmnetd-guest ready" {
			c.isReady()
			continue
		}
		if n, _ := fmt.Sscanf(line, "vmnetd-guest %d %d %d", &r.id, &r.code, &length); n != 3 {
			continue // QEMU's own words
		}
		output := make([]byte, length)
		if _, err := io.ReadFull(in, output); err != nil {
			return
		}
		r.output = string(output)
		c.deliver(r)
	}
}

func (c *guestChannel) isReady() { c.once.Do(func() { close(c.ready) }) }

// deliver replaces a reply that nobody waited for.
func (c *guestChannel) deliver(r guestReply) {
	select {
	case <-c.replies:
	default:
	}
	c.replies <- r
}

func (c *guestChannel) waitReady(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-c.ended:
		return errGuestEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *guestChannel) run(ctx context.Context, script string) (output string, code int, err error) {
	if err := c.waitReady(ctx); err != nil {
		return "", 0, err
	}
	select {
	case <-c.ended:
		return "", 0, errGuestEnded
	default:
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(script))
	if len(encoded) > maxScript {
		return "", 0, fmt.Errorf("a script of %d bytes is too long for one line to the guest", len(script))
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultRunLimit)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	seconds := 1 + int(time.Until(deadline).Seconds())

	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	if _, err := fmt.Fprintf(c.to, "%d %d %s\n", c.lastID, seconds, encoded); err != nil {
		return "", 0, err
	}
	for {
		select {
		case r := <-c.replies:
			if r.id == c.lastID {
				return r.output, r.code, nil
			}
		case <-c.ended:
			return "", 0, errGuestEnded
		case <-ctx.Done():
			return "", 0, fmt.Errorf("no answer to %q: %w", firstLine(script), ctx.Err())
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
