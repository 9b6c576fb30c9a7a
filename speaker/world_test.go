package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/bgp"
	"github.com/berth-lb/berth/internal/speaker/inputs"
	"github.com/berth-lb/berth/internal/speaker/layer2"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// world is the speaker of node1 without sockets and goroutines: a test says
// what is looked at when.
type world struct {
	*speakertest.World
	t   *testing.T
	api client.Client

	tracker   *members.Tracker
	joiner    *members.Joiner
	claimed   *members.Claims
	layer2    *layer2.Controller
	outcomes  *outcomes // of layer 2
	object    *report.Object
	renewer   *report.Renewer
	source    *inputs.Source
	cluster   *cluster.Reader
	readiness *report.Readiness
	loops     kube.Loops
	config    *cluster.Config
	queue     *reconcile.Queue
	loop      *reconcile.Loop
	bgp       *bgp.Controller
	sessions  *fakeSessions
}

const namespace = clustertest.Namespace

// What nearly every story is told with.
var (
	address = clustertest.Address
	node    = clustertest.Node
	service = clustertest.Service
	link    = speakertest.Link
	written = speakertest.Speaker
	still   = speakertest.Still
)

// newWorld starts the speaker of node1, which is alone and does not probe
// before it announces.
func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	return newWorldWith(t, func(*members.Config) {}, objects...)
}

// newWorldWith is newWorld with other settings.
func newWorldWith(t *testing.T, change func(*members.Config), objects ...client.Object) *world {
	t.Helper()
	w := unsettledWorld(t, v1beta1.SpeakerStatus{}, change, objects...)
	w.readiness.Settled().Set()
	w.tracker.SetStage(announcement.StageReady)
	w.see()
	return w
}

// unsettledWorld is a speaker that has just been started. last is what the one before it
// wrote.
func unsettledWorld(
	t *testing.T, last v1beta1.SpeakerStatus, change func(*members.Config), objects ...client.Object,
) *world {
	t.Helper()
	w := &world{
		World:    speakertest.NewWorld(t, "node1"),
		t:        t,
		api:      clustertest.New(t, objects...),
		config:   cluster.NewConfig(),
		queue:    reconcile.NewQueue(),
		sessions: &fakeSessions{},
	}
	w.config.Set(speakertest.Everything(), time.Now())
	log := slog.New(slog.DiscardHandler)
	w.claimed = members.NewClaims(w, members.MaxBlocks, reconcile.PartSize, log)
	c := w.trackerConfig()
	change(&c)
	w.Node = c.Node
	var err error
	if w.tracker, err = members.New(c); err != nil {
		t.Fatal(err)
	}
	w.joiner = members.NewJoiner(members.JoinerConfig{Membership: w, Status: c.Status, Log: log})
	w.cluster = cluster.NewReader(w.api, "", namespace, nil)
	w.readiness = report.NewReadiness(w.config.Known())
	emitted := reconcile.NewServiceEvents(w.api, w)
	rules := notify.NewLatch()
	rules.Set()
	w.bgp = bgp.New(t.Context(), bgp.Config{
		Node:    c.Node,
		Cluster: w.cluster,
		Config:  w.config,
		Settled: w.readiness.Settled(),
		Queue:   w.queue,
		Links:   w,
		Speaker: w.sessions,
		BFD:     noBFD{},
		Events:  w,
		Status:  w.Status,
		Loops:   &w.loops,
		Logger:  log,
		BootID:  "this boot",

		ProxyRules: rules,
	})
	before := presence.ParseObject(&v1beta1.Speaker{Status: last}, c.Node)
	w.layer2 = layer2.New(t.Context(), layer2.Config{
		Node:      c.Node,
		Config:    w.config,
		Settled:   w.readiness.Settled(),
		Members:   w.tracker,
		Claims:    w.claimed,
		Links:     w,
		Announcer: w,
		Prober:    speakertest.NoProber{},
		Queue:     w.queue,
		Events:    emitted,
		Status:    w.Status,
		Logger:    log,
		Before:    before.State.Claims,
		HandOver:  3 * time.Second,
	})
	w.source = inputs.New(inputs.Config{
		Node:    c.Node,
		Cluster: w.cluster,
		Config:  w.config,
		Settled: w.readiness.Settled(),
		Members: w.tracker,
		Urgency: w.layer2,
	})
	w.object = w.newObject(w.joiner, c, last)
	w.renewer = report.NewRenewer(report.RenewerConfig{
		Object:    w.object,
		Claimant:  w.layer2,
		Events:    w,
		Isolation: 5 * time.Minute,
		Logger:    log,
	})
	w.outcomes = newOutcomes(w.layer2)
	w.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      w.queue,
		Source:     w.source,
		Protocols:  []reconcile.Protocol{w.bgp, w.outcomes},
		Warnings:   reconcile.NewWarnings(emitted),
		Configured: w.config.Known(),
		Loops:      &w.loops,
		Logger:     log,
	})
	return w
}

