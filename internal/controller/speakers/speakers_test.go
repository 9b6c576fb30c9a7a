package speakers

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/kube"
)

var node = controllertest.Node

// announcing is what a speaker says that announces two addresses.
func announcing() v1beta1.SpeakerStatus {
	return v1beta1.SpeakerStatus{
		MemberAddress: "10.77.0.11:7947",
		AbsentCount:   3,
		Stage:         v1beta1.StageReady,
		Layer2: v1beta1.SpeakerLayer2{
			Count:     2,
			Addresses: "192.0.2.1,192.0.2.2",
			Announcements: []v1beta1.Layer2Announcement{
				{Address: "192.0.2.1", Generation: 7}, {Address: "192.0.2.2", StandInFor: "n2"},
			},
		},
		Conditions: []metav1.Condition{
			{
				Type:   v1beta1.ConditionReady,
				Status: metav1.ConditionTrue,
				Reason: string(v1beta1.ReasonAnnouncing),
			},
			{
				Type:   v1beta1.ConditionAddressesClear,
				Status: metav1.ConditionTrue,
				Reason: string(v1beta1.ReasonNoConflicts),
			},
		},
	}
}

func newSpeaker() *v1beta1.Speaker {
	return &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: announcing()}
}

// cluster is one node with its Speaker, and the controller.
type cluster struct {
	t      *testing.T
	api    client.WithWatch
	r      *Reconciler
	writes int                          // of the controller
	before func(*v1beta1.Speaker) error // runs before such a write, if not nil
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	c := &cluster{t: t}
	c.api = fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(objects...).
		WithStatusSubresource(&corev1.Node{}, &v1beta1.Speaker{}).WithReturnManagedFields().Build()
	writer := interceptor.NewClient(c.api, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, api client.Client, sub string, o client.Object,
			p client.Patch, options ...client.SubResourcePatchOption) error {
			c.writes++
			if c.before != nil {
				if err := c.before(o.(*v1beta1.Speaker)); err != nil {
					return err
				}
			}
			return api.SubResource(sub).Patch(ctx, o, p, options...)
		},
	})
	c.r = New(shared.Shared{Cached: c.api, Live: c.api, Writer: writer, Log: slog.New(slog.DiscardHandler)})
	return c
}

// says has the speaker write its status, at a time by the API server's clock.
func (c *cluster) says(status v1beta1.SpeakerStatus, at time.Time) {
	c.t.Helper()
	s := c.speaker()
	s.Status = status
	if err := c.api.Status().Update(c.t.Context(), s); err != nil {
		c.t.Fatal(err)
	}
	s.ManagedFields = []metav1.ManagedFieldsEntry{writtenAt("status", at)}
	if err := c.api.Update(c.t.Context(), s); err != nil {
		c.t.Fatal(err)
	}
}

// writtenAt is the note of the API server that a speaker wrote.
func writtenAt(subresource string, at time.Time) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager:     "speaker",
		Operation:   metav1.ManagedFieldsOperationUpdate,
		Subresource: subresource,
		Time:        new(metav1.NewTime(at)),
		APIVersion:  v1beta1.GroupVersion.String(),
		FieldsType:  "FieldsV1",
		FieldsV1:    metav1.NewFieldsV1(`{"f:status":{"f:members":{}}}`),
	}
}

