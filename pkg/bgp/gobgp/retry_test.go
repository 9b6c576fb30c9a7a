package gobgp

import (
	"fmt"
	"testing"
	"time"
)

// TestRetry: a router that was there is tried again soon, one that is not there
// every connectTime, and one whose sessions end again and again ever later.
func TestRetry(t *testing.T) {
	const connect = 5 * time.Second
	long, short := func(r *retry) string { return told(r.after(time.Hour, connect)) },
		func(r *retry) string { return told(r.after(100*time.Millisecond, connect)) }
	fails := func(r *retry) string { return told(r.failed(connect), false) }
	for _, test := range []struct {
		story string
		steps []func(*retry) string
		want  string
	}{
		{"a router that is not there", []func(*retry) string{fails, fails, fails}, "5s 5s 5s"},
		{"one that was up for long and restarts", []func(*retry) string{long, fails, fails, fails, fails, fails}, "0s 300ms 1s 2s 5s 5s"},
		{"one whose sessions end soon, a few times", []func(*retry) string{short, short, short}, "900ms 900ms 900ms"},
		{"and more often",
			[]func(*retry) string{short, short, short, short, short, short, short, short, short, short, short},
			"900ms 900ms 900ms 5s! 5s! 8s! 16s! 32s! 1m0s! 1m0s! 1m0s!"},
		{"a damped one is not tried soon", []func(*retry) string{short, short, short, short, fails, fails}, "900ms 900ms 900ms 5s! 5s 5s"},
		{"a session that stays up ends the damping", []func(*retry) string{short, short, short, short, long, short, fails},
			"900ms 900ms 900ms 5s! 0s 900ms 300ms"},
		{"attempts that fail do not", []func(*retry) string{short, short, short, fails, short, short}, "900ms 900ms 900ms 300ms 5s! 5s!"},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := newRetry()
			got := ""
			for _, step := range test.steps {
				got += " " + step(&r)
			}
			if got[1:] != test.want {
				t.Errorf("waits%s, want %s", got, test.want)
			}
		})
	}
	// Who is to be tried more often than that is.
	r := newRetry()
	r.after(time.Hour, time.Second)
	for range 4 {
		if wait := r.failed(time.Second); wait > time.Second {
			t.Errorf("waits %s", wait)
		}
	}
}

// told is a wait in words, with a mark when it is damping.
func told(wait time.Duration, damped bool) string {
	if damped {
		return fmt.Sprint(wait, "!")
	}
	return fmt.Sprint(wait)
}
