package succession

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCourse(t *testing.T) {
	for _, test := range []struct {
		story  string
		events []Event
		want   []Act // without those of Nothing
		state  State
	}{
		{"it is told to end and has no successor", []Event{Told}, []Act{Leave}, Ended},
		{"it is told to end, nobody answers in its place, and its successor comes soon",
			[]Event{ToldAlone, Met, Asked, Released, Announces}, []Act{Release, Yield, End}, Ended},
		{"or not", []Event{ToldAlone, Late}, []Act{Leave}, Ended},
		{"or comes and goes", []Event{ToldAlone, Met, Lost}, []Act{Leave}, Ended},
		{"nobody answers in its place, but its successor has",
			[]Event{Met, Asked, Released, Announces, ToldAlone},
			[]Act{Release, Yield, Silence, End}, Ended},
		{"an update", []Event{Met, Asked, Released, Announces, Told},
			[]Act{Release, Yield, Silence, End}, Ended},
		{"it waits for being told, and does nothing meanwhile",
			[]Event{Met, Asked, Released, Announces, Late, Met, Asked},
			[]Act{Release, Yield, Silence}, Idle},
		{"a successor that never gets ready costs nothing", []Event{Met, Lost, Met, Lost}, nil, Working},
		{"it is told to end while the successor prepares: it goes on",
			[]Event{Met, Told, Asked, Released, Announces}, []Act{Release, Yield, End}, Ended},
		{"and leaves when the successor is gone", []Event{Met, Told, Lost}, []Act{Leave}, Ended},
		{"or takes too long", []Event{Met, Told, Late}, []Act{Leave}, Ended},
		{"it is told to end while it releases its ports",
			[]Event{Met, Asked, Told, Released, Announces}, []Act{Release, Yield, End}, Ended},
		{"it is told to end while only it answers: it answers until the successor does",
			[]Event{Met, Asked, Released, Told, Announces}, []Act{Release, Yield, End}, Ended},
		{"the successor announces nothing in time: others may have taken over",
			[]Event{Met, Asked, Released, Late}, []Act{Release, Yield, Silence}, Idle},
		{"the successor dies before the ports are free",
			[]Event{Met, Asked, Lost, Released}, []Act{Release, Restart}, Ended},
		{"the successor dies before it announces",
			[]Event{Met, Asked, Released, Lost}, []Act{Release, Yield, Restart}, Ended},
		{"the successor dies when it announces",
			[]Event{Met, Asked, Released, Announces, Lost}, []Act{Release, Yield, Silence, Restart}, Ended},
		{"both are told to end",
			[]Event{Met, Asked, Released, Told, Lost}, []Act{Release, Yield, End}, Ended},
		{"its work ends by itself", []Event{Released}, []Act{End}, Ended},
		{"somebody asks who has not connected", []Event{Asked, Announces}, nil, Working},
	} {
		t.Run(test.story, func(t *testing.T) {
			c := Course{}
			var got []Act
			for _, e := range test.events {
				var act Act
				if c, act = c.Next(e); act != Nothing {
					got = append(got, act)
				}
			}
			if !slices.Equal(got, test.want) || c.State != test.state {
				t.Errorf("it did %v and is at %v, want %v and %v", got, c.State, test.want, test.state)
			}
		})
	}
}

// TestPatience: nobody waits without a bound who is to end, or who answers for addresses
// that others may take.
func TestPatience(t *testing.T) {
	for _, test := range []struct {
		story  string
		course Course
		hold   time.Duration
		want   time.Duration
	}{
		{"it works", Course{Successor: true}, time.Minute, 0},
		{"it is to end", Course{Successor: true, Told: true}, time.Minute, takeoverPatience},
		{"it waits for a successor", Course{Told: true, Awaits: true}, time.Minute, meetingPatience},
		{"it only answers", Course{State: Answering}, time.Minute, takeoverPatience},
		{"others hold for less", Course{State: Answering}, 2 * time.Second, 2 * time.Second},
		{"others do not hold at all", Course{State: Answering}, 0, time.Millisecond},
		{"it is idle", Course{State: Idle}, time.Minute, 0},
	} {
		if got := test.course.Patience(test.hold); got != test.want {
			t.Errorf("%s: it waits for %s, want %s", test.story, got, test.want)
		}
	}
}

// TestCourseOfAnyOrder: whatever comes in whatever order, a speaker falls silent or ends
// without its leave only when another announces, is gone, or is late; it ends only once;
// and told to end it does so in the end.
func TestCourseOfAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOf(rapid.SampledFrom(
			[]Event{Met, Asked, Announces, Lost, Told, ToldAlone, Late})).Draw(t, "events")
		c := Course{}
		for _, e := range events {
			before := c
			var act Act
			if c, act = c.Next(e); act == Release {
				c, act = c.Next(Released)
				if act != Yield {
					t.Fatalf("after it has released its ports it does %v", act)
				}
				continue
			}
			switch {
			case before.State == Ended && (act != Nothing || c.State != Ended):
				t.Fatalf("after its end it does %v", act)
			case act == Silence && e != Announces && e != Late:
				t.Fatalf("it falls silent because of %v", e)
			case act == Restart && c.Told:
				t.Fatal("it restarts although it is to end")
			case act == End && before.State == Working:
				t.Fatal("it ends without its leave")
			}
		}
		for _, e := range []Event{Told, Late, Lost, Told} {
			c, _ = c.Next(e)
		}
		if c.State != Ended {
			t.Fatalf("told to end, and alone, it is still at %v", c.State)
		}
	})
}
