package filter

import "context"

func (h *Host) setBandwidth(ctx context.Context, index int, s Spec) error { return nil }

func (h *Host) hasBandwidth(ctx context.Context, index int, s Spec) (bool, error) { return true, nil }