// newObject is the Speaker object of a speaker that takes part in the membership by joiner.
func (w *world) newObject(
	joiner *members.Joiner, c members.Config, last v1beta1.SpeakerStatus,
) *report.Object {
	return report.New(report.Config{
		Node:          c.Node,
		Address:       netip.MustParseAddrPort("192.0.2.1:7947"),
		Profile:       membership.Balanced,
		Cached:        w.cluster,
		Live:          w.api,
		Writer:        w.api,
		Ready:         w.readiness,
		Members:       w.tracker,
		Joiner:        joiner,
		Sections:      []report.Section{w.layer2, w.bgp},
		Status:        w.Status,
		Logger:        slog.New(slog.DiscardHandler),
		IgnoreExclude: c.IgnoreExclude,
		IgnoreCordon:  c.IgnoreCordon,
		Last:          last,
	})
}

// trackerConfig are the settings of a tracker for which the world is everything.
func (w *world) trackerConfig() members.Config {
	return members.Config{
		Node:          "node1",
		Grace:         speakertest.Graces,
		ExcludeLinks:  links.DefaultExclude(),
		Configuration: w.config,
		Membership:    w,
		Links:         w,
		Prober:        w,
		Announcer:     w,
		Dialer:        w,
		Room:          w,
		Requeue:       w,
		Status:        notify.NewSignal(),
		Log:           slog.New(slog.DiscardHandler),
	}
}

// IsFull tells whether node1 can publish more claims.
func (w *world) IsFull() bool { return w.claimed.IsFull() }

// died is [speakertest.World.Dies], after which the speaker of the member is pinged.
func (w *world) died(name string, kernelAnswers bool) {
	w.Dies(name, kernelAnswers)
	w.tracker.Ping(w.t.Context(), name)
}

// see makes a new snapshot of the links and the others.
func (w *world) see() { w.See(w.tracker) }

// reads has the tracker read Speaker objects.
func (w *world) reads(objects ...*v1beta1.Speaker) {
	w.t.Helper()
	speakertest.Replace(w.t, w.api, objects...)
	if err := members.NewObjects(w.api, w.tracker).Read(w.t.Context(), w.api); err != nil {
		w.t.Fatal(err)
	}
	w.see()
}

// claimsOf is what a Speaker object tells of what its node owns.
func claimsOf(l v1beta1.SpeakerLayer2) map[netip.Addr]announcement.Claim {
	return presence.ParseObject(&v1beta1.Speaker{Status: v1beta1.SpeakerStatus{Layer2: l}}, "").State.Claims
}

// suspects has an object list a node whose speaker its own does not hear.
func suspects(node string, reason v1beta1.Reason) func(*v1beta1.SpeakerStatus) {
	since := metav1.NewTime(time.Now().Truncate(time.Second))
	return func(s *v1beta1.SpeakerStatus) {
		s.AbsentMembers = append(s.AbsentMembers, v1beta1.AbsentMember{
			Name:     node,
			Presence: v1beta1.MemberHeld,
			Reason:   string(reason),
			Since:    since,
		})
	}
}

// look has an address looked at, after the links and the members. It returns
// after how long it is to be looked at again, 0 for never.
func (w *world) look() time.Duration {
	w.t.Helper()
	w.see()
	if err := w.loop.Reconcile(w.t.Context(), []netip.Addr{address}); err != nil {
		w.t.Fatal(err)
	}
	if again := w.outcomes.last[address].Recheck; !again.IsZero() {
		return max(time.Until(again), 1)
	}
	return 0
}

// announces gives a Service an address and has node1 announce it.
func (w *world) announces(addr string) {
	w.t.Helper()
	for _, o := range serviceAt("at-"+strings.ReplaceAll(addr, ".", "-"), netip.MustParseAddr(addr)) {
		if err := w.api.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.loop.Reconcile(w.t.Context(), []netip.Addr{netip.MustParseAddr(addr)}); err != nil {
		w.t.Fatal(err)
	}
	if got := w.outcomes.last[netip.MustParseAddr(addr)]; !got.Announce {
		w.t.Fatalf("%s is not announced: %+v", addr, got)
	}
}

// hears has the announcer hear that a host claims an address.
func (w *world) hears(addr string, mac byte) {
	w.Heard = append(w.Heard, speakertest.ConflictAt(netip.MustParseAddr(addr), mac, time.Now()))
}

// reason is why address is announced, or not.
func (w *world) reason() v1beta1.Reason { return w.outcomes.last[address].Reason }

// isMember tells in one line what is known of a member.
func (w *world) isMember(name string) string {
	f, known := w.tracker.Current().Members[name]
	if !known {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s)", f.Presence, f.Reason)
}

// clientKey is the key of an object that has no namespace.
func clientKey(name string) client.ObjectKey { return client.ObjectKey{Name: name} }

// serviceAt is a Service that has an address, and its EndpointSlice.
func serviceAt(name string, addr netip.Addr) []client.Object {
	objects := service(name)
	objects[0].(*corev1.Service).Status.LoadBalancer.Ingress[0].IP = addr.String()
	return objects
}
