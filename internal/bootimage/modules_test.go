package bootimage

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestAnInterruptedProgramSaysWhy(t *testing.T) {
	why := errors.New("on purpose")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	defer stop.Stop()
	if _, err := output(ctx, "sleep", "1000"); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}
