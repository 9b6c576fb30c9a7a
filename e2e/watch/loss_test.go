package watch

import (
	"strings"
	"testing"
	"time"
)

// probes reads one letter for each probe, sent every 10 ms: + answered, - lost, and "." for one that was not
// sent because the sender did not come to it, ~ answered too late.
func probes(text string) []Probe {
	var out []Probe
	for i, c := range text {
		sent := time.Duration(i) * 10 * time.Millisecond
		switch c {
		case '+':
			out = append(out, Probe{sent, sent + time.Millisecond})
		case '~':
			out = append(out, Probe{sent, sent + lateAfter + time.Millisecond})
		case '-':
			out = append(out, Probe{Sent: sent})
		}
	}
	return out
}

func TestOutageOf(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		story, probes       string
		from, to            time.Duration
		longest, lost, sent int
	}{
		{"nothing lost", "++++++", 0, 60 * ms, 0, 0, 6},
		{"one lost is the time of one", "+++-++", 0, 60 * ms, 10, 1, 6},
		{"three in a row", "+---++", 0, 60 * ms, 30, 3, 6},
		{"what is answered too late is lost", "+-~-++", 0, 60 * ms, 30, 3, 6},
		{"the longest of two", "+-+--+", 0, 60 * ms, 20, 3, 6},
		{"a sender that was kept waiting lost nothing", "+...++", 0, 60 * ms, 0, 0, 3},
		{"it begins before the time asked for", "++--++", 30 * ms, 60 * ms, 20, 1, 3},
		{"it does not end", "+++---", 0, 60 * ms, 30, 3, 6},
		{"never answered", "------", 20 * ms, 60 * ms, 30, 4, 4},
		{"what comes later does not count", "++++--", 0, 40 * ms, 0, 0, 4},
		{"what came before does not count", "+--+++", 30 * ms, 60 * ms, 0, 0, 3},
		{"nothing sent", "", 0, 60 * ms, 0, 0, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := OutageOf(probes(test.probes), test.from, test.to, 10*ms)
			if got.Longest != time.Duration(test.longest)*ms || got.Lost != test.lost ||
				got.Sent != test.sent {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestOutageTellsDroppedFromLate(t *testing.T) {
	got := OutageOf(probes("+~~-~+"), 0, time.Second, 10*time.Millisecond)
	if got.Lost != 4 || got.Late != 3 || got.Longest != 40*time.Millisecond ||
		got.Dropped != 10*time.Millisecond {
		t.Errorf("got %+v", got)
	}
}

func TestOutageTellsWhenItWasOver(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"++++":     0,
		"+-+++":    10 * time.Millisecond,
		"+-+-~+++": 40 * time.Millisecond,
	} {
		if got := OutageOf(probes(text), 0, time.Second, 10*time.Millisecond).Last; got != want {
			t.Errorf("%s: the last was lost after %s, want %s", text, got, want)
		}
	}
}

func TestOutageTellsOfPauses(t *testing.T) {
	some := probes("++...++")
	some[1].Answered += 40 * time.Millisecond
	got := OutageOf(some, 0, time.Second, 10*time.Millisecond)
	if got.Pause != 40*time.Millisecond || got.Slowest != 41*time.Millisecond {
		t.Errorf("got %+v", got)
	}
}

func TestSummaryOf(t *testing.T) {
	var values []time.Duration
	for i := 200; i > 0; i-- {
		values = append(values, time.Duration(i)*time.Millisecond)
	}
	const want = "min 1, median 100, p99 198, max 200 ms (of 200)"
	if got := SummaryOf(values).String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got := SummaryOf(values[:1]).String()
	if !strings.HasPrefix(got, "min 200, median 200, p99 200, max 200") {
		t.Error(got)
	}
	if got := SummaryOf(nil); got != (Summary{}) {
		t.Error(got)
	}
}
