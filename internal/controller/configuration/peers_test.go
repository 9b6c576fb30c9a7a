package configuration

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/config"
)

func TestManyNodesAreCounted(t *testing.T) {
	var speakers []v1beta1.Speaker
	for i := range 30 {
		speakers = append(speakers, *controllertest.SpeakerThat("n"+string(rune('a'+i)),
			"x NotConfigured no label"))
	}
	seen := seenOnNodes(nil, "x", nil, speakers)
	text := seen.problem.Message
	if !strings.Contains(text, "and 10 more: no label") || !strings.Contains(text, "on 30 nodes") {
		t.Errorf("got %+v", seen)
	}
}

// TestSpeakersHavePeersLookedAt, those of which they say something new.
func TestSpeakersHavePeersLookedAt(t *testing.T) {
	for _, test := range []struct {
		story         string
		before, after *v1beta1.Speaker
		want          []string
	}{
		{"a speaker comes, so there is one session more for any peer", nil,
			controllertest.SpeakerThat("n", "x NotConfigured no label"), []string{"x", "y"}},
		{"it goes", controllertest.SpeakerThat("n", "x NotConfigured no label"), nil, []string{"x", "y"}},
		{"a session is up", controllertest.SpeakerThat("n", "x"), controllertest.SpeakerThat("n", "x", "y"),
			[]string{"y"}},
		{"a session is down", controllertest.SpeakerThat("n", "x", "y"), controllertest.SpeakerThat("n", "y"),
			[]string{"x"}},
		{"it says the same", controllertest.SpeakerThat("n", "x NotConfigured no label"),
			controllertest.SpeakerThat("n", "x NotConfigured no label"), nil},
		{"what was wrong is right", controllertest.SpeakerThat("n", "x NotConfigured no label"),
			controllertest.SpeakerThat("n", "x"), []string{"x"}},
		{"another thing is wrong", controllertest.SpeakerThat("n", "x NotConfigured no label", "y"),
			controllertest.SpeakerThat("n", "x NotConfigured no annotation", "y"), []string{"x"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			q := workqueue.NewTypedRateLimitingQueue(
				workqueue.DefaultTypedControllerRateLimiter[state.ObjectKey](),
			)
			defer q.ShutDown()
			added := &recordedQueue{TypedRateLimitingInterface: q}
			with := configured(config.Objects{BGPPeers: []v1beta1.BGPPeer{
				*controllertest.BGPPeer("x", nil),
				*controllertest.BGPPeer("y", nil),
			}})
			h := PeersOfSpeakers(with)
			switch {
			case test.before == nil:
				h.Create(context.Background(), event.CreateEvent{Object: test.after}, added)
			case test.after == nil:
				h.Delete(context.Background(), event.DeleteEvent{Object: test.before}, added)
			default:
				h.Update(context.Background(),
					event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}, added)
			}
			if !slices.Equal(added.peers, test.want) {
				t.Errorf("looked at %q, want %q", added.peers, test.want)
			}
		})
	}
}

// recordedQueue remembers the peers that were added, each once.
type recordedQueue struct {
	workqueue.TypedRateLimitingInterface[state.ObjectKey]
	peers []string
}

// AddAfter remembers a peer.
func (q *recordedQueue) AddAfter(key state.ObjectKey, _ time.Duration) {
	if key.Kind == config.KindBGPPeer && !slices.Contains(q.peers, key.Name) {
		q.peers = append(q.peers, key.Name)
	}
}

// configured is what reconcilers share while these objects are in force.
func configured(objects config.Objects) shared.Shared {
	with := shared.Shared{State: state.New(), Queues: shared.NewQueues()}
	with.State.SetConfig(objects, controllertest.Birth)
	return with
}
