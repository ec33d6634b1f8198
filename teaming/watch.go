package teaming

import (
	_ "github.com/mdlayher/genetlink" // the team family's change_event group
	_ "github.com/mdlayher/netlink"
)
