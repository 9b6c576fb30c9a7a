package main

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/pkg/announcement"
)

// process is the speaker of a world with a membership that does not run, so
// that nobody hears what it says.
func (w *world) process() *speaker {
	return &speaker{
		settings: processSettings{Node: w.Node, HandOver: 3 * time.Second},
		log:      slog.New(slog.DiscardHandler),
		live:     w.api,
		cluster:  w.cluster,
		config:   w.config,
		ready:    w.readiness,
		status:   w.Status,
		loops:    &w.loops,
		tracker:  w.tracker,
		member:   &member{},
		joiner:   w.joiner,
		renewer:  w.renewer,
		layer2:   w.layer2,
		bgp:      w.bgp,
		queue:    w.queue,
		loop:     w.loop,
		source:   w.source,
		object:   w.object,
	}
}

// nodeThat is a node with a change.
func nodeThat(name string, change func(*corev1.Node)) *corev1.Node {
	n := node(name)
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	change(n)
	return n
}

func TestNodeLeaves(t *testing.T) {
	for _, test := range []struct {
		story  string
		node   client.Object
		leaves bool
	}{
		{"only the speaker ends", nodeThat("node1", func(*corev1.Node) {}), false},
		{"it is drained", nodeThat("node1", func(n *corev1.Node) { n.Spec.Unschedulable = true }), true},
		{"it is excluded", nodeThat("node1", func(n *corev1.Node) {
			n.Labels = map[string]string{v1beta1.LabelExcludeNode: ""}
		}), true},
		{"the machine shuts down", nodeThat("node1", func(n *corev1.Node) {
			n.Status.Conditions[0].Status = corev1.ConditionFalse
			n.Status.Conditions[0].Message = "node is shutting down"
		}), true},
		{"it is not ready for another reason", nodeThat("node1", func(n *corev1.Node) {
			n.Status.Conditions[0].Status = corev1.ConditionFalse
		}), false},
		{"another node is drained",
			nodeThat("node4", func(n *corev1.Node) { n.Spec.Unschedulable = true }), false},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, test.node, node("node2"))
			w.Publishes("node2")
			w.see()
			sp := w.process()
			if got := sp.nodeLeaves(); got != test.leaves {
				t.Errorf("it leaves is %t", got)
			}
		})
	}
	drained := nodeThat("node1", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	w := newWorldWith(t, func(c *members.Config) { c.IgnoreCordon = true }, drained)
	if sp := w.process(); sp.nodeLeaves() {
		t.Error("it is drained, and ignores a cordon: it leaves")
	}
	labelled := nodeThat("node1", func(n *corev1.Node) {
		n.Labels = map[string]string{v1beta1.LabelExcludeNode: ""}
	})
	w = newWorld(t, labelled)
	if sp := w.process(); sp.nodeLeaves() {
		t.Error("it has the label that all nodes have: it leaves")
	}
}

// TestOnlySuspicionsOfReadyNodesCount: what a node that is down says is what it said
// before it died, and it cannot hear a renewal.
func TestOnlySuspicionsOfReadyNodesCount(t *testing.T) {
	down := nodeThat("node2", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse })
	unknown := nodeThat("node3", func(n *corev1.Node) {
		n.Status.Conditions[0].Status = corev1.ConditionUnknown
	})
	up := nodeThat("node4", func(*corev1.Node) {})
	for _, test := range []struct {
		story string
		nodes []string
		want  bool
	}{
		{"nobody suspects it", nil, false},
		{"one that is down", []string{"node2"}, false},
		{"one that nobody knows of", []string{"node3"}, false},
		{"one that is deleted", []string{"node9"}, false},
		{"one of them is up", []string{"node2", "node3", "node4", "node9"}, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, nodeThat("node1", func(*corev1.Node) {}), down, unknown, up)
			var objects []*v1beta1.Speaker
			for _, name := range test.nodes {
				objects = append(objects, written(name, suspects("node1", v1beta1.ReasonNodeHeld)))
			}
			w.reads(objects...)
			w.renewer.Check(t.Context())
			var own v1beta1.Speaker
			if err := client.IgnoreNotFound(w.api.Get(t.Context(), clientKey("node1"), &own)); err != nil {
				t.Fatal(err)
			}
			if renewed := own.Status.RenewTime != nil; renewed != test.want {
				t.Errorf("the object was renewed: %t", renewed)
			}
		})
	}
}

