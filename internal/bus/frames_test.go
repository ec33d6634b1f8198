package bus

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/godbus/dbus/v5"
)

type pipe struct {
	net.Conn
	r io.Reader
}

func (p pipe) Read(b []byte) (int, error) { return p.r.Read(b) }

// read is what godbus would see of input.
func read(input []byte) (out []byte, dropped int, err error) {
	f := &frames{Conn: pipe{r: bytes.NewReader(input)}, begun: true, dropped: func(error) { dropped++ }}
	out, err = io.ReadAll(f)
	return out, dropped, err
}

func encode(t testing.TB, order binary.ByteOrder, body ...any) []byte {
	t.Helper()
	m := dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:   dbus.MakeVariant(dbus.ObjectPath("/a")),
		dbus.FieldMember: dbus.MakeVariant("B"),
	}}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, order); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOnlyTheMessageThatCannotBeDecodedIsDropped(t *testing.T) {
	one := encode(t, binary.LittleEndian, "one", map[string]dbus.Variant{"x": dbus.MakeVariant(1)})
	bad := bytes.ReplaceAll(encode(t, binary.LittleEndian, map[byte]string{0: "x"}), []byte("a{ys}"), []byte("a{gs}"))
	two := encode(t, binary.BigEndian, uint64(2))
	three := encode(t, binary.LittleEndian)
	got, dropped, err := read(bytes.Join([][]byte{one, bad, two, bad, three}, nil))
	if want := bytes.Join([][]byte{one, two, three}, nil); !bytes.Equal(got, want) || dropped != 2 || err != nil {
		t.Errorf("%d of %d bytes, %d dropped, %v", len(got), len(want), dropped, err)
	}
}

func TestAMessageTooLongEndsTheConnection(t *testing.T) {
	head := encode(t, binary.LittleEndian)[:16]
	binary.LittleEndian.PutUint32(head[4:], 1<<31)
	if _, _, err := read(head); err == nil {
		t.Error("2 GiB are fine")
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(encode(f, binary.LittleEndian, "one", map[string]dbus.Variant{"x": dbus.MakeVariant(1)}))
	f.Add(encode(f, binary.BigEndian, []dbus.UnixFDIndex{1}, []byte("x")))
	f.Add(bytes.ReplaceAll(encode(f, binary.LittleEndian, map[byte]string{0: "x"}), []byte("a{ys}"), []byte("a{gs}")))
	f.Fuzz(func(t *testing.T, input []byte) {
		out, _, _ := read(input)
		for r := bytes.NewReader(out); r.Len() > 0; {
			if _, err := dbus.DecodeMessage(r); err != nil {
				t.Fatalf("passed on, but: %v", err)
			}
		}
	})
}
