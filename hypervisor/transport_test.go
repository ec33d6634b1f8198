package hypervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}` + "\n"

// fake is a QMP server for what a real QEMU does only when nobody looks: answer
// is called for each command but qmp_capabilities and returns what is sent back.
func fake(t *testing.T, answer func(id json.RawMessage, command string, args json.RawMessage) string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnfake")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "fake.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serveFake(conn, answer)
		}
	})
	t.Cleanup(func() {
		ln.Close()
		served.Wait()
		os.RemoveAll(dir)
	})
	return socket
}

func serveFake(conn net.Conn, answer func(json.RawMessage, string, json.RawMessage) string) {
	defer conn.Close()
	out := bufio.NewWriter(conn)
	send := func(s string) bool {
		_, _ = out.WriteString(s)
		return out.Flush() == nil
	}
	if !send(greeting) {
		return
	}
	dec := json.NewDecoder(conn)
	for {
		var c struct {
			Execute   string
			ID        json.RawMessage
			Arguments json.RawMessage
		}
		if dec.Decode(&c) != nil {
			return
		}
		text := fmt.Sprintf(`{"return": {}, "id": %s}`, c.ID)
		if c.Execute != "qmp_capabilities" {
			text = answer(c.ID, c.Execute, c.Arguments)
		}
		if !send(text + "\n") {
			return
		}
	}
}

func open(t *testing.T, socket string, limits Limits) *Conn {
	t.Helper()
	c := NewConn(socket, limits)
	if err := c.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect() })
	return c
}

func TestReplyOfAnySizeArrivesWhole(t *testing.T) {
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	c := open(t, guest.Socket, Limits{})
	var schema []struct{ Name string }
	var raw json.RawMessage
	if err := c.Do(t.Context(), "query-qmp-schema", nil, &raw); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &schema); err != nil || len(schema) < 100 || len(raw) <= 64<<10 {
		t.Errorf("schema has %d entries in %d bytes (%v), want over 64 KiB", len(schema), len(raw), err)
	}
	if c.Version.QEMU.Major < 4 {
		t.Errorf("version = %v", c.Version)
	}
}

func TestErrorReplyKeepsItsClass(t *testing.T) {
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	c := open(t, guest.Socket, Limits{})
	for command, class := range map[string]string{"no-such": commandNotFound, "device_del": deviceNotFound, "closefd": "GenericError"} {
		err := c.Do(t.Context(), command, map[string]map[string]string{
			"no-such": {}, "device_del": {"id": "nope"}, "closefd": {"fdname": "nope"},
		}[command], nil)
		var e *Error
		if !errors.As(err, &e) || e.Class != class || e.Desc == "" {
			t.Errorf("%s = %v, want class %s", command, err, class)
		}
	}
	if _, err := c.Run([]byte(`{"execute": "no-such"}`)); !isClass(err, commandNotFound) {
		t.Errorf("Run = %v", err)
	}
}

func TestConnIsAMonitorOfGoQEMU(t *testing.T) {
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	var m qmp.Monitor = NewConn(guest.Socket, Limits{})
	if _, err := m.Run([]byte(`{"execute": "query-status"}`)); err == nil {
		t.Error("Run before Connect worked")
	}
	if err := m.Connect(); err != nil {
		t.Fatal(err)
	}
	out, err := m.Run([]byte(`{"execute": "query-name", "id": 17}`))
	var reply struct {
		Return struct{ Name string }
		ID     int
	}
	if err != nil || json.Unmarshal(out, &reply) != nil || reply.Return.Name != guest.Name || reply.ID != 17 {
		t.Errorf("Run = %s, %v", out, err)
	}
	events, err := m.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run([]byte(`{"execute": "cont"}`)); err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-events:
		if ev.Event != "RESUME" || ev.Timestamp.Seconds == 0 {
			t.Errorf("event = %+v", ev)
		}
	case <-time.After(longEnough):
		t.Error("no event")
	}
	for range 2 {
		if err := m.Disconnect(); err != nil {
			t.Errorf("Disconnect = %v", err)
		}
	}
	if _, open := <-events; open {
		t.Error("the events go on after Disconnect")
	}
	if _, err := m.Run([]byte(`{"execute": "query-status"}`)); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Disconnect = %v", err)
	}
}

func TestManyCallersEachGetTheirOwnReply(t *testing.T) {
	held := make(chan string, 1) // replies overtake each other: each comes after the next one's
	c := open(t, fake(t, func(id json.RawMessage, _ string, args json.RawMessage) string {
		mine := fmt.Sprintf(`{"return": %s, "id": %s}`, args, id)
		select {
		case before := <-held:
			return mine + before
		default:
			held <- mine
			return ""
		}
	}), Limits{})
	var callers sync.WaitGroup
	for i := range 100 {
		callers.Go(func() {
			var got struct{ N int }
			if err := c.Do(t.Context(), "echo", map[string]int{"n": i}, &got); err != nil || got.N != i {
				t.Errorf("caller %d got %d, %v", i, got.N, err)
			}
		})
	}
	callers.Wait()
}

const burst = 5000

func burstThenReply(id json.RawMessage, _ string, _ json.RawMessage) string {
	var b strings.Builder
	for i := range burst {
		fmt.Fprintf(&b, `{"event": "E", "data": {"n": %d}, "timestamp": {"seconds": 1, "microseconds": 2}}`+"\n", i)
	}
	fmt.Fprintf(&b, `{"return": {}, "id": %s}`, id)
	return b.String()
}

func TestEventsAreNeverLostAndKeepTheirOrder(t *testing.T) {
	c := open(t, fake(t, burstThenReply), Limits{Command: longEnough})
	if err := c.Do(t.Context(), "go", nil, nil); err != nil { // nobody reads events yet: the reply comes all the same
		t.Fatal(err)
	}
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range burst {
		ev := <-events
		if n, _ := ev.Data["n"].(float64); int(n) != i {
			t.Fatalf("event %d is %+v", i, ev)
		}
	}
}

func TestEventsThatNobodyReadsHangNothing(t *testing.T) {
	c := open(t, fake(t, burstThenReply), Limits{Command: longEnough})
	if _, err := c.Events(context.Background()); err != nil {
		t.Fatal(err)
	}
	within(t, longEnough, "two commands and Disconnect", func() {
		for range 2 {
			if err := c.Do(t.Context(), "go", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Disconnect(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEventsBeforeTheEndAreStillDelivered(t *testing.T) {
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	c := open(t, guest.Socket, Limits{})
	if err := c.Do(t.Context(), "quit", nil, nil); err != nil {
		t.Fatal(err)
	}
	<-guest.Gone()
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for ev := range events {
		names = append(names, ev.Event)
	}
	if len(names) == 0 || names[len(names)-1] != "SHUTDOWN" {
		t.Errorf("events = %v, want SHUTDOWN as the last", names)
	}
}

func TestMessageWithoutEndDoesNotEatTheMemory(t *testing.T) {
	endless := func(id json.RawMessage, _ string, _ json.RawMessage) string {
		return fmt.Sprintf(`{"id": %s, "return": %q}`, id, strings.Repeat("x", 2<<20))
	}
	c := open(t, fake(t, endless), Limits{Message: 1 << 18, Command: longEnough})
	if err := c.Do(t.Context(), "go", nil, nil); !errors.Is(err, errTooLong) {
		t.Errorf("Do = %.100v, want errTooLong", err)
	}
	c = open(t, fake(t, burstThenReply), Limits{Message: 1 << 18, Command: longEnough})
	if err := c.Do(t.Context(), "go", nil, nil); !errors.Is(err, errTooLong) {
		t.Errorf("Do with too many events = %.100v, want errTooLong", err)
	}
}

func TestWhatIsNoQMPIsAnError(t *testing.T) {
	for _, text := range []string{`[]`, `{}`, `{"id": "1"}`, `nonsense`, `{"return": 1, "id": "2"`, `"x"`} {
		c := open(t, fake(t, func(json.RawMessage, string, json.RawMessage) string { return text + "\x00" }), Limits{Command: 5 * time.Second})
		if err := c.Do(t.Context(), "go", nil, nil); err == nil {
			t.Errorf("%s was taken for a reply", text)
		}
	}
}

func TestServerThatIsNoQEMUIsRefused(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for _, text := range []string{"HTTP/1.0 200\r\n", `{"return": {}}`, ""} {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text)
			conn.Close()
		}
	}()
	for range 3 {
		c := NewConn(socket, Limits{})
		if err := c.Connect(); err == nil {
			t.Error("connected to something that is no QEMU")
		}
		_ = c.Disconnect()
	}
}

func TestFrozenQEMUFailsTheCommandWithinItsLimit(t *testing.T) {
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	c := open(t, guest.Socket, Limits{})
	c.limits.Command = 200 * time.Millisecond
	guest.Stop()
	within(t, longEnough, "the command and the one after it", func() {
		for range 2 {
			if err := c.Do(t.Context(), "query-status", nil, nil); !errors.Is(err, errNoReply) {
				t.Errorf("Do = %v, want errNoReply", err)
			}
		}
	})
	late := NewConn(guest.Socket, Limits{Greeting: 200 * time.Millisecond})
	if err := late.Connect(); !errors.Is(err, errNoGreeting) {
		t.Errorf("Connect = %v, want errNoGreeting", err)
	}
	_ = late.Disconnect()
}

func TestContextEndsACommandAndSparesTheConnection(t *testing.T) {
	release := make(chan struct{})
	first := true
	c := open(t, fake(t, func(id json.RawMessage, _ string, _ json.RawMessage) string {
		if first {
			first = false
			<-release
		}
		return fmt.Sprintf(`{"return": {}, "id": %s}`, id)
	}), Limits{Command: longEnough})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Do(ctx, "slow", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Do = %v, want the context's error", err)
	}
	close(release)
	if err := c.Do(t.Context(), "next", nil, nil); err != nil {
		t.Errorf("the next command: %v", err)
	}
}

func TestSeventeenDescriptorsArrive(t *testing.T) {
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	c := open(t, guest.Socket, Limits{})
	set, err := tap(t, 17)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	var senders sync.WaitGroup
	for i, fd := range set.Queues {
		senders.Go(func() {
			if err := c.SendFD(t.Context(), fmt.Sprintf("fd%d", i), fd); err != nil {
				t.Errorf("fd %d: %v", i, err)
			}
		})
	}
	senders.Wait()
	if n := tapsOf(guest.PID); n != 17 {
		t.Errorf("QEMU holds %d descriptors, want 17", n)
	}
	for i := range set.Queues {
		if err := c.Do(t.Context(), "closefd", map[string]string{"fdname": fmt.Sprintf("fd%d", i)}, nil); err != nil {
			t.Errorf("closefd %d: %v", i, err)
		}
	}
	if n := tapsOf(guest.PID); n != 0 {
		t.Errorf("QEMU holds %d descriptors, want none", n)
	}
}

// FuzzMessage: whatever QEMU sends is a message or an error, and what is taken
// for a message is one of the three kinds.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		greeting, `{"return": {}, "id": "1"}`, `{"error": {"class": "GenericError", "desc": "no"}, "id": "2"}`,
		`{"event": "DEVICE_DELETED", "data": {"device": "vmn-net0", "path": "/machine"}, "timestamp": {"seconds": 1, "microseconds": -1}}`,
		`{"event": 1}`, `{"return": null}`, `{"timestamp": {"seconds": 1e99}, "event": "X"}`, `[[[[`, `{"id": {"a": [1]}, "return": []}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := newDecoder(strings.NewReader(string(raw)), 1<<20)
		for range 100 {
			m, err := d.next()
			if err != nil {
				return
			}
			if m.event == nil && m.Greeting == nil && m.Return == nil && m.Error == nil {
				t.Fatalf("%q is a message of no kind", raw)
			}
			if m.event != nil && m.event.Event == "" {
				t.Fatalf("%q is an event without a name", raw)
			}
		}
	})
}