// How often a speaker looks whether another suspects it, and how often one that
// is suspected renews its object.
const (
	checkInterval = 500 * time.Millisecond
	renewInterval = 8 * time.Second
)

// TestEachSuspicionIsAnswered: a member believes only what is written after it
// began to suspect it, and it waits no longer than a silence lasts.
func TestEachSuspicionIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nodeThat("node1", func(*corev1.Node) {}), nodeThat("node2", func(*corev1.Node) {}),
			nodeThat("node3", func(*corev1.Node) {}))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.renewer.Run(ctx) }()
		time.Sleep(checkInterval / 2) // what is seen below is not of the same moment
		last := time.Time{}
		for _, step := range []struct {
			story   string
			objects func() []*v1beta1.Speaker
			after   time.Duration
			renews  bool
		}{
			{"nobody suspects it", func() []*v1beta1.Speaker {
				return []*v1beta1.Speaker{written("node2")}
			}, time.Minute, false},
			{"it suspects another", func() []*v1beta1.Speaker {
				return []*v1beta1.Speaker{written("node2", suspects("node3", v1beta1.ReasonNodeHeld))}
			}, time.Minute, false},
			{"it thinks that this node's kernel is silent", func() []*v1beta1.Speaker {
				return []*v1beta1.Speaker{written("node2", suspects("node1", v1beta1.ReasonNodeSilent))}
			}, time.Minute, false},
			{"it does not hear this one", func() []*v1beta1.Speaker {
				return []*v1beta1.Speaker{written("node2", suspects("node1", v1beta1.ReasonNodeHeld))}
			}, checkInterval, true},
			{"still", nil, renewInterval - checkInterval, false},
			{"it must hear again now and then", nil, checkInterval, true},
			{"another does not hear it either", func() []*v1beta1.Speaker {
				return []*v1beta1.Speaker{
					written("node2", suspects("node1", v1beta1.ReasonNodeHeld)),
					written("node3", suspects("node1", v1beta1.ReasonNodeHeld)),
				}
			}, time.Second, true},
			{"the first did, and does not any more", func() []*v1beta1.Speaker {
				return []*v1beta1.Speaker{
					written("node2", suspects("node1", v1beta1.ReasonNodeHeld)),
					written("node3", suspects("node1", v1beta1.ReasonNodeHeld)),
				}
			}, checkInterval, true},
			{"all hear it", func() []*v1beta1.Speaker {
				return []*v1beta1.Speaker{written("node2"), written("node3")}
			}, time.Minute, false},
		} {
			if step.objects != nil {
				w.reads(step.objects()...)
			}
			time.Sleep(step.after)
			synctest.Wait()
			at := last
			var own v1beta1.Speaker
			if w.api.Get(ctx, client.ObjectKey{Name: "node1"}, &own) == nil && own.Status.RenewTime != nil {
				at = own.Status.RenewTime.Time
			}
			if got := !at.Equal(last); got != step.renews {
				t.Errorf("%s: it renews its object is %t", step.story, got)
			}
			last = at
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestStoppingSpeakerPublishesThatItLeaves: a speaker that is stopped announces that
// before it stops, and takes no longer than it must.
func TestStoppingSpeakerPublishesThatItLeaves(t *testing.T) {
	drained := nodeThat("node1", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	stays := nodeThat("node1", func(*corev1.Node) {})
	for _, test := range []struct {
		story  string
		node   client.Object
		change func(*world)
		owns   time.Duration // for how long, after it leaves
		stage  announcement.Stage
		took   time.Duration
	}{
		{"it is alone",
			drained, func(w *world) { delete(w.Others, "node2") }, time.Hour, announcement.StageReady, 0},
		{"its only member restarts", drained, func(w *world) {
			w.Publishes("node2", "stage=restarting")
		}, time.Hour, announcement.StageReady, 0},
		{"it restarts, and nobody is there: who comes back reads it", stays, func(w *world) {
			w.Publishes("node2", "stage=restarting")
		}, time.Hour, announcement.StageRestarting, 0},
		{"it restarts: a member stands in soon",
			stays, func(*world) {}, time.Hour, announcement.StageRestarting, standInTime},
		{"the node is drained: others take over", drained, func(*world) {},
			45 * time.Millisecond, announcement.StageLeaving, 50 * time.Millisecond},
		{"and it owns nothing", drained, func(*world) {}, 0, announcement.StageLeaving, 0},
		{"and nobody takes over",
			drained, func(*world) {}, time.Hour, announcement.StageLeaving, 4 * time.Second},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(service("web"), test.node,
					nodeThat("node2", func(*corev1.Node) {}))...)
				w.look() // and it owns the address
				w.Publishes("node2")
				test.change(w)
				w.see()
				sp, before := w.process(), w.queue.RequeueAll()
				begin := time.Now()
				gaveUp := func() { w.yields("node2") }
				if test.owns == 0 {
					gaveUp()
				} else {
					defer time.AfterFunc(test.owns, gaveUp).Stop()
				}
				sp.leave(false)
				if took := time.Since(begin); took != test.took {
					t.Errorf("it took %s, want %s", took, test.took)
				}
				if got := sp.tracker.Stage(); got != test.stage {
					t.Errorf("it says that it is %s", got)
				}
				leaves := test.stage == announcement.StageLeaving
				self := sp.tracker.Around().Speakers["node1"]
				if (self.Presence == announcement.Leaving) != leaves {
					t.Errorf("it is %s", self.Presence)
				}
				if all := w.queue.RequeueAll() - before - 1; (all > 0) != leaves {
					t.Errorf("all was requeued %d times", all)
				}
			})
		})
	}
}

