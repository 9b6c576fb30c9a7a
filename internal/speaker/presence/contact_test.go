package presence

import (
	"testing"
	"time"
)

// TestRegainedContactIsTrustedAfterAGrace: what comes by a way that was lost is trusted
// again when all others have had time to be heard by it. One answer that is missing is
// soon made up for.
func TestRegainedContactIsTrustedAfterAGrace(t *testing.T) {
	var c Contact
	now := start
	for _, step := range []struct {
		story   string
		after   time.Duration
		works   bool
		trusted time.Duration // before now
	}{
		{"it works", 0, true, 0},
		{"it works still", time.Hour, true, 0},
		{"one answer is missing", time.Second, false, time.Second},
		{"the next is not", contactBlip - 1, true, time.Second + contactBlip - 1},
		{"others may be missed because of it",
			blipReturns - 1, true, time.Second + contactBlip + blipReturns - 2},
		{"they are back", 1, true, 0},
		{"it is lost", time.Second, false, time.Second},
		{"for long", time.Hour, false, time.Hour + time.Second},
		{"it is back", time.Second, true, time.Hour + 2*time.Second},
		{"others may not be heard yet",
			APIReturn - 1, true, time.Hour + 2*time.Second + APIReturn - 1},
		{"they are", 1, true, 0},
		{"it is lost again", time.Second, false, time.Second},
		{"it seems to be back", time.Minute, true, time.Minute + time.Second},
		{"it is not", time.Second, false, time.Minute + 2*time.Second},
		{"now it is", time.Second, true, time.Minute + 3*time.Second},
	} {
		now = now.Add(step.after)
		c = c.Note(step.works, APIReturn, now)
		if got := now.Sub(c.Trusted); got != step.trusted {
			t.Errorf("%s: it was last trusted %s ago, want %s", step.story, got, step.trusted)
		}
		if got := now.Sub(c.Last); step.works && got != 0 {
			t.Errorf("%s: it worked last %s ago", step.story, got)
		}
	}
}