// becomes gives the node another Ready condition.
func (c *cluster) becomes(status corev1.ConditionStatus, since time.Time) {
	c.t.Helper()
	want := node(status, since)
	if err := c.api.Status().Update(c.t.Context(), want); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) look() reconcile.Result {
	c.t.Helper()
	result, err := c.r.Reconcile(c.t.Context(), reconcile.Request{
		NamespacedName: types.NamespacedName{Name: "n1"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return result
}

func (c *cluster) speaker() *v1beta1.Speaker {
	c.t.Helper()
	var s v1beta1.Speaker
	if err := c.api.Get(c.t.Context(), types.NamespacedName{Name: "n1"}, &s); err != nil {
		c.t.Fatal(err)
	}
	return &s
}

// wrote checks how often the controller has written, and whether the Speaker
// is marked.
func (c *cluster) wrote(times int, marked bool) {
	c.t.Helper()
	if c.writes != times {
		c.t.Errorf("the controller has written %d times, want %d", c.writes, times)
	}
	s := c.speaker().Status
	ready := meta.FindStatusCondition(s.Conditions, v1beta1.ConditionReady)
	isMarked := ready != nil && ready.Reason == string(v1beta1.ReasonNodeNotReady) &&
		ready.Status == metav1.ConditionFalse &&
		s.Layer2.Count == 0 && len(s.Layer2.Announcements) == 0
	if isMarked != marked {
		c.t.Errorf("the status is %+v, want it marked: %v", s, marked)
	}
}

// noon is when nodes become not ready.
var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func TestSpeakerOfADeadNodeIsMarkedOnce(t *testing.T) {
	c := newCluster(t, node(corev1.ConditionTrue, noon.Add(-time.Hour)), newSpeaker())
	c.says(announcing(), noon.Add(-time.Minute))
	c.look()
	c.wrote(0, false)

	c.becomes(corev1.ConditionUnknown, noon)
	c.look()
	c.wrote(1, true)
	s := c.speaker().Status
	ready := meta.FindStatusCondition(s.Conditions, v1beta1.ConditionReady)
	for _, part := range []string{
		"The node is not ready; what its speaker last said may no longer hold.",
		"The 2 addresses",
		"NodeStatusUnknown",
		"2026-07-01T12:00:00Z",
	} {
		if !strings.Contains(ready.Message, part) {
			t.Errorf("the message has no %q: %s", part, ready.Message)
		}
	}
	if s.MemberAddress != "10.77.0.11:7947" || s.AbsentCount != 3 || s.Stage != v1beta1.StageReady ||
		len(s.Conditions) != 2 {
		t.Errorf("the rest of the status has changed too: %+v", s)
	}
	if s.Layer2.Count != 0 || s.Layer2.Addresses != "" || len(s.Layer2.Announcements) > 0 {
		t.Errorf("it still lists %+v", s.Layer2)
	}
	want := []v1beta1.Layer2Claim{{Address: "192.0.2.1", Generation: 7}}
	if !slices.Equal(s.Layer2.Retained, want) {
		t.Errorf("it keeps %v for the speaker that comes back, want %v", s.Layer2.Retained, want)
	}

	c.look()
	c.wrote(1, true)
}

// TestSpeakerThatWorksIsNotFought: its node's kubelet has stopped, and it goes
// on announcing. A new leader, which knows nothing of before, leaves it alone
// too: nothing is kept from one look to the next.
func TestSpeakerThatWorksIsNotFought(t *testing.T) {
	c := newCluster(t, node(corev1.ConditionTrue, noon.Add(-time.Hour)), newSpeaker())
	c.says(announcing(), noon.Add(-time.Minute))
	c.becomes(corev1.ConditionFalse, noon)
	c.look()
	c.wrote(1, true)

	c.says(announcing(), noon.Add(2*time.Second))
	for range 3 {
		c.look()
	}
	c.wrote(1, false)

	c.becomes(corev1.ConditionUnknown, noon.Add(time.Hour))
	c.look()
	c.wrote(2, true)
	c.says(announcing(), noon.Add(time.Hour+time.Second))
	c.look()
	c.wrote(2, false)
}

func TestSpeakerWritesWhileTheControllerDoes(t *testing.T) {
	c := newCluster(t, node(corev1.ConditionUnknown, noon), newSpeaker())
	c.says(announcing(), noon.Add(-time.Minute))
	c.before = func(*v1beta1.Speaker) error {
		status := announcing()
		status.AbsentCount = 2
		c.says(status, noon.Add(time.Second))
		return nil
	}
	if result := c.look(); result.RequeueAfter == 0 {
		t.Error("the controller does not look again")
	}
	c.before = nil
	c.look()
	c.wrote(1, false) // what it tried was refused
	if got := c.speaker().Status.AbsentCount; got != 2 {
		t.Errorf("what the speaker wrote is lost: %d members", got)
	}
}

func TestSpeakerThatIsGoneIsNotMarked(t *testing.T) {
	c := newCluster(t, node(corev1.ConditionUnknown, noon))
	c.look() // has no Speaker

	c = newCluster(t, newSpeaker())
	c.look() // has no Node
	c.wrote(0, false)

	c = newCluster(t, node(corev1.ConditionUnknown, noon), newSpeaker())
	c.before = func(s *v1beta1.Speaker) error {
		return apierrors.NewNotFound(v1beta1.GroupVersion.WithResource("speakers").GroupResource(), s.Name)
	}
	c.look() // goes meanwhile
	if c.writes != 1 {
		t.Errorf("%d writes were tried", c.writes)
	}
}

func TestStale(t *testing.T) {
	written := func(subresource string, after time.Duration) metav1.ManagedFieldsEntry {
		return writtenAt(subresource, noon.Add(after))
	}
	for _, test := range []struct {
		story  string
		ready  metav1.ConditionStatus
		writes []metav1.ManagedFieldsEntry
		want   bool
	}{
		{"it was written long before",
			metav1.ConditionTrue, []metav1.ManagedFieldsEntry{written("status", -time.Hour)}, true},
		{"it was written in the same second",
			metav1.ConditionTrue, []metav1.ManagedFieldsEntry{written("status", 0)}, true},
		{"it was written since",
			metav1.ConditionTrue, []metav1.ManagedFieldsEntry{written("status", time.Second)}, false},
		{"the last write counts, whoever wrote", metav1.ConditionTrue,
			[]metav1.ManagedFieldsEntry{
				written("status", time.Second), written("status", -time.Hour),
			}, false},
		{"only a label was written since", metav1.ConditionTrue,
			[]metav1.ManagedFieldsEntry{written("status", -time.Hour), written("", time.Hour)}, true},
		{"nobody knows when it was written",
			metav1.ConditionTrue, []metav1.ManagedFieldsEntry{{Subresource: "status"}}, true},
		{"it says already that it announces nothing",
			metav1.ConditionFalse, []metav1.ManagedFieldsEntry{written("status", -time.Hour)}, false},
		{"it has said nothing yet", "", nil, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{ManagedFields: test.writes}}
			if test.ready != "" {
				s.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionReady, Status: test.ready}}
			}
			if got := stale(s, noon); got != test.want {
				t.Errorf("stale = %v", got)
			}
		})
	}
}

