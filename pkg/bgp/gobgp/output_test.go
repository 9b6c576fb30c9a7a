package gobgp

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestOutput: gobgp gets more only as the router takes it.
func TestOutput(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	idle := sendState{last: start}
	for _, test := range []struct {
		story            string
		given, queued    int // at the start
		now              int // milliseconds later
		line             sendState
		changes          int
		gives, refreshes bool
		refreshedBefore  int // milliseconds before the start
	}{
		{
			story:           "all has been sent",
			queued:          10000,
			now:             200,
			line:            idle,
			changes:         10000,
			gives:           true,
			refreshes:       true,
			refreshedBefore: 5000,
		},
		{
			story:           "a few changes need not wait for those before",
			queued:          1000,
			now:             5,
			line:            idle,
			changes:         24,
			gives:           true,
			refreshedBefore: 5000,
		},
		{story: "many do", queued: 1000, now: 5, line: idle, changes: 25, refreshedBefore: 5000},
		{
			story:           "the router takes nothing, but little waits",
			queued:          1,
			now:             9000,
			line:            sendState{true, start},
			changes:         1,
			gives:           true,
			refreshedBefore: 5000,
		},
		{
			story:           "the router takes nothing, and much waits",
			queued:          1024,
			now:             9000,
			line:            sendState{true, start},
			changes:         1,
			refreshedBefore: 5000,
		},
		{
			story:           "nothing changes",
			queued:          9999,
			now:             9000,
			line:            sendState{true, start},
			changes:         0,
			gives:           true,
			refreshedBefore: 5000,
		},
		{
			story:           "something was sent a moment ago",
			queued:          1024,
			now:             200,
			line:            sendState{last: at(150)},
			changes:         1,
			refreshedBefore: 5000,
		},
		{
			story:           "all were sent again less than a second ago",
			queued:          1,
			now:             200,
			line:            idle,
			changes:         1,
			gives:           true,
			refreshedBefore: 700,
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			o := output{
				queued:     test.queued,
				given:      start,
				refreshDue: true,
				refreshed:  at(-test.refreshedBefore),
			}
			if got := o.mayGive(at(test.now), test.line, test.changes); got != test.gives {
				t.Errorf("may give %d: %v", test.changes, got)
			}
			if got := o.mayRefresh(at(test.now), test.line); got != test.refreshes {
				t.Errorf("may send all again: %v", got)
			}
			o.refreshDue = false
			if o.mayRefresh(at(test.now), test.line) {
				t.Error("sends all again, and nobody has asked")
			}
		})
	}
}

// TestTheQueueIsBounded: whatever changes and whatever the router asks for,
// gobgp has never more to send than all routes and mostQueued changes, and a
// router that takes nothing is sent all again at most once.
func TestTheQueueIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const all = 5000
		now := time.Unix(1000, 0)
		l := sendState{last: now}
		var o output
		o.gave(now, all)
		queue, refreshes, largest := all, 0, 0 // as a slow model of gobgp has it
		takes := rapid.Bool().Draw(t, "takes")
		l.blocked = !takes
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "ms")) * time.Millisecond)
			if takes && queue > 0 {
				queue = max(0, queue-rapid.IntRange(0, all).Draw(t, "taken"))
				l.last = now
			}
			changes := rapid.IntRange(0, all).Draw(t, "changes")
			if !o.waits(now, l) && o.mayGive(now, l, changes) {
				o.gave(now, changes)
				queue += changes
			}
			o.refreshDue = rapid.Bool().Draw(t, "asks")
			if o.mayRefresh(now, l) {
				o.refreshed = now
				o.gave(now, all)
				queue += all
				refreshes++
			}
			largest = max(largest, queue)
		}
		if !takes && (refreshes > 0 || largest > all+mostQueued) {
			t.Fatalf("a router that takes nothing: %d queued, %d times all", largest, refreshes)
		}
	})
}

// TestPace: what a router sends at once is read at once, and what it goes on
// sending no faster than readRate.
func TestPace(t *testing.T) {
	for _, test := range []struct {
		story    string
		bytes    int
		messages int
		within   time.Duration // at least, and not much more
	}{
		{"a full table in large messages", 4096, 7000, 0},
		{"a full table in small messages", 60, 100_000, 0},
		{"KEEPALIVEs for ever", headerLength, 5_000_000, 39 * time.Second},
		{"large UPDATEs for ever", 65535, 5000, 8 * time.Second},
	} {
		t.Run(test.story, func(t *testing.T) {
			var p pace
			start := time.Unix(1000, 0)
			now := start
			for range test.messages {
				now = now.Add(p.take(now, test.bytes))
			}
			if took := now.Sub(start); took < test.within || took > test.within+test.within/4 {
				t.Errorf("%d messages of %d bytes are read in %s", test.messages, test.bytes, took)
			}
		})
	}
}
