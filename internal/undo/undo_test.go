package undo

import (
	"errors"
	"slices"
	"testing"
)

func TestRunGoesBackwardsAndReportsEveryFailure(t *testing.T) {
	var s Stack
	var got []int
	boom := errors.New("boom")
	for i := range 3 {
		s.Add(func() error {
			got = append(got, i)
			if i == 1 {
				return boom
			}
			return nil
		})
	}
	if err := s.Run(); !errors.Is(err, boom) {
		t.Errorf("Run() = %v, want %v", err, boom)
	}
	if want := []int{2, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if err := s.Run(); err != nil || len(got) != 3 {
		t.Errorf("a second Run did something: %v, %v", err, got)
	}
}

func TestForgetKeepsWhatWasDone(t *testing.T) {
	var s Stack
	s.Add(func() error { t.Error("undone after Forget"); return nil })
	s.Forget()
	if err := s.Run(); err != nil {
		t.Error(err)
	}
}