func TestNodesThatBecomeNotReadyAreLookedAt(t *testing.T) {
	ready, unknown := node(corev1.ConditionTrue, noon), node(corev1.ConditionUnknown, noon)
	p := BecameNotReady()
	for _, test := range []struct {
		story    string
		old, now *corev1.Node
		want     bool
	}{
		{"the controller finds it ready", nil, ready, false},
		{"the controller finds it not ready", nil, unknown, true},
		{"the controller finds a node that does not say", nil, &corev1.Node{}, false},
		{"it becomes not ready", ready, unknown, true},
		{"it first says so", &corev1.Node{}, unknown, true},
		{"it is not ready still", unknown, unknown, false},
		{"it is not ready in another way", unknown, node(corev1.ConditionFalse, noon), true},
		{"it was ready in between", unknown, node(corev1.ConditionUnknown, noon.Add(time.Minute)), true},
		{"it becomes ready", unknown, ready, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := false
			if test.old == nil {
				got = p.Create(event.CreateEvent{Object: test.now})
			} else {
				got = p.Update(event.UpdateEvent{ObjectOld: test.old, ObjectNew: test.now})
			}
			if got != test.want {
				t.Errorf("looked at: %v", got)
			}
		})
	}
	if p.Delete(event.DeleteEvent{Object: unknown}) || p.Generic(event.GenericEvent{Object: unknown}) {
		t.Error("a node that is deleted is looked at")
	}
}

// TestCachedNodesTellSinceWhenTheyAreNotReady: what the cache drops of a node
// would be missed here without an error.
func TestCachedNodesTellSinceWhenTheyAreNotReady(t *testing.T) {
	transform := kube.ManagerOptions().Cache.DefaultTransform
	out, err := transform(node(corev1.ConditionUnknown, noon))
	if err != nil {
		t.Fatal(err)
	}
	ready := notReady(out.(*corev1.Node))
	if ready == nil || !ready.LastTransitionTime.Time.Equal(noon) || ready.Reason == "" {
		t.Errorf("the Ready condition of a cached node is %+v", ready)
	}
}
