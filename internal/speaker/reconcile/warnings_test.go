package reconcile

import (
	"slices"
	"testing"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
)

// TestServicesAreWarned: of what an address lacks, its Services are warned once, and of
// what may come a moment after a new Service only when it does not come.
func TestServicesAreWarned(t *testing.T) {
	lacks := func(reason v1beta1.Reason) Outcome {
		return Outcome{Reason: reason, Message: "Why.", Services: []string{"default/web"}, Warn: true}
	}
	quiet := func(reason v1beta1.Reason) Outcome {
		return Outcome{Reason: reason, Services: []string{"default/web"}}
	}
	announced := quiet(v1beta1.ReasonAnnounced)
	type step struct {
		after    time.Duration // since the beginning
		by       []Outcome
		again    time.Duration
		reported []string
	}
	for _, test := range []struct {
		story string
		steps []step
	}{
		{"the endpoints of a new Service come", []step{
			{0, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, newService, nil},
			{time.Second, []Outcome{announced}, 0, nil},
			{time.Hour, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, 0, []string{"web Warning NoEndpoint"}},
		}},
		{"they do not come", []step{
			{0, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, newService, nil},
			{newService - 1, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, 1, nil},
			{newService, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, 0, []string{"web Warning NoEndpoint"}},
			{time.Hour, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, 0, nil},
		}},
		{"first the pool is missing, then the endpoints", []step{
			{0, []Outcome{lacks(v1beta1.ReasonNoPool)}, newService, nil},
			{2 * time.Second, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, newService - 2*time.Second, nil},
			{newService, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, 0, []string{"web Warning NoEndpoint"}},
		}},
		{"what does not come by itself is not waited for", []step{
			{0, []Outcome{lacks(v1beta1.ReasonConflict)}, 0, []string{"web Warning Conflict"}},
			{time.Second, []Outcome{lacks(v1beta1.ReasonConflict)}, 0, nil},
			{time.Minute,
				[]Outcome{lacks(v1beta1.ReasonNodeAnswers)}, 0, []string{"web Warning NodeAnswers"}},
		}},
		{"another node warns", []step{
			{0, []Outcome{quiet(v1beta1.ReasonConflict)}, 0, nil},
			{time.Second, []Outcome{lacks(v1beta1.ReasonConflict)}, 0, nil},
		}},
		{"two protocols lack the same", []step{
			{0, []Outcome{announced, announced}, 0, nil},
			{time.Second, []Outcome{lacks(v1beta1.ReasonNoEndpoint), lacks(v1beta1.ReasonNoEndpoint)}, 0,
				[]string{"web Warning NoEndpoint"}},
		}},
		{"one of two lacks something", []step{
			{0, []Outcome{announced, announced}, 0, nil},
			{time.Second,
				[]Outcome{announced, lacks(v1beta1.ReasonNoEndpoint)}, 0, []string{"web Warning NoEndpoint"}},
		}},
		{"a Service that was deleted is new when it is back", []step{
			{0, []Outcome{announced}, 0, nil},
			{time.Second, []Outcome{{Reason: v1beta1.ReasonNoService}}, 0, nil},
			{time.Minute, []Outcome{lacks(v1beta1.ReasonNoEndpoint)}, newService, nil},
		}},
	} {
		t.Run(test.story, func(t *testing.T) {
			emitted := &clustertest.Events{T: t}
			w := NewWarnings(NewServiceEvents(clustertest.New(t, clustertest.Service("web")...), emitted))
			for _, s := range test.steps {
				emitted.Emitted = nil
				again := w.Consider(time.Unix(1000, 0).Add(s.after), clustertest.Address, s.by...)
				if again != s.again || !slices.Equal(emitted.Emitted, s.reported) {
					t.Errorf("after %s it emits %q and waits for %s, want %q and %s",
						s.after, emitted.Emitted, again, s.reported, s.again)
				}
			}
		})
	}
}
