package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp"
)

// fakeSessions are BGP sessions without a network, that are up as soon as they are wanted.
type fakeSessions struct {
	desired []bgp.Desired
	left    bool
}

// Run does nothing until ctx ends.
func (*fakeSessions) Run(ctx context.Context) { <-ctx.Done() }

// Set remembers what the peers are to be told.
func (f *fakeSessions) Set(desired []bgp.Desired, _ bool) uint64 {
	f.desired = desired
	return 1
}

// SetLiveness does nothing.
func (*fakeSessions) SetLiveness(map[string]bgp.Liveness) {}

// State returns a session for each peer.
func (f *fakeSessions) State() []bgp.Session {
	var out []bgp.Session
	for _, d := range f.desired {
		out = append(out, bgp.Session{
			Peer:  d.Peer.Name,
			State: bgp.SessionEstablished,
			Since: time.Unix(1000, 0),
		})
	}
	return out
}

// Changed never says anything.
func (*fakeSessions) Changed() <-chan struct{} { return nil }

// Leave remembers that the sessions have ended for good.
func (f *fakeSessions) Leave(context.Context) { f.left = true }

// noBFD is BFD without sessions.
type noBFD struct{}

// Run does nothing until ctx ends.
func (noBFD) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Set does nothing.
func (noBFD) Set(map[bfd.Key]bfd.SessionConfig) error { return nil }

// State returns no sessions.
func (noBFD) State() []bfd.Status { return nil }

// Changed never says anything.
func (noBFD) Changed() <-chan struct{} { return nil }

// Stats returns nothing.
func (noBFD) Stats() bfd.Stats { return bfd.Stats{} }

// routed are a BGPPeer and a BGPAdvertisement of everything.
func routed() []client.Object {
	return []client.Object{
		clustertest.Pool(),
		&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "all", UID: "all"}},
		&v1beta1.BGPPeer{
			ObjectMeta: metav1.ObjectMeta{Name: "tor", UID: "tor"},
			Spec:       v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.254"},
		},
	}
}

// configure reads the configuration again.
func (w *world) configure() {
	w.t.Helper()
	objects, err := w.cluster.ConfigObjects(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.config.Set(objects, time.Now())
	w.bgp.ConfigChanged()
}

// byBGP returns the addresses that node1 announces by BGP.
func (w *world) byBGP() []string {
	var s v1beta1.SpeakerStatus
	w.bgp.Status(&s)
	return s.BGP.Addresses
}

func TestBothWaysAtOnce(t *testing.T) {
	l2 := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
	w := newWorld(t, slices.Concat(service("web"), routed(), []client.Object{node("node1"), l2})...)
	announced := func() {
		t.Helper()
		if got := w.byBGP(); !slices.Equal(got, []string{address.String()}) {
			t.Errorf("announced by BGP is %q", got)
		}
	}
	w.configure()
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	announced()
	// Layer 2 goes away, and BGP stays.
	if err := w.api.Delete(t.Context(), l2); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.look()
	w.Did("192.0.2.10", true, "web Normal Withdrawn")
	announced()
	// Another speaker that owns it at layer 2 does not matter to BGP either.
	w.Publishes("node2", "claim/192.0.2.10=9 0")
	w.look()
	announced()
}

// TestOnlyBGPAnnouncesIt: that layer 2 does not is no trouble, and no news.
func TestOnlyBGPAnnouncesIt(t *testing.T) {
	w := newWorld(t, slices.Concat(service("web"), routed(), []client.Object{node("node1")})...)
	w.configure()
	w.look()
	w.Did("192.0.2.10", true)
	if got := w.byBGP(); len(got) != 1 {
		t.Errorf("announced by BGP is %q", got)
	}
}

func TestSpeakerLeavesItsSessionsOnlyWithItsNode(t *testing.T) {
	for _, test := range []struct {
		story string
		node  *corev1.Node
		left  bool
	}{
		{"a restart", nodeThat("node1", func(*corev1.Node) {}), false},
		{"a drain", nodeThat("node1", func(n *corev1.Node) { n.Spec.Unschedulable = true }), true},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, slices.Concat(service("web"), routed(), []client.Object{test.node})...)
			sp := w.process()
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- w.bgp.Run(ctx) }()
			go func() { done <- w.loop.Run(ctx) }()
			w.configure()
			established := func() bool {
				var s v1beta1.SpeakerStatus
				w.bgp.Status(&s)
				return s.BGP.Established == 1 && s.BGP.BootID != ""
			}
			for deadline := time.Now().Add(10 * time.Second); !established(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("there is no session")
				}
			}
			sp.leave(false) // without other speakers
			if w.sessions.left != test.left {
				t.Errorf("the sessions have ended for good: %t", w.sessions.left)
			}
			stop()
			for range 2 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if err := w.object.Run(still()); err != nil {
				t.Fatal(err)
			}
			var s v1beta1.Speaker
			if err := w.api.Get(t.Context(), types.NamespacedName{Name: "node1"}, &s); err != nil {
				t.Fatal(err)
			}
			if len(s.Status.BGP.Sessions) > 0 || s.Status.BGP.Count > 0 {
				t.Errorf("a speaker that has stopped lists %+v", s.Status.BGP)
			}
			// The next one asks peers to go on if there is something to go on with.
			for boot, want := range map[string]bool{"this boot": !test.left, "another": false, "": false} {
				before, err := report.LastStatus(t.Context(), w.api, "node1", slog.New(slog.DiscardHandler))
				if got := report.HadSessions(before, boot); err != nil || got != want {
					t.Errorf("in boot %q it had sessions: %t, %v", boot, got, err)
				}
			}
		})
	}
}
