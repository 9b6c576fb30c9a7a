package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// world is BGP of node1 without sockets and goroutines: a test says what is reconciled
// when. Other speakers are what the test says of them.
type world struct {
	t        *testing.T
	api      client.Client
	speakers map[string]announcement.Speaker // of other nodes
	settled  notify.Latch
	cluster  *cluster.Reader
	config   *cluster.Config
	queue    *reconcile.Queue
	loop     *reconcile.Loop
	local    []links.Link // of node1
	events   *clustertest.Events
	status   notify.Signal
	log      *logs
	toRoute  []float64 // seconds

	bgp      *fakeBGP
	bfd      *fakeBFD
	c        *Controller
	sessions *sessions
	watched  *bfdSessions
	routes   *routes
	// proxy says whether kube-proxy is ready, proxyAnswers counts how often an address
	// was requeued because of what it said.
	proxy        atomic.Bool
	proxyAnswers atomic.Int32
}

// logs is a log that several goroutines write.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *logs) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// routedWorld is a world with a pool that is announced by BGP, in which it is known which
// other speakers are alive, and the service proxy has written its rules.
func routedWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := unsettledWorld(t, objects...)
	w.settled.Set()
	return w
}

// unsettledWorld is the same, but for what is known of other speakers.
func unsettledWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	all := &v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "all", UID: "all"}}
	w := &world{
		t:        t,
		api:      clustertest.New(t, append(objects, clustertest.Pool(), all)...),
		speakers: map[string]announcement.Speaker{},
		settled:  notify.NewLatch(),
		config:   cluster.NewConfig(),
		queue:    reconcile.NewQueue(),
		local:    []links.Link{link("eth0", "192.0.2.1/24")},
		events:   &clustertest.Events{T: t},
		status:   notify.NewSignal(),
		log:      &logs{},
		bgp:      &fakeBGP{changed: make(chan struct{}, 1)},
		bfd:      &fakeBFD{changed: make(chan struct{}, 1)},
	}
	w.cluster = cluster.NewReader(w.api, "", clustertest.Namespace, nil)
	queue := counted{w.queue, &w.proxyAnswers}
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	rules := notify.NewLatch()
	rules.Set()
	w.c = newController(t.Context(), Config{
		Node:           "node1",
		Cluster:        w.cluster,
		Config:         w.config,
		Settled:        w.settled,
		Queue:          queue,
		Links:          w,
		Speaker:        w.bgp,
		BFD:            w.bfd,
		Events:         w.events,
		Status:         w.status,
		Loops:          &kube.Loops{},
		Logger:         log,
		BootID:         "this boot",
		WeightInterval: time.Second,
		ProxyRules:     rules,
	}, func(context.Context, netip.Addr, uint16) bool { return w.proxy.Load() })
	w.sessions, w.watched, w.routes = w.c.sessions, w.c.bfd, w.c.routes
	w.routes.toRoute = prometheus.ObserverFunc(func(seconds float64) {
		w.toRoute = append(w.toRoute, seconds)
	})
	w.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      w.queue,
		Source:     w,
		Protocols:  []reconcile.Protocol{w.c},
		Warnings:   reconcile.NewWarnings(reconcile.NewServiceEvents(w.api, w.events)),
		Configured: w.config.Known(),
		Loops:      &kube.Loops{},
		Logger:     log,
	})
	w.configure()
	return w
}

// counted counts the addresses that are requeued one by one.
type counted struct {
	*reconcile.Queue
	count *atomic.Int32
}

// Requeue counts an address.
func (c counted) Requeue(addr netip.Addr) {
	c.count.Add(1)
	c.Queue.Requeue(addr)
}

// Inputs makes the world its own source.
func (w *world) Inputs(ctx context.Context) (reconcile.Inputs, error) {
	nodes, err := w.cluster.Nodes(ctx)
	c, revision := w.config.Current()
	in := reconcile.Inputs{
		Node:     "node1",
		Config:   &c,
		Revision: revision,
		Nodes:    nodes,
		Speakers: maps.Clone(w.speakers),
		Settled:  w.settled.IsSet(),
		Now:      time.Now(),
	}
	in.Speakers["node1"] = announcement.Speaker{
		Presence: announcement.Present,
		Reason:   v1beta1.ReasonNodePresent,
		Heard:    true,
		Worked:   in.Settled,
	}
	return in, err
}

// Services makes the world its own source.
func (w *world) Services(ctx context.Context, addr netip.Addr) ([]announcement.Service, error) {
	return w.cluster.Services(ctx, addr)
}

// Addresses makes the world its own source.
func (w *world) Addresses(ctx context.Context) ([]netip.Addr, error) { return w.cluster.Addresses(ctx) }

// UrgentFirst makes the world its own source.
func (*world) UrgentFirst(all []netip.Addr) []netip.Addr { return all }

// Links makes the world its own link watcher.
func (w *world) Links() []links.Link { return w.local }

// isPresent says that another node's speaker is present, or that it is gone.
func (w *world) isPresent(name string, present bool) {
	s := announcement.Speaker{Presence: announcement.Gone, Reason: v1beta1.ReasonNodeSilent, Worked: true}
	if present {
		s = announcement.Speaker{Presence: announcement.Present, Reason: v1beta1.ReasonNodePresent,
			Heard: true, Worked: true}
	}
	w.speakers[name] = s
}

