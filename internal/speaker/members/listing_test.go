package members

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/membership"
)

// TestListing: without a membership the speakers are there whose nodes are ready. It tells of what
// has changed, and of nothing else.
func TestListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := func(name string, ready corev1.ConditionStatus) corev1.Node {
			return corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
					Type:   corev1.NodeReady,
					Status: ready,
				}}},
			}
		}
		speakers := func(names ...string) (out []v1beta1.Speaker) {
			for _, name := range names {
				out = append(out, v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}})
			}
			return out
		}
		l := NewListing(nil, "node1")
		if l.Settled() || len(l.Members()) != 1 {
			t.Errorf("before anything is read it knows %v", l.Members())
		}
		begin := time.Now()
		for _, step := range []struct {
			story    string
			nodes    []corev1.Node
			speakers []v1beta1.Speaker
			changed  bool
			want     []string // "name state", and for how many seconds
		}{
			{"this one is alone", []corev1.Node{node("node1", "True")}, nil, true,
				[]string{"node1 alive"}},
			{"its own object comes", []corev1.Node{node("node1", "True")}, speakers("node1"), false,
				[]string{"node1 alive"}},
			{"another comes, and a node without a speaker",
				[]corev1.Node{node("node1", "True"), node("node2", "True"), node("node3", "True")},
				speakers("node1", "node2"), true, []string{"node1 alive", "node2 alive since 2"}},
			{"nothing is new",
				[]corev1.Node{node("node1", "True"), node("node2", "True"), node("node3", "True")},
				speakers("node2", "node1"), false, []string{"node1 alive", "node2 alive since 2"}},
			{"the other's node falls silent", []corev1.Node{node("node1", "True"), node("node2", "Unknown")},
				speakers("node1", "node2"), true, []string{"node1 alive", "node2 dead since 4"}},
			{"it is deleted", []corev1.Node{node("node1", "True")}, speakers("node1"), true,
				[]string{"node1 alive"}},
			{"its own node is not ready, and it works", []corev1.Node{node("node1", "False")},
				speakers("node1"), false, []string{"node1 alive"}},
		} {
			l.set(step.nodes, step.speakers, time.Now())
			changed := false
			select {
			case <-l.Changed():
				changed = true
			default:
			}
			var got []string
			for _, m := range l.Members() {
				text := m.Name + " dead"
				if m.State == membership.Alive {
					text = m.Name + " alive"
				}
				if !m.Since.IsZero() {
					text += fmt.Sprintf(" since %.0f", m.Since.Sub(begin).Seconds())
				}
				got = append(got, text)
			}
			if changed != step.changed || !slices.Equal(got, step.want) || !l.Settled() {
				t.Errorf("%s: it knows %q, changed is %t", step.story, got, changed)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestListingTalksToNobody, and ends with its context.
func TestListingTalksToNobody(t *testing.T) {
	l := NewListing(nil, "node1")
	if l.Ping(t.Context(), "node2") == nil {
		t.Error("somebody answers a ping")
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}
