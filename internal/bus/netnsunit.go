package bus

import (
	"context"
	"math"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// NetnsUnit is a transient service in a network namespace (systemd.exec(5)).
type NetnsUnit struct {
	Name        string
	Description string
	Argv        []string
	Netns       string // path of the namespace; "": a new one, which lives as long as the service
	Writable    string // the folder that it may write to
}

// netnsUnitLimit is how long it may take until it says that it is ready.
const netnsUnitLimit = 20 * time.Second

// netnsCapabilities is what it may do: NET_ADMIN and NET_RAW in its namespace; BPF
// and PERFMON to load a program that reads packets (kernel/bpf/verifier.c).
const netnsCapabilities = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON

// StartInNetns runs a program as a transient service in a network namespace, and
// returns once it says that it is ready (sd_notify(3)). As with StartService it
// outlives us and whatever target the host is brought to, and only SIGKILL ends it.
func (s Systemd) StartInNetns(ctx context.Context, u NetnsUnit) error {
	inside := property("PrivateNetwork", true)
	if u.Netns != "" {
		inside = property("NetworkNamespacePath", u.Netns)
	}
	properties := append(lasting(u.Description),
		dbus.PropType("notify"),
		dbus.PropExecStart(u.Argv, true),
		property("NotifyAccess", "main"),
		property("TimeoutStartUSec", uint64(netnsUnitLimit.Microseconds())),
		inside,
		property("OOMScoreAdjust", int32(-900)), // guests' NICs end with it
		property("LimitMEMLOCK", uint64(math.MaxUint64)),                  // programs for the kernel count, before Linux 5.11
		property("ReadWritePaths", []string{u.Writable, "/proc/sys/net"}), // files there set IPv6 up
	)
	return s.start(ctx, u.Name, append(properties, netnsSandbox()...))
}

// netnsSandbox is what keeps a unit to its work. It may be there for months, and
// then becomes the program of later versions: so it is no narrower than that.
func netnsSandbox() []dbus.Property {
	return []dbus.Property{
		property("CapabilityBoundingSet", uint64(netnsCapabilities)),
		property("NoNewPrivileges", true),
		property("PrivateMounts", true),
		property("PrivateDevices", true),
		property("ProtectSystem", "strict"),
		property("ProtectHome", "read-only"), // the program may be there
		property("ProtectProc", "invisible"),
		property("ProtectKernelTunables", true),
		property("ProtectKernelModules", true),
		property("ProtectKernelLogs", true),
		property("ProtectControlGroups", true),
		property("ProtectClock", true),
		property("ProtectHostname", true),
		property("RestrictAddressFamilies", only("AF_UNIX", "AF_NETLINK", "AF_PACKET")),
		property("RestrictNamespaces", uint64(0)), // of all kinds none
		property("RestrictRealtime", true),
		property("LockPersonality", true),
		property("MemoryDenyWriteExecute", true),
		property("KeyringMode", "private"),
		property("UMask", uint32(0o077)),
		property("SystemCallArchitectures", []string{"native"}),
		property("SystemCallFilter", only("@system-service", "bpf")),
		property("SystemCallErrorNumber", int32(unix.EPERM)),
	}
}

// list is one that allows what it names, or all but that (systemd's type (bas)).
type list struct {
	Allow bool
	Names []string
}

func only(names ...string) list { return list{true, names} }

func property(name string, value any) dbus.Property {
	return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
}