// configure reads the configuration again.
func (w *world) configure() {
	w.t.Helper()
	objects, err := w.cluster.ConfigObjects(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.config.Set(objects, time.Now())
	w.c.ConfigChanged()
}

// reconcile has what is in the queue reconciled.
func (w *world) reconcile() {
	for w.loop.Next(w.t.Context()) {
	}
}

// look has every address reconciled.
func (w *world) look() {
	w.queue.RequeueAll()
	w.reconcile()
}

// run reconciles and plans until ctx ends.
func (w *world) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.loop.Run(ctx) })
	group.Go(func() error { return w.routes.run(ctx) })
	return group.Wait()
}

// plan makes a plan, when every address has been reconciled, and returns how long nothing
// will be due.
func (w *world) plan() time.Duration {
	w.routes.plan(w.t.Context())
	w.reconcile()
	return w.routes.plan(w.t.Context())
}

// isToPlan reports, once, whether there is to be another plan.
func (w *world) isToPlan() bool { return isSet(w.routes.again) }

// isStale reports, once, whether the Speaker object is out of date.
func (w *world) isStale() bool { return isSet(w.status) }

func isSet(s notify.Signal) bool {
	select {
	case <-s.C():
		return true
	default:
		return false
	}
}

// object is what the Speaker object says.
func (w *world) object() v1beta1.SpeakerStatus {
	var s v1beta1.SpeakerStatus
	w.c.Status(&s)
	return s
}

// planned makes a plan, and returns it as "peer prefix communities", and a line
// with only the name for a peer without routes.
func (w *world) planned() []string {
	w.t.Helper()
	w.plan()
	var out []string
	for _, d := range w.bgp.desired {
		if len(d.Routes) == 0 {
			out = append(out, d.Peer.Name)
		}
		for _, r := range d.Routes {
			line := d.Peer.Name + " " + r.Prefix.String()
			for _, c := range r.Communities {
				line += " " + c.String()
			}
			out = append(out, line)
		}
	}
	return out
}

// tells checks a plan.
func (w *world) tells(want ...string) {
	w.t.Helper()
	if got := w.planned(); !slices.Equal(got, want) {
		w.t.Errorf("the peers are told %q, want %q", got, want)
	}
}

// changes changes an object.
func changes[T client.Object](w *world, name string, o T, change func(T)) {
	w.t.Helper()
	clustertest.Change(w.t, w.api, name, o, change)
}

// ready says of the only endpoint of a Service whether it is.
func (w *world) ready(service string, ready bool) {
	w.t.Helper()
	clustertest.Ready(w.t, w.api, service, ready)
}

const namespace = clustertest.Namespace

var address = clustertest.Address

func node(name string) *corev1.Node { return clustertest.Node(name) }

func service(name string) []client.Object { return clustertest.Service(name) }

func link(name string, prefixes ...string) links.Link {
	l := links.Link{Index: 1, Name: name, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Up: true,
		Broadcast: true}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

// fakeBGP keeps sessions without a network: a test says what they do.
type fakeBGP struct {
	mu       sync.Mutex
	desired  []bgp.Desired
	complete bool
	serial   uint64
	sessions []bgp.Session
	left     bool
	changed  chan struct{}
	liveness map[string]bgp.Liveness
}

// SetLiveness remembers what BFD finds.
func (f *fakeBGP) SetLiveness(found map[string]bgp.Liveness) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.liveness = found
}

// Set remembers what the peers are to be told.
func (f *fakeBGP) Set(desired []bgp.Desired, complete bool) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.desired, f.complete = desired, complete
	f.serial++
	return f.serial
}

// State is what the test says.
func (f *fakeBGP) State() []bgp.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sessions)
}

// Changed tells what the test tells.
func (f *fakeBGP) Changed() <-chan struct{} { return f.changed }

// Run does nothing until ctx ends.
func (f *fakeBGP) Run(ctx context.Context) { <-ctx.Done() }

// Leave remembers that the sessions have ended for good.
func (f *fakeBGP) Leave(context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.desired = true, nil
}

// says sets what the sessions do, and tells of it.
func (f *fakeBGP) says(sessions ...bgp.Session) {
	f.mu.Lock()
	f.sessions = sessions
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// routerOf is the address of the router of a name: tor, or another one.
func routerOf(name string) string {
	if name == "tor" {
		return "192.0.2.254"
	}
	sum := 0
	for _, b := range []byte(name) {
		sum += int(b)
	}
	return fmt.Sprintf("192.0.2.%d", 200+sum%50)
}

// peer is a BGPPeer of all nodes.
func peer(name string, change func(*v1beta1.BGPPeerSpec)) *v1beta1.BGPPeer {
	p := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: routerOf(name)}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

// password is a Secret with one.
func password(text string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "tor"},
		Type: corev1.SecretTypeBasicAuth,
		Data: map[string][]byte{corev1.BasicAuthPasswordKey: []byte(text)}}
}

func withSecret(s *v1beta1.BGPPeerSpec) { s.PasswordSecret = &v1beta1.SecretReference{Name: "tor"} }
