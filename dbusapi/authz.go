package dbusapi

import (
	"context"
	"errors"
	"os/user"
	"slices"
	"strconv"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

// Action is what a caller wants to do, named as polkit will know it.
type Action string

// Actions.
const (
	ActionRead          Action = "org.vmnetd1.read"
	ActionAttach        Action = "org.vmnetd1.attach"
	ActionManageUplinks Action = "org.vmnetd1.manage-uplinks" // and the configuration they come from
)

// Subject is a caller as the bus vouches for it. BusName is unique for the life
// of the bus, unlike a pid.
type Subject struct {
	agent.Caller
	BusName string
}

// Authorizer says whether a caller may do something: nil, or
// vmnetd.ErrDenied with what to do about it.
type Authorizer interface {
	Authorize(ctx context.Context, who Subject, what Action) error
}

const defaultGroup = "vmnetd"

// GroupAuthorizer lets everybody read, and uid 0 and the members of a group do
// the rest. A member that cannot be looked up is none.
type GroupAuthorizer struct {
	Group string // "": vmnetd
}

// Authorize implements Authorizer.
func (g GroupAuthorizer) Authorize(_ context.Context, who Subject, what Action) error {
	if what == ActionRead || who.UID == 0 {
		return nil
	}
	name := g.Group
	if name == "" {
		name = defaultGroup
	}
	denied := func(why string, cause error) error {
		text := "user %s may not do this (%s): %s"
		if cause != nil {
			return vmnetd.Errorf(vmnetd.ErrDenied, text+": %w", userName(who.UID), what, why, cause).WithNext(joinGroup(name))
		}
		return vmnetd.Errorf(vmnetd.ErrDenied, text, userName(who.UID), what, why).WithNext(joinGroup(name))
	}
	group, err := user.LookupGroup(name)
	if unknown := user.UnknownGroupError(""); errors.As(err, &unknown) {
		return vmnetd.Errorf(vmnetd.ErrDenied, "user %s may not do this (%s): not root, and this host has no group %s", userName(who.UID), what, name).
			WithNext("run it as root, or make the group: groupadd --system " + name)
	}
	if err != nil {
		return denied("not root, and the members of group "+name+" are not known", err)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(who.UID), 10))
	if err != nil {
		return denied("the user is not known", err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return denied("the user's groups are not known", err)
	}
	if !slices.Contains(ids, group.Gid) {
		return denied("neither root nor in group "+name, nil)
	}
	return nil
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func joinGroup(name string) string {
	return "run it as root, or join the group: usermod -aG " + name + " USER, then log in again"
}
