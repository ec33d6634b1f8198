package hypervisor

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// monitorCall is a call as go-libvirt writes it.
func monitorCall(proc uint32, uuid [16]byte, command string) []byte {
	be := binary.BigEndian
	str := func(b []byte, s string) []byte {
		b = append(be.AppendUint32(b, uint32(len(s))), s...)
		return append(b, make([]byte, (4-len(s)%4)%4)...)
	}
	body := append(str(nil, "vm1"), uuid[:]...)
	body = be.AppendUint32(body, 1)
	body = be.AppendUint32(str(body, command), 0)
	packet := be.AppendUint32(nil, uint32(rpcHeader+len(body)))
	for _, word := range []uint32{qemuProgram, 1, proc, rpcCall, 42, 0} {
		packet = be.AppendUint32(packet, word)
	}
	return append(packet, body...)
}

// socketPair is both ends of a unix socket.
func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		u, ok := conn.(*net.UnixConn)
		if !ok {
			t.Fatalf("a %T", conn)
		}
		ends[i] = u
	}
	return ends[0], ends[1]
}

func TestDescriptorTravelsWithItsCommandAndNoOther(t *testing.T) {
	ours, theirs := socketPair(t)
	var flight fdFlight
	conn := flight.wrap(ours)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(pipe[0]), "pipe")
	defer r.Close()
	uuid := [16]byte{7}
	drop, err := flight.lend(commandKey(uuid, "getfd a"), pipe[1])
	if err != nil {
		t.Fatal(err)
	}
	defer drop()
	_ = unix.Close(pipe[1]) // the copy that travels is another one
	other := monitorCall(procMonitorFD, [16]byte{8}, "getfd a")
	plain := monitorCall(1, uuid, "getfd a")
	mine := monitorCall(procMonitorFD, uuid, "getfd a")
	stream := bytes.Join([][]byte{other, plain, mine, mine}, nil)
	for len(stream) > 0 { // bufio cuts where it likes
		n := min(7, len(stream))
		if _, err := conn.Write(stream[:n]); err != nil {
			t.Fatal(err)
		}
		stream = stream[n:]
	}
	want := bytes.Join([][]byte{other, plain, withFDs(mine, 1), {0}, mine}, nil)
	got, fds := readWithFDs(t, theirs, len(want))
	if !bytes.Equal(got, want) {
		t.Errorf("sent\n%x\nwant\n%x", got, want)
	}
	if len(fds) != 1 {
		t.Fatalf("%d descriptors travelled, want 1", len(fds))
	}
	if _, err := unix.Write(fds[0], []byte("here")); err != nil {
		t.Error(err)
	}
	_ = unix.Close(fds[0])
	if text, err := io.ReadAll(r); string(text) != "here" || err != nil {
		t.Errorf("through it came %q, %v", text, err)
	}
}

// readWithFDs reads n bytes and what descriptors come with them.
func readWithFDs(t *testing.T, c *net.UnixConn, n int) (all []byte, fds []int) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(longEnough))
	for len(all) < n {
		buf, oob := make([]byte, n-len(all)), make([]byte, 256)
		size, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
		if err != nil || size == 0 {
			t.Fatalf("after %d bytes: %v", len(all), err)
		}
		all = append(all, buf[:size]...)
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			got, err := unix.ParseUnixRights(&m)
			if err != nil {
				t.Fatal(err)
			}
			fds = append(fds, got...)
		}
	}
	return all, fds
}

func TestDescriptorThatNoCommandTookIsClosed(t *testing.T) {
	ours, theirs := socketPair(t)
	var flight fdFlight
	conn := flight.wrap(ours)
	before := len(testkit.OpenFDs())
	key := commandKey([16]byte{}, "getfd a")
	drop, err := flight.lend(key, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flight.lend(key, 0); err == nil {
		t.Error("two descriptors wait for one command")
	}
	drop()
	drop()
	if after := len(testkit.OpenFDs()); after != before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
	late := monitorCall(procMonitorFD, [16]byte{}, "getfd a")
	if _, err := conn.Write(late); err != nil {
		t.Fatal(err)
	}
	if got, fds := readWithFDs(t, theirs, len(late)); !bytes.Equal(got, late) || len(fds) != 0 {
		t.Errorf("a call that was given up leaves as %x with %d descriptors", got, len(fds))
	}
}

func TestGarbageEndsTheConnectionToLibvirtd(t *testing.T) {
	for _, garbage := range [][]byte{{0, 0, 0, 3}, {255, 255, 255, 255}, bytes.Repeat([]byte{0}, 40)} {
		ours, theirs := socketPair(t)
		conn := new(fdFlight).wrap(ours)
		if _, err := conn.Write(garbage); err == nil {
			t.Errorf("%x was sent", garbage)
		}
		_ = theirs.SetReadDeadline(time.Now().Add(longEnough))
		if n, err := theirs.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after %x: %d bytes, %v", garbage, n, err)
		}
	}
}

func FuzzKeyOfPacket(f *testing.F) {
	f.Add(monitorCall(procMonitorFD, [16]byte{7}, `{"execute":"getfd"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < rpcHeader {
			return
		}
		if key := keyOf(b); len(key) > len(b) {
			t.Errorf("a key of %d bytes out of %d", len(key), len(b))
		}
	})
}
