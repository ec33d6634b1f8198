package hypervisor

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseArgsReadsWhatOthersWrite(t *testing.T) {
	for name, c := range map[string]struct {
		argv string
		want Args
	}{
		"by hand": {
			"qemu-system-x86_64 -m 64 -name vm1 -qmp unix:/run/vm1.sock,server,nowait",
			Args{Name: "vm1", Sockets: []string{"/run/vm1.sock"}},
		},
		"libvirt": {
			"/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S -uuid a8098c1a-f86e-11da-bd1a-00112444be1e -chardev socket,id=charmonitor,fd=32,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control",
			Args{Name: "web", UUID: "a8098c1a-f86e-11da-bd1a-00112444be1e"},
		},
		"Proxmox": {
			"/usr/bin/kvm -id 101 -name web,debug-threads=on -no-shutdown -chardev socket,id=qmp,path=/var/run/qemu-server/101.qmp,server=on,wait=off -mon chardev=qmp,mode=control -chardev socket,id=qmp-event,path=/var/run/qmeventd.sock,reconnect=5 -mon chardev=qmp-event,mode=control",
			Args{Name: "web", ID: "101", Sockets: []string{"/var/run/qemu-server/101.qmp", "/var/run/qmeventd.sock"}},
		},
		"two dashes, commas": {
			"qemu --name a,,b,process=x --qmp unix:/run/a,,b.sock,server=on",
			Args{Name: "a,b", Sockets: []string{"/run/a,b.sock"}},
		},
		"a human monitor is no QMP": {
			"qemu -monitor unix:/run/h,server -chardev socket,id=m,path=/run/m -mon m,mode=readline",
			Args{},
		},
		"the first field of -mon": {"qemu -mon m,mode=control -chardev socket,path=/run/m,id=m", Args{Sockets: []string{"/run/m"}}},
		"-qmp of a chardev":       {"qemu -chardev socket,path=/run/m,id=m -qmp chardev:m", Args{Sockets: []string{"/run/m"}}},
		"a value like an option":  {"qemu -name -name x", Args{Name: "-name"}},
		"cut off":                 {"qemu -name", Args{}},
		"nothing":                 {"", Args{}},
	} {
		if got := ParseArgs(strings.Fields(c.argv)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// FuzzParseArgs: no command line panics, and what is found was written there.
func FuzzParseArgs(f *testing.F) {
	f.Add("qemu\x00-name\x00guest=a,,b\x00-qmp\x00unix:/x,,y,server=on\x00-uuid\x00u")
	f.Add("kvm\x00-chardev\x00socket,id=a,path=/p\x00-mon\x00chardev=a,mode=control")
	f.Add("-\x00--\x00-qmp\x00unix:\x00,")
	f.Fuzz(func(t *testing.T, cmdline string) {
		a := ParseArgs(strings.Split(cmdline, "\x00"))
		single := strings.ReplaceAll(cmdline, ",,", ",")
		for _, s := range append(a.Sockets, a.Name, a.ID, a.UUID) {
			if !strings.Contains(single, s) && !strings.Contains(cmdline, s) {
				// commas may be doubled in more than one way: ",,," is ",," or ", ,"
				if !strings.Contains(strings.ReplaceAll(cmdline, ",", ""), strings.ReplaceAll(s, ",", "")) {
					t.Fatalf("%q is not in %q", s, cmdline)
				}
			}
		}
		for _, s := range a.Sockets {
			if s == "" {
				t.Fatal("an empty socket path")
			}
		}
	})
}
