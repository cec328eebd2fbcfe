package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// Ctrl-C at a question ends the command, and a later answer counts for nothing.
func TestAnswer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"y\n": true, " YES \r\n": true, "n\n": false, "\n": false, "yesterday\n": false} {
		if yes, err := answer(t.Context(), strings.NewReader(text)); err != nil || yes != want {
			t.Errorf("%q: %v, %v", text, yes, err)
		}
	}
	if yes, err := answer(t.Context(), strings.NewReader("y")); err == nil {
		t.Errorf("the end of the input is taken for an answer: %v", yes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, typing := io.Pipe()
	defer typing.Close()
	if yes, err := answer(ctx, silent); yes || err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v, %v", yes, err)
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "2026-11-22": now.Add(-12 * time.Hour), "2026-11-22T11:30": now.Add(-30 * time.Minute),
		"2026-11-22T12:00:00+02:00": now.Add(-2 * time.Hour), "36h": now.Add(-36 * time.Hour), "7d": now.AddDate(0, 0, -7),
	} {
		if got, err := parseTime("from", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "0d", "7days", "2026-13-01", "d", "9999999d"} {
		if got, err := parseTime("from", text, now); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
