package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

func TestPlaceholderBecomesFourWords(t *testing.T) {
	one := nic("vm1", "net0")
	for _, c := range []struct {
		name       string
		fds        queuefd.Set
		bus, addr  string
		netdev, to string
	}{
		{"one queue", queuefd.Set{Queues: []int{3}}, "", "", "tap,id=vmn-net0,fds=3", "virtio-net-pci,netdev=vmn-net0,id=vmn-net0,mac=52:54:00:00:00:01"},
		{
			"four queues and vhost", queuefd.Set{Queues: []int{3, 4, 5, 6}, VHost: []int{7, 8, 9, 10}}, "rp1", "0x2",
			"tap,id=vmn-net0,fds=3:4:5:6,vhost=on,vhostforce=on,vhostfds=7:8:9:10",
			"virtio-net-pci,netdev=vmn-net0,id=vmn-net0,mac=52:54:00:00:00:01,mq=on,vectors=10,bus=rp1,addr=0x2",
		},
	} {
		argv := []string{"qemu", "-S", placeholder, "-nographic"}
		want := []string{"qemu", "-S", "-netdev", c.netdev, "-device", c.to, "-nographic"}
		if diff := cmp.Diff(want, substitute(argv, netdevWords(one, &c.fds, c.bus, c.addr))); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

func TestExecWithoutItsPlaceholderIsAUsageErrorThatNamesIt(t *testing.T) {
	f := &fake{}
	for _, argv := range [][]string{{"qemu"}, {"qemu", "-netdev={netdev}"}, {"qemu", "{netdev}", "{netdev}"}} {
		got := do(t, f, append([]string{"exec", "vm1", "--"}, argv...)...)
		if got.code != 2 || !strings.Contains(got.err, placeholder) {
			t.Errorf("%q: %+v", argv, got)
		}
	}
	if f.calls != nil {
		t.Errorf("the daemon was asked: %v", f.calls)
	}
}

func TestExecThatFailsBeforeQEMUExits125(t *testing.T) {
	ok := func() *fake { return &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}, fds: &queuefd.Set{}} }
	denied := &fake{err: vmnetd.Errorf(vmnetd.ErrDenied, "denied")}
	for _, c := range []struct {
		name, prog string
		f          *fake
	}{{"no daemon", "true", nil}, {"denied", "true", denied}, {"no such program", "no-such-qemu", ok()}, {"exec fails", "true", ok()}} {
		got := do(t, c.f, "exec", "vm1", "--json", "--", c.prog, placeholder)
		if got.code != 125 || !json.Valid([]byte(got.err)) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestExecGivesQEMUTheQueuesAndClosesThemOtherwise(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}, fds: &queuefd.Set{Queues: []int{pipe[0]}}}
	var out, err bytes.Buffer
	a := testApp(f, &out, &err)
	var argv []string
	a.exec = func(_ string, words, _ []string) error {
		argv = words
		if flags, err := unix.FcntlInt(uintptr(pipe[0]), unix.F_GETFD, 0); err != nil || flags != 0 {
			t.Errorf("fd flags %d %v, want it open through exec", flags, err)
		}
		return errors.New("no")
	}
	code := a.run(t.Context(), []string{"exec", "vm1", "--id", "net0", "--", "true", "-x", placeholder})
	if want := fmt.Sprintf("tap,id=vmn-net0,fds=%d", pipe[0]); code != 125 || len(argv) != 6 || argv[3] != want {
		t.Errorf("exit %d, %q, want %q; %s", code, argv, want, err.String())
	}
	if want := fmt.Sprintf("OpenTap owner=%d", os.Getpid()); len(f.calls) != 1 || f.calls[0] != want {
		t.Errorf("calls %q, want %q", f.calls, want)
	}
	if _, err := unix.FcntlInt(uintptr(pipe[0]), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the queue is still open: %v", err)
	}
}

// helperSocket is the pair that QEMU makes, and what came through it.
func helperSocket(t *testing.T) (mine, qemu int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	return pair[0], pair[1]
}

func devNull(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestTapHelperSendsOneQueueAsQEMUWantsIt(t *testing.T) {
	mine, qemu := helperSocket(t)
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}, fds: &queuefd.Set{Queues: []int{devNull(t)}}}
	got := do(t, f, "tap-helper", "vm1", "--use-vnet", fmt.Sprintf("--fd=%d", mine), "--br=br0")
	if got != (result{}) {
		t.Fatalf("%+v", got)
	}
	buf, oob := make([]byte, 16), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := unix.Recvmsg(qemu, buf, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil || n != 1 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		t.Fatalf("%v %v", msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%v %v", fds, err)
	}
	unix.Close(fds[0])
	if f.req.Queues != 1 || f.req.Network != "" {
		t.Errorf("asked for %+v", f.req)
	}
	if want := fmt.Sprintf("OpenTap owner=%d", os.Getpid()); f.calls[0] != want { // the test made the pair
		t.Errorf("%q, want %q", f.calls[0], want)
	}
}

func TestTapHelperTakesTheNetworkFromBrUnlessItIsQEMUsDefault(t *testing.T) {
	for args, want := range map[string]string{"--br=br0": "", "--br=lan": "lan", "dmz --br=lan": "dmz"} {
		mine, _ := helperSocket(t)
		f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}, fds: &queuefd.Set{Queues: []int{devNull(t)}}}
		line := append([]string{"tap-helper", "vm1"}, strings.Fields(args)...)
		got := do(t, f, append(line, "--use-vnet", fmt.Sprintf("--fd=%d", mine))...)
		if got.code != 0 || f.req.Network != want {
			t.Errorf("%q: network %q, want %q; %+v", args, f.req.Network, want, got)
		}
	}
}

func TestTapHelperTakesTheNICBackWhenQEMUDoesNotListen(t *testing.T) {
	mine, qemu := helperSocket(t)
	if err := unix.Shutdown(qemu, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}, fds: &queuefd.Set{Queues: []int{devNull(t)}}}
	got := do(t, f, "tap-helper", "vm1", "--use-vnet", fmt.Sprintf("--fd=%d", mine))
	if got.code != 1 || len(f.calls) != 2 || f.calls[1] != "Detach vm1 {ID:net0 MAC: All:false Live:false Config:false}" {
		t.Errorf("%+v, calls %q", got, f.calls)
	}
}

func TestTapHelperByHandIsAUsageError(t *testing.T) {
	for _, args := range [][]string{{}, {"--use-vnet", "--fd=-1"}, {"--use-vnet", "--fd=99999"}} {
		f := &fake{}
		got := do(t, f, append([]string{"tap-helper", "vm1"}, args...)...)
		if got.code != 2 || f.calls != nil {
			t.Errorf("%q: %+v", args, got)
		}
	}
}
