package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/inputs"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/pkg/announcement"
)

// bgpOnly is the speaker of node1 that does not announce by layer 2. What it does at layer 2
// all the same, the world would see.
func bgpOnly(t *testing.T, objects ...client.Object) (*world, *speaker) {
	t.Helper()
	w := newWorld(t, objects...)
	log := slog.New(slog.DiscardHandler)
	listing := members.NewListing(w.api, w.Node)
	c := w.trackerConfig()
	off := members.NoLayer2{}
	c.Membership, c.Prober, c.Announcer, c.Room, c.Requeue = listing, off, off, off, w.queue
	tracker, err := members.New(c)
	if err != nil {
		t.Fatal(err)
	}
	sp := w.process()
	sp.settings.BGP = true
	sp.member, sp.layer2, sp.listing, sp.tracker = nil, nil, listing, tracker
	sp.peers = members.NewListedObjects(w.api, tracker)
	sp.source = inputs.New(sp.sourceConfig())
	sp.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      w.queue,
		Source:     sp.source,
		Protocols:  sp.protocols(),
		Warnings:   reconcile.NewWarnings(reconcile.NewServiceEvents(w.api, w)),
		Configured: w.config.Known(),
		Loops:      &w.loops,
		Logger:     log,
	})
	sp.object = report.New(report.Config{
		Node:      w.Node,
		Protocols: sp.settings.protocols().Names(),
		Cached:    w.cluster,
		Live:      w.api,
		Writer:    w.api,
		Ready:     w.readiness,
		Members:   tracker,
		Sections:  []report.Section{w.bgp},
		Status:    w.Status,
		Logger:    log,
	})
	return w, sp
}

// readOthers has a speaker read which others there are.
func (w *world) readOthers(sp *speaker) {
	w.t.Helper()
	if _, err := sp.listing.Reconcile(w.t.Context(), ctrlreconcile.Request{}); err != nil {
		w.t.Fatal(err)
	}
	if err := sp.peers.Read(w.t.Context(), w.api); err != nil {
		w.t.Fatal(err)
	}
	sp.tracker.Evaluate(w.t.Context())
}

// TestWithoutLayer2AddressesAreAnnouncedByBGP, and the Speaker object says that there is no
// membership.
func TestWithoutLayer2AddressesAreAnnouncedByBGP(t *testing.T) {
	former := written("node1")
	for _, kind := range []string{v1beta1.ConditionMembersReachable, v1beta1.ConditionAddressesClear} {
		was := kube.Condition(kind, true, "Former", "So it was.", 0)
		meta.SetStatusCondition(&former.Status.Conditions, was)
	}
	w, sp := bgpOnly(t, slices.Concat(service("web"), routed(),
		[]client.Object{nodeThat("node1", func(*corev1.Node) {}), former})...)
	w.configure()
	w.readOthers(sp)
	if err := sp.loop.Reconcile(t.Context(), []netip.Addr{address}); err != nil {
		t.Fatal(err)
	}
	if got := w.byBGP(); !slices.Equal(got, []string{address.String()}) {
		t.Errorf("announced by BGP is %q", got)
	}
	if len(w.Given) > 0 || len(w.Published) > 0 && w.ClaimsPublished > 0 {
		t.Errorf("by layer 2 it announced %q, and published claims %d times", w.Given, w.ClaimsPublished)
	}
	if err := sp.object.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	var s v1beta1.Speaker
	if err := w.api.Get(t.Context(), client.ObjectKey{Name: "node1"}, &s); err != nil {
		t.Fatal(err)
	}
	if s.Status.MemberAddress != "" || s.Status.MemberProfile != "" ||
		!slices.Equal(s.Status.Protocols, []v1beta1.Protocol{v1beta1.ProtocolBGP}) {
		t.Errorf("the object says %+v", s.Status)
	}
	if len(s.Status.Conditions) != 1 || s.Status.Conditions[0].Type != v1beta1.ConditionReady {
		t.Errorf("it has the conditions %+v", s.Status.Conditions)
	}
}

