package layer2

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/inputs"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// world is the speaker of node1 without sockets and goroutines: a test says
// what is looked at when.
type world struct {
	*speakertest.World
	t     *testing.T
	api   client.Client
	asked []string // "address links" that the LAN was to be probed for

	memory    *memory
	tracker   *members.Tracker
	claimed   *members.Claims
	c         *Controller
	conflicts *conflicts
	config    *cluster.Config
	settled   notify.Latch
	loops     kube.Loops
	loop      *reconcile.Loop
}

const namespace = clustertest.Namespace

// What nearly every story is told with.
var (
	address = clustertest.Address
	start   = speakertest.Start
	node    = clustertest.Node
	service = clustertest.Service
	link    = speakertest.Link
	net6    = speakertest.MAC
	written = speakertest.Speaker
)

// newWorld starts the speaker of node1, which is alone and does not probe
// before it announces.
func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	return newWorldWith(t, func(*members.Config) {}, objects...)
}

// newWorldOf starts the speaker of nodeN, whose link is as others see it.
func newWorldOf(t *testing.T, node string, objects ...client.Object) *world {
	t.Helper()
	w := newWorldWith(t, func(c *members.Config) { c.Node = node }, objects...)
	w.Local = []links.Link{speakertest.LinkOf(node)}
	return w
}

// newWorldWith is newWorld with other settings.
func newWorldWith(t *testing.T, change func(*members.Config), objects ...client.Object) *world {
	t.Helper()
	w := unsettledWorld(t, change, objects...)
	w.settled.Set()
	return w
}

// unsettledWorld is a speaker that does not know yet which others are alive.
func unsettledWorld(t *testing.T, change func(*members.Config), objects ...client.Object) *world {
	t.Helper()
	w := &world{
		World:   speakertest.NewWorld(t, "node1"),
		t:       t,
		api:     clustertest.New(t, objects...),
		config:  cluster.NewConfig(),
		settled: notify.NewLatch(),
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
	reader := cluster.NewReader(w.api, "", namespace, nil)
	emitted := reconcile.NewServiceEvents(w.api, w)
	queue := reconcile.NewQueue()
	w.c = New(t.Context(), Config{
		Node:      c.Node,
		Config:    w.config,
		Settled:   w.settled,
		Members:   w.tracker,
		Claims:    w.claimed,
		Links:     w,
		Announcer: w,
		Prober:    speakertest.NoProber{},
		Queue:     queue,
		Events:    emitted,
		Status:    w.Status,
		Logger:    log,
		HandOver:  3 * time.Second,
	})
	w.c.asking = w // a test answers what is asked
	w.memory, w.conflicts = w.c.view.memory, w.c.conflicts
	w.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue: queue,
		Source: inputs.New(inputs.Config{
			Node:    c.Node,
			Cluster: reader,
			Config:  w.config,
			Settled: w.settled,
			Members: w.tracker,
			Urgency: w.c,
		}),
		Protocols:  []reconcile.Protocol{w.c},
		Warnings:   reconcile.NewWarnings(emitted),
		Configured: w.config.Known(),
		Loops:      &w.loops,
		Logger:     log,
	})
	w.tracker.SetStage(announcement.StageReady)
	w.see()
	return w
}

// object is what the Speaker object says of layer 2.
func (w *world) object() v1beta1.SpeakerStatus {
	var s v1beta1.SpeakerStatus
	w.c.Status(&s)
	return s
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

// start makes the world its own asker.
func (w *world) start(addr netip.Addr, on []string) {
	w.asked = append(w.asked, addr.String()+" "+strings.Join(on, ","))
}

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

// look has an address looked at, after the links and the members. It returns
// after how long it is to be looked at again, 0 for never.
func (w *world) look() time.Duration {
	w.t.Helper()
	w.see()
	if err := w.loop.Reconcile(w.t.Context(), []netip.Addr{address}); err != nil {
		w.t.Fatal(err)
	}
	if again := w.memory.of(address).Recheck; !again.IsZero() {
		return max(time.Until(again), 1)
	}
	return 0
}

// claims checks what node1 says of address; "" for nothing.
func (w *world) claims(want string) {
	w.t.Helper()
	if got := speakertest.ClaimIn(w.Published, address); got != want {
		w.t.Errorf("node1 claims %q, want %q", got, want)
	}
}

// reason is why address is announced, or not.
func (w *world) reason() v1beta1.Reason { return w.memory.of(address).Reason }

// isMember tells in one line what is known of a member.
func (w *world) isMember(name string) string {
	f, known := w.tracker.Current().Members[name]
	if !known {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s)", f.Presence, f.Reason)
}

// ready says of the only endpoint of a Service whether it is.
func (w *world) ready(service string, ready bool) {
	w.t.Helper()
	clustertest.Ready(w.t, w.api, service, ready)
}

// answered has the LAN asked for an address, or answers the question.
func answered(m *memory, addr netip.Addr, state announcement.ProbeState, holder net.HardwareAddr) {
	if state == announcement.ProbeAsking {
		m.startProbe(addr)
		return
	}
	m.setProbe(addr, m.of(addr).asking, announcement.Probe{State: state, Holder: holder})
}
