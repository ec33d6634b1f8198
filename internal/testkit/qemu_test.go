package testkit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStartQEMUAnswersAndIsGoneAfterKill(t *testing.T) {
	for _, machine := range []string{"q35", "pc"} {
		q := StartQEMU(t, QEMUOptions{Machine: machine, SMP: 2, UUID: "a8098c1a-f86e-11da-bd1a-00112444be1e"})
		var name struct{ Name string }
		if err := json.Unmarshal(q.QMP("query-name", nil), &name); err != nil || name.Name != q.Name {
			t.Errorf("%s: query-name = %q, %v, want %q", machine, name.Name, err, q.Name)
		}
		if _, err := q.TryQMP("no-such-command", nil); err == nil || !strings.Contains(err.Error(), "CommandNotFound") {
			t.Errorf("%s: no-such-command = %v", machine, err)
		}
		q.Kill()
		q.Kill()
		if err := q.Wait(); err == nil {
			t.Errorf("%s: a killed QEMU ended well", machine)
		}
		if _, err := os.Stat(q.Socket); err != nil {
			t.Errorf("%s: the socket of a killed QEMU: %v", machine, err)
		}
	}
}

func TestStartQEMUTakesPathsTooLongForASocketAddress(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 90))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	q := StartQEMU(t, QEMUOptions{QMPDir: dir})
	if st, err := os.Stat(q.Socket); err != nil || st.Mode().Type() != os.ModeSocket {
		t.Errorf("%s is no socket: %v, %v", q.Socket, st, err)
	}
}

func TestStoppedQEMUAnswersNothingUntilCont(t *testing.T) {
	q := StartQEMU(t, QEMUOptions{})
	q.Stop()
	if out, err := q.qmp("query-status", nil, 200*time.Millisecond); err == nil {
		t.Errorf("a stopped QEMU answered %s", out)
	}
	q.Cont()
	q.QMP("query-status", nil)
}