// TestWithoutLayer2ServicesAreWarned that only an L2Advertisement is for, by one node.
func TestWithoutLayer2ServicesAreWarned(t *testing.T) {
	other := func(name string, change func(*corev1.Node)) []client.Object {
		return []client.Object{nodeThat(name, change), written(name, in(v1beta1.StageReady))}
	}
	for _, test := range []struct {
		story  string
		others []client.Object
		want   []string
	}{
		{"this node is the first", other("node2", ready), []string{"web Warning NoAdvertisement"}},
		{"another is", other("node0", ready), nil},
		{"another was, and its node died", other("node0", dead), []string{"web Warning NoAdvertisement"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l2 := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
				w, sp := bgpOnly(t, slices.Concat(service("web"), test.others,
					[]client.Object{nodeThat("node1", ready), l2})...)
				w.readOthers(sp)
				for range 3 {
					if err := sp.loop.Reconcile(t.Context(), []netip.Addr{address}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(6 * time.Second)
					sp.tracker.Evaluate(t.Context())
				}
				if !slices.Equal(w.Emitted, test.want) {
					t.Errorf("emitted %q, want %q", w.Emitted, test.want)
				}
				if len(w.Notes) > 0 && !strings.Contains(w.Notes[0], "--layer2=false") {
					t.Errorf("it says %q", w.Notes)
				}
			})
		})
	}
}

func ready(*corev1.Node) {}

func dead(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }

// TestWithoutLayer2ASpeakerSettlesAndEnds without waiting for a membership.
func TestWithoutLayer2ASpeakerSettlesAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sp := bgpOnly(t, append(service("web"), nodeThat("node1", ready))...)
		w.readOthers(sp)
		sp.tracker.Settle(t.Context(), time.Minute)
		if sp.isAlone() || sp.owns() {
			t.Error("it owns addresses")
		}
		sp.resume(t.Context())
		sp.leave(true)
		if got := sp.tracker.Stage(); got != announcement.StageRestarting {
			t.Errorf("the stage is %s", got)
		}
		sp.leaveLayer2(true)
		if got := sp.tracker.Stage(); got != announcement.StageLeaving {
			t.Errorf("of a node that leaves the stage is %s", got)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := sp.listing.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestWhatIsReadForEachProtocol: a speaker needs no right to what it does not read.
func TestWhatIsReadForEachProtocol(t *testing.T) {
	for _, test := range []struct {
		story     string
		protocols kube.Protocols
		want      []string
	}{
		{"both", kube.Protocols{Layer2: true, BGP: true}, []string{
			"BFDProfile", "BGPAdvertisement", "BGPPeer", "Community", "IPAddressPool", "L2Advertisement",
			"Secret",
		}},
		{"layer 2", kube.Protocols{Layer2: true}, []string{"IPAddressPool", "L2Advertisement"}},
		{"BGP", kube.Protocols{BGP: true}, []string{
			"BFDProfile", "BGPAdvertisement", "BGPPeer", "Community", "IPAddressPool", "Secret",
		}},
	} {
		t.Run(test.story, func(t *testing.T) {
			read := &listed{}
			if _, err := cluster.NewReader(read, "", namespace, nil).Of(test.protocols).
				ConfigObjects(t.Context()); err != nil {
				t.Fatal(err)
			}
			slices.Sort(read.kinds)
			if !slices.Equal(read.kinds, test.want) {
				t.Errorf("it reads %q, want %q", read.kinds, test.want)
			}
		})
	}
}

// listed is a cache that notes the kinds that are listed.
type listed struct {
	client.Reader
	kinds []string
}

// List implements client.Reader.
func (l *listed) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	gvk, err := apiutil.GVKForObject(into, kube.Scheme())
	l.kinds = append(l.kinds, strings.TrimSuffix(gvk.Kind, "List"))
	return err
}
