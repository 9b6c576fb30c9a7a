package gobgp

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRetry: a router that was there is tried again soon, one that is not there
// every connectTime, and one whose sessions end again and again ever later.
func TestRetry(t *testing.T) {
	const connect = 5 * time.Second
	long, short := func(r *retry) string { return told(r.after(time.Hour, connect)) },
		func(r *retry) string { return told(r.after(100*time.Millisecond, connect)) }
	// fails is an attempt that fails when there was no session for a time.
	fails := func(away time.Duration) func(*retry) string {
		return func(r *retry) string { return told(r.failed(away, connect, false), false) }
	}
	soon := fails(100 * time.Millisecond)
	refused := func(r *retry) string { return told(r.failed(100*time.Millisecond, connect, true), false) }
	for _, test := range []struct {
		story string
		steps []func(*retry) string
		want  string
	}{
		{"a router that is not there", []func(*retry) string{soon, soon, fails(time.Hour)}, "5s 5s 5s"},
		{"one that was up for long and restarts",
			[]func(*retry) string{long, soon, fails(time.Second), fails(8 * time.Second), fails(16 * time.Second), fails(time.Hour)},
			"0s 200ms 200ms 500ms 1s 5s"},
		{"one that is there, and says that it does not want", []func(*retry) string{long, refused, refused, soon}, "0s 5s 5s 200ms"},
		{"one whose sessions end soon, a few times", []func(*retry) string{short, short, short}, "900ms 900ms 900ms"},
		{"and more often",
			[]func(*retry) string{short, short, short, short, short, short, short, short, short, short, short},
			"900ms 900ms 900ms 5s! 5s! 8s! 16s! 32s! 1m0s! 1m0s! 1m0s!"},
		{"a damped one is not tried soon", []func(*retry) string{short, short, short, short, soon, soon}, "900ms 900ms 900ms 5s! 5s 5s"},
		{"a session that stays up ends the damping", []func(*retry) string{short, short, short, short, long, short, soon},
			"900ms 900ms 900ms 5s! 0s 900ms 200ms"},
		{"attempts that fail do not", []func(*retry) string{short, short, short, soon, short, short}, "900ms 900ms 900ms 200ms 5s! 5s!"},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := newRetry(steady)
			got := ""
			for _, step := range test.steps {
				got += " " + step(&r)
			}
			if got[1:] != test.want {
				t.Errorf("waits%s, want %s", got, test.want)
			}
		})
	}
}

// TestARouterIsSoonTriedAgain: however long a router was away, the next attempt
// after its return comes within a second, or within a sixteenth of that time, and
// within connectTime in any case; and the attempts are few.
func TestARouterIsSoonTriedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		connect := time.Duration(rapid.IntRange(1, 300).Draw(t, "connectTime")) * time.Second
		away := time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "away"))
		r := newRetry(steady)
		now, _ := r.after(time.Hour, connect)
		attempts := 1
		for ; now < away; attempts++ {
			now += r.failed(now, connect, false)
		}
		if late := now - away; late > min(connect, max(time.Second, away/awayShares)) {
			t.Fatalf("a router that was away for %s waits for %s", away, late)
		}
		if most := 120 + int(away/connect); attempts > most {
			t.Fatalf("%d attempts in %s, at most %d wanted", attempts, away, most)
		}
	})
}

// told is a wait in words, with a mark when it is damping.
func told(wait time.Duration, damped bool) string {
	if damped {
		return fmt.Sprint(wait, "!")
	}
	return fmt.Sprint(wait)
}