// TestIsAlone: a speaker waits for its successor where nobody can stand in for it.
func TestIsAlone(t *testing.T) {
	for _, test := range []struct {
		story string
		node  *corev1.Node
		other bool // another speaker is there
		owns  bool
		want  bool
	}{
		{"the only node", nodeThat("node1", func(*corev1.Node) {}), false, true, true},
		{"it owns nothing", nodeThat("node1", func(*corev1.Node) {}), false, false, false},
		{"another speaker stands in", nodeThat("node1", func(*corev1.Node) {}), true, true, false},
		{"the machine shuts down", nodeThat("node1", func(n *corev1.Node) {
			n.Status.Conditions[0].Status = corev1.ConditionFalse
			n.Status.Conditions[0].Message = "node is shutting down"
		}), false, true, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			objects := []client.Object{test.node}
			if test.owns {
				objects = append(objects, service("web")...)
			}
			w := newWorld(t, objects...)
			w.look()
			if test.other {
				w.Publishes("node2")
				w.see()
			}
			if got := w.process().isAlone(); got != test.want {
				t.Errorf("it is alone is %t", got)
			}
		})
	}
}

// TestLeaveBeforeItHasSettled: it has nothing to hand over, and says nothing.
func TestLeaveBeforeItHasSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drained := nodeThat("node1", func(n *corev1.Node) { n.Spec.Unschedulable = true })
		w := unsettledWorld(t, v1beta1.SpeakerStatus{}, func(*members.Config) {},
			append(service("web"), drained)...)
		w.tracker.SetStage(announcement.StageStarting)
		w.Publishes("node2")
		w.see()
		begin := time.Now()
		w.process().leave(false)
		if took := time.Since(begin); took != 0 || w.tracker.Stage() != announcement.StageStarting {
			t.Errorf("it took %s, and says that it is %s", took, w.tracker.Stage())
		}
	})
}

// yields has another node take the address over, and node1 see that.
func (w *world) yields(node string) {
	w.Publishes(node, "claim/192.0.2.10=9")
	w.look()
}
