package announcement

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

var graces = GracePeriods{
	Restart:   time.Minute,
	Silence:   10 * time.Second,
	Suspicion: time.Second,
	Renewal:   15 * time.Second,
	Contact:   5 * time.Second,
}

func TestAssess(t *testing.T) {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	both := func(r Report) []Report { return []Report{r, r} }
	for _, test := range []struct {
		story  string
		member Member
		want   Presence
		until  time.Duration // after now; 0 for never
	}{
		{"its speaker works",
			Member{Alive: true, Stage: StageReady, Reports: both(KernelAnswers)}, Present, 0},
		{"nobody can probe it, and its speaker works", Member{Alive: true, Stage: StageReady}, Present, 0},
		{"its kernel and its speaker fell silent: both witnesses say so before membership does",
			Member{Alive: true, Stage: StageReady, Reports: both(KernelSilent)}, Gone, 0},
		{"the path to one witness is broken", Member{
			Alive:   true,
			Stage:   StageReady,
			Reports: []Report{KernelSilent, KernelAnswers},
		}, Present, 0},
		{"one witness cannot tell, and membership hears the speaker",
			Member{Alive: true, Stage: StageReady, Reports: []Report{KernelSilent, ""}}, Present, 0},
		{"one witness cannot tell, and membership misses the speaker",
			Member{Stage: StageReady, Since: ago(time.Second), Reports: []Report{"", KernelSilent}}, Gone, 0},
		{"one witness cannot tell, the other gets answers, membership misses the speaker",
			Member{
				Stage:   StageReady,
				Since:   ago(time.Second),
				Reports: []Report{"", KernelAnswers},
			}, Held, 9 * time.Second},
		{"its speaker is silent and its kernel answers", Member{
			Stage:   StageReady,
			Since:   ago(time.Second),
			Reports: both(KernelAnswers),
		}, Held, 9 * time.Second},
		{"for too long",
			Member{Stage: StageReady, Since: ago(10 * time.Second), Reports: both(KernelAnswers)}, Gone, 0},
		{"its speaker's process has died", Member{
			Stage:   StageReady,
			Since:   ago(20 * time.Second),
			Reports: []Report{KernelAnswers, KernelRefuses},
		}, Held, 40 * time.Second},
		{"and is not started again",
			Member{Stage: StageReady, Since: ago(time.Minute), Reports: both(KernelRefuses)}, Gone, 0},
		{"but it writes its object still", Member{
			Stage:   StageReady,
			Since:   ago(time.Hour),
			Renewed: ago(5 * time.Second),
			Reports: both(KernelAnswers),
		}, Present, 10 * time.Second},
		{"it wrote its object before it fell silent", Member{
			Stage:   StageReady,
			Since:   ago(time.Second),
			Renewed: ago(2 * time.Second),
			Reports: both(KernelAnswers),
		}, Held, 9 * time.Second},
		{"it wrote its object long ago", Member{
			Stage:   StageReady,
			Since:   ago(time.Hour),
			Renewed: ago(time.Hour),
			Reports: both(KernelAnswers),
		}, Gone, 0},
		{"it wrote its object, then its node died", Member{
			Stage:   StageReady,
			Since:   ago(time.Hour),
			Renewed: ago(time.Second),
			Reports: both(KernelSilent),
		}, Gone, 0},
		{"its speaker is silent, and nobody can probe it",
			Member{Stage: StageReady, Since: ago(time.Millisecond)}, Gone, 0},
		{"its speaker is silent, and its new witnesses have just begun to probe it", Member{
			Stage:     StageReady,
			Since:     ago(time.Millisecond),
			Probeable: true,
			Reports:   []Report{""},
		}, Held, 999 * time.Millisecond},
		{"and got no answer", Member{
			Stage:     StageReady,
			Since:     ago(time.Second),
			Probeable: true,
			Reports:   []Report{""},
		}, Gone, 0},
		{"its speaker said that it comes back", Member{
			Left:    true,
			Stage:   StageRestarting,
			Since:   ago(time.Second),
			Reports: both(KernelAnswers),
		}, Held, 59 * time.Second},
		{"it says so and has not gone yet", Member{
			Alive:      true,
			Stage:      StageRestarting,
			StageSince: ago(time.Second),
		}, Held, 59 * time.Second},
		{"it is back and does not announce yet",
			Member{Alive: true, Stage: StageStarting, StageSince: ago(time.Second)}, Held, 59 * time.Second},
		{"for too long", Member{Alive: true, Stage: StageStarting, StageSince: ago(time.Minute)}, Gone, 0},
		{"it did not come back", Member{
			Left:    true,
			Stage:   StageRestarting,
			Since:   ago(time.Minute),
			Reports: both(KernelAnswers),
		}, Gone, 0},
		{"it came back and is not heard, and writes its object",
			Member{
				Left:    true,
				Stage:   StageReady,
				Since:   ago(time.Hour),
				Renewed: ago(5 * time.Second),
				Reports: both(KernelAnswers),
			},
			Present, 10 * time.Second},
		{"it wrote its object, then said that it comes back",
			Member{
				Left:    true,
				Stage:   StageReady,
				Since:   ago(time.Second),
				Renewed: ago(2 * time.Second),
				Reports: both(KernelAnswers),
			},
			Held, 59 * time.Second},
		{"it came back, was never heard, and writes its object no more",
			Member{
				Left:    true,
				Stage:   StageReady,
				Since:   ago(time.Hour),
				Renewed: ago(time.Minute),
				Reports: both(KernelAnswers),
			}, Gone, 0},
		{"its node went away instead", Member{
			Left:    true,
			Stage:   StageRestarting,
			Since:   ago(time.Second),
			Reports: both(KernelSilent),
		}, Gone, 0},
		{"it hands over", Member{Alive: true, Stage: StageLeaving, Reports: both(KernelAnswers)}, Leaving, 0},
		{"it has handed over",
			Member{Left: true, Stage: StageLeaving, Since: ago(0), Reports: both(KernelAnswers)}, Gone, 0},
		{"it died while it handed over",
			Member{Stage: StageLeaving, Since: ago(0), Reports: both(KernelAnswers)}, Gone, 0},
		{"nothing is known of it", Member{}, Gone, 0},

		{"it works at a stage of a later version",
			Member{Alive: true, Stage: "warming", Reports: both(KernelAnswers)}, Present, 0},
		{"the same, and its node dies",
			Member{Alive: true, Stage: "warming", Reports: both(KernelSilent)}, Gone, 0},
		{"it was at such a stage and is silent, and its kernel answers",
			Member{
				Stage:   "warming",
				Since:   ago(time.Second),
				Reports: both(KernelAnswers),
			}, Held, 9 * time.Second},
		{"but it writes its object still",
			Member{
				Stage:   "warming",
				Since:   ago(time.Hour),
				Renewed: ago(5 * time.Second),
				Reports: both(KernelAnswers),
			}, Present, 10 * time.Second},
		{"both witnesses say what a later version says: they cannot tell",
			Member{Alive: true, Stage: StageReady, Reports: both("dozes")}, Present, 0},
		{"one does, the other finds it silent, and membership hears it",
			Member{Alive: true, Stage: StageReady, Reports: []Report{"dozes", KernelSilent}}, Present, 0},
		{"it has not said its stage yet",
			Member{Alive: true, StageSince: ago(time.Second)}, Held, 59 * time.Second},

		{"nobody has told of it since this speaker was started, and its kernel answers",
			Member{
				Unmet:   true,
				Stage:   StageReady,
				Since:   ago(30 * time.Second),
				Reports: both(KernelAnswers),
			}, Held, 30 * time.Second},
		{"the same, for too long", Member{
			Unmet:   true,
			Stage:   StageReady,
			Since:   ago(time.Minute),
			Reports: both(KernelAnswers),
		}, Gone, 0},
		{"nobody has told of it, and its kernel has not answered yet",
			Member{
				Unmet:     true,
				Stage:     StageReady,
				Since:     ago(time.Second),
				Probeable: true,
				Reports:   []Report{""},
			}, Gone, 0},
		{"that it restarts was written long after it was last heard",
			Member{
				Left:       true,
				Stage:      StageRestarting,
				Since:      ago(time.Hour),
				StageSince: ago(time.Second),
				Reports:    both(KernelAnswers),
			}, Held, 59 * time.Second},

		{"the API server is away: nobody can renew an object",
			Member{
				Stage:   StageReady,
				Since:   ago(2 * time.Hour),
				Renewed: ago(time.Hour),
				Reports: both(KernelAnswers),
				SeenAPI: ago(time.Hour),
				Contact: ago(time.Hour),
			}, Present, 0},
		{"it is away, other members are heard: it was not heard before",
			Member{
				Stage:   StageReady,
				Since:   ago(2 * time.Hour),
				Renewed: ago(time.Hour),
				Reports: both(KernelAnswers),
				SeenAPI: ago(time.Hour),
				Contact: now,
			}, Present, 0},
		{"it is away, and the node dies",
			Member{
				Stage:   StageReady,
				Since:   ago(2 * time.Hour),
				Renewed: ago(time.Hour),
				Reports: both(KernelSilent),
				SeenAPI: ago(time.Hour),
				Contact: ago(time.Hour),
			}, Gone, 0},
		{"it is away, and the node cannot be probed",
			Member{
				Stage:   StageReady,
				Since:   ago(2 * time.Hour),
				Renewed: ago(time.Hour),
				SeenAPI: ago(time.Hour),
				Contact: ago(time.Hour),
			}, Present, 0},
		{"it was away when the object should have been renewed, and is back",
			Member{
				Stage:   StageReady,
				Since:   ago(time.Hour),
				Renewed: ago(time.Minute),
				Reports: both(KernelAnswers),
				SeenAPI: ago(time.Second),
				Contact: now,
			}, Gone, 0},
		{"nobody is heard in any way, for long",
			Member{
				Stage:   StageReady,
				Since:   ago(time.Hour),
				Reports: both(KernelAnswers),
				SeenAPI: ago(2 * time.Hour),
				Contact: ago(2 * time.Hour),
			}, Present, 0},
		{"at first it is held",
			Member{
				Stage:   StageReady,
				Since:   ago(time.Second),
				Reports: both(KernelAnswers),
				Contact: ago(time.Minute),
			}, Held, 9 * time.Second},
		{"then it is found out whether anybody is heard",
			Member{
				Stage:   StageReady,
				Since:   ago(11 * time.Second),
				Reports: both(KernelAnswers),
				Contact: ago(time.Minute),
			}, Held, 4 * time.Second},
		{"others were heard while it was held",
			Member{
				Stage:   StageReady,
				Since:   ago(11 * time.Second),
				Reports: both(KernelAnswers),
				Contact: ago(5 * time.Second),
			}, Gone, 0},
		{"others were heard when it had just fallen silent, and not since",
			Member{
				Stage:   StageReady,
				Since:   ago(time.Hour),
				Reports: both(KernelAnswers),
				Contact: ago(time.Hour - time.Second),
			}, Present, 0},
		{"nobody is heard, and its process is dead or behind a firewall",
			Member{
				Stage:   StageReady,
				Since:   ago(time.Hour),
				Reports: both(KernelRefuses),
				Contact: ago(2 * time.Hour),
			}, Held, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			f := test.member
			if f.Contact.IsZero() {
				f.SeenAPI, f.Contact = now, now
			}
			got := Assess(f, graces, now)
			until := time.Duration(0)
			if !got.Until.IsZero() {
				until = got.Until.Sub(now)
			}
			if got.Presence != test.want || until != test.until || got.Reason == "" {
				t.Errorf("got %s (%s) for %s, want %s for %s",
					got.Presence, got.Reason, until, test.want, test.until)
			}
		})
	}
}

// TestWitnesses: every node has two, not itself, and the work is spread.
func TestWitnesses(t *testing.T) {
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprintf("node%02d", i))
	}
	work := map[string]int{}
	for _, node := range all {
		got := Witnesses(node, all)
		if len(got) != 2 || slices.Contains(got, node) {
			t.Fatalf("%s is probed by %v", node, got)
		}
		for _, w := range got {
			work[w]++
		}
		// Who does not probe this node may go without a change for it.
		rest := slices.DeleteFunc(slices.Clone(all), func(n string) bool {
			return n != node && !slices.Contains(got, n) && n > "node50"
		})
		if again := Witnesses(node, rest); !slices.Equal(got, again) {
			t.Errorf("%s: others went, and witnesses changed from %v to %v", node, got, again)
		}
	}
	for node, n := range work {
		if n > 9 {
			t.Errorf("%s probes %d nodes", node, n)
		}
	}
	if got := Witnesses("a", []string{"a", "b"}); !slices.Equal(got, []string{"b"}) {
		t.Errorf("with two nodes: %v", got)
	}
	if got := Witnesses("a", []string{"a"}); len(got) != 0 {
		t.Errorf("alone: %v", got)
	}
}
