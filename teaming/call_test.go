package teaming

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// fakeTeamd answers at a socket of its own, each request by what answer makes of
// its lines; without an answer the connection ends.
func fakeTeamd(t *testing.T, answer func(lines []string) string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			n, _ := conn.Read(buf)
			if text := answer(strings.Split(string(buf[:n]), "\n")); text != "" {
				_, _ = conn.Write([]byte(text))
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return path
}

func TestAnArgumentIsOneLineWhateverIsInIt(t *testing.T) {
	var asked []string
	path := fakeTeamd(t, func(lines []string) string {
		asked = lines
		return "REPLY_SUCCESS\nfine\nso"
	})
	text, err := ask(t.Context(), path, "PortConfigUpdate", []string{"eno1", "{\n\"a\": \"\\u0041\"}"})
	if err != nil || text != "fine\nso" {
		t.Errorf("%q, %v", text, err)
	}
	if want := []string{"REQUEST", "PortConfigUpdate", "eno1", `{\n"a": "\\u0041"}`, ""}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestWhatTeamdRefusesHasItsClass(t *testing.T) {
	for name, class := range map[string]error{
		"NoSuchDev": vmnetd.ErrNotFound, "PathDoesNotExist": vmnetd.ErrNotFound, "ConfigDumpFail": vmnetd.ErrNotFound, "ConfigUpdateFail": vmnetd.ErrInvalid, "InvalidArgs": vmnetd.ErrInvalid,
		"OpNotSupp": vmnetd.ErrUnsupported, "PortAddFail": vmnetd.ErrFailed,
	} {
		path := fakeTeamd(t, func([]string) string { return "REPLY_ERROR\n" + name + "\nIt is so.\n" })
		_, err := ask(t.Context(), path, "PortAdd", []string{"eno1"})
		if err = inWords(err); vmnetd.ClassOf(err).Err != class || !strings.Contains(err.Error(), "teamd: It is so") {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := fakeTeamd(t, func([]string) string { return "HELLO\n" })
	if _, err := ask(t.Context(), path, "StateDump", nil); err == nil || !strings.Contains(err.Error(), `"HELLO"`) {
		t.Errorf("another program's answer: %v", err)
	}
}

func TestNobodyBehindASocketIsGone(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: stale, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	for what, path := range map[string]string{
		"no socket": filepath.Join(dir, "none"), "one that was left": stale,
		"one that ends while it is asked": fakeTeamd(t, func([]string) string { return "" }),
	} {
		if _, err := ask(t.Context(), path, "StateDump", nil); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOneWhoDoesNotAnswerIsWaitedForAsLongAsItIsWanted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ask(ctx, path, "StateDump", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody wants it any more: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, path, "StateDump", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: %v", err)
	}
	// Its queue is full now, or is after those that wait.
	conn, err := net.Dial("unixpacket", path)
	if err == nil {
		defer conn.Close()
	}
	ctx, cancel = context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	if _, err := ask(ctx, path, "StateDump", nil); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("a full queue: %v, waited for: %v", err, ctx.Err() != nil)
	}
}

// TestSignalsDoNotEndAQuestion: the runtime sends itself SIGURG whenever a
// goroutine runs for long (runtime/preempt.go).
func TestSignalsDoNotEndAQuestion(t *testing.T) {
	path := fakeTeamd(t, func([]string) string {
		threads, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			return ""
		}
		for range 50 {
			for _, thread := range threads {
				tid := 0
				for _, digit := range filepath.Base(thread) {
					tid = 10*tid + int(digit-'0')
				}
				_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
			}
		}
		return "REPLY_SUCCESS\n"
	})
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	for range 20 {
		if _, err := ask(ctx, path, "StateDump", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// busThat is a Caller whose bus answers with one error.
type busThat struct{ err error }

func (b busThat) Call(context.Context, string, string, string, ...any) ([]any, error) {
	return nil, b.err
}

func TestABusThatHangsIsASilentTeamd(t *testing.T) {
	teams := New(Options{Bus: busThat{context.DeadlineExceeded}})
	if _, err := teams.State(t.Context(), "nobody0"); !errors.Is(err, ErrSilent) {
		t.Errorf("got %v", err)
	}
	teams = New(Options{Bus: busThat{vmnetd.Errorf(vmnetd.ErrUnreachable, "no bus")}})
	if _, err := teams.State(t.Context(), "nobody0"); !errors.Is(err, ErrGone) {
		t.Errorf("without a bus it is asked by its socket: %v", err)
	}
}
