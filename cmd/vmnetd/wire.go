package main

import (
	"context"

	"github.com/vmnetd/vmnetd"
)

// wire makes the parts of the daemon and connects them. Nothing runs yet when
// it returns.
func wire(context.Context, serveOptions) (parts, error) {
	return parts{}, vmnetd.Errorf(vmnetd.ErrUnsupported, "serve: not in this version")
}
