package vhostnet

// Requests and what they take (uapi/linux/vhost.h).
const (
	setFeatures  = 0x4008af00
	setOwner     = 0xaf01
	setMemTable  = 0x4008af03
	setVringNum  = 0x4008af10
	setVringAddr = 0x4028af11
	setVringBase = 0x4008af12
	setVringKick = 0x4008af20
	setVringCall = 0x4008af21
	setBackend   = 0x4008af30
)

type (
	vringState struct{ index, num uint32 }
	vringFile  struct {
		index uint32
		fd    int32
	}
	vringAddr struct {
		index, flags           uint32
		desc, used, avail, log uint64
	}
	memRegion struct{ guest, size, user, _ uint64 }
	memTable  struct {
		count, _ uint32
		region   memRegion
	}
)
