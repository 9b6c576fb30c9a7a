package main

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
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/bgp"
	"github.com/berth-lb/berth/internal/speaker/layer2"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// world is the speaker of node1 without sockets and goroutines: a test says
// what is looked at when.
type world struct {
	t   *testing.T
	api client.Client

	mu      sync.Mutex                   // of members, said and sayings
	members map[string]membership.Member // the members, as membership tells of them
	reach   map[string]prober.Reach      // what the prober of node1 found
	local   []links.Link                 // links of node1

	linkReach prober.LinkReach     // the same, of links
	heard     []announcer.Conflict // what the announcer heard of others
	away      bool                 // the API server

	// What the speaker did since the test last asked.
	set    []string // "address links" given to the announcer
	events []string // "object type reason"
	notes  []string // of these

	requests map[netip.Addr]announcer.Request // the last to the announcer
	// mute are nodes whose speaker answers no ping although membership hears it.
	mute map[string]bool
	// evaluated is closed when a snapshot was made; only then others are asked what
	// became of this node's addresses. whileReturning is called then.
	evaluated      chan struct{}
	whileReturning func()
	said           map[string]string // what node1 says of itself, by key
	sayings        int               // how often it said something of its claims

	tracker   *members.Tracker
	joiner    *members.Joiner
	claimed   *members.Claims
	layer2    *layer2.Controller
	object    *report.Object
	renewer   *report.Renewer
	source    *source
	cluster   *cluster.Reader
	readiness *report.Readiness
	loops     kube.Loops
	config    *cluster.Config
	queue     *reconcile.Queue
	loop      *reconcile.Loop
	status    notify.Signal // the Speaker object is out of date
	bgp       *bgp.Controller
	sessions  *fakeSessions
	stuck     chan struct{} // what the announcer waits for, nil for nothing
	node      string
}

const namespace = clustertest.Namespace

var address = clustertest.Address

var graces = announcement.GracePeriods{Restart: time.Minute, Silence: 10 * time.Second, Renewal: 20 * time.Second}

// everything is a pool that has address, and an L2Advertisement of everything.
func everything() config.Objects {
	return config.Objects{
		Pools:            []v1beta1.IPAddressPool{*clustertest.Pool()},
		L2Advertisements: []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}},
	}
}

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
		t: t, mute: map[string]bool{}, local: []links.Link{link("eth0", "192.0.2.1/24")},
		members: map[string]membership.Member{}, reach: map[string]prober.Reach{},
		requests: map[netip.Addr]announcer.Request{}, said: map[string]string{},
	}
	w.api = clustertest.New(t, objects...)
	w.config = cluster.NewConfig()
	w.config.Set(everything(), time.Now())
	w.queue, w.status = reconcile.NewQueue(), notify.NewSignal()
	log := slog.New(slog.DiscardHandler)
	w.claimed = members.NewClaims(w, members.MaxBlocks, reconcile.PartSize, log)
	c := w.trackerConfig()
	change(&c)
	var err error
	if w.tracker, err = members.New(c); err != nil {
		t.Fatal(err)
	}
	w.joiner = members.NewJoiner(members.JoinerConfig{Membership: w, Status: c.Status, Log: log})
	w.node, w.cluster = c.Node, cluster.NewReader(w.api, "", namespace, nil)
	w.readiness = report.NewReadiness(w.config.Known())
	emitted := reconcile.NewServiceEvents(w.api, w)
	w.sessions = &fakeSessions{}
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
		Status:  w.status,
		Loops:   &w.loops,
		Logger:  log,
		BootID:  "this boot",
	})
	w.bgp.ProxyReady().Set()
	before := members.ParseObject(&v1beta1.Speaker{Status: last}, c.Node)
	w.layer2 = layer2.New(t.Context(), layer2.Config{
		Node:      c.Node,
		Config:    w.config,
		Settled:   w.readiness.Settled(),
		Members:   w.tracker,
		Claims:    w.claimed,
		Links:     w,
		Announcer: w,
		Prober:    noProber{},
		Queue:     w.queue,
		Events:    emitted,
		Status:    w.status,
		Logger:    log,
		Before:    before.State.Claims,
		HandOver:  3 * time.Second,
	})
	w.source = &source{
		node:    c.Node,
		cluster: w.cluster,
		config:  w.config,
		settled: w.readiness.Settled(),
		tracker: w.tracker,
		layer2:  w.layer2,
	}
	w.object = w.newObject(w.joiner, c, last)
	w.renewer = report.NewRenewer(report.RenewerConfig{
		Object:    w.object,
		Claimant:  w.layer2,
		Events:    w,
		Isolation: 5 * time.Minute,
		Logger:    log,
	})
	w.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      w.queue,
		Source:     w.source,
		Layer2:     w.layer2,
		BGP:        w.bgp,
		Warnings:   reconcile.NewWarnings(emitted),
		Configured: w.config.Known(),
		Loops:      &w.loops,
		Logger:     log,
	})
	return w
}

// newObject is the Speaker object of a speaker that takes part in the membership by joiner.
func (w *world) newObject(joiner *members.Joiner, c members.Config, last v1beta1.SpeakerStatus) *report.Object {
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
		Status:        w.status,
		Logger:        slog.New(slog.DiscardHandler),
		IgnoreExclude: c.IgnoreExclude,
		IgnoreCordon:  c.IgnoreCordon,
		Last:          last,
	})
}

// noProber asks nobody.
type noProber struct{}

// Ask implements layer2.Prober.
func (noProber) Ask(context.Context, prober.Question) (prober.Found, error) {
	return prober.Found{}, errDown
}

// Stats implements layer2.Prober.
func (noProber) Stats() prober.Stats { return prober.Stats{} }

// State makes the world its own announcer.
func (*world) State() []announcer.Announcement { return nil }

// Stats makes the world its own announcer.
func (*world) Stats() announcer.Stats { return announcer.Stats{} }

// Suspended makes the world its own announcer.
func (*world) Suspended() bool { return false }

// trackerConfig are the settings of a tracker for which the world is everything.
func (w *world) trackerConfig() members.Config {
	return members.Config{
		Node:          "node1",
		Grace:         graces,
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

// What follows makes the world the membership, the sockets and the queue of its tracker.

// Run implements [members.Membership].
func (w *world) Run(context.Context) error { return nil }

// Changed implements [members.Membership], [members.Prober] and [members.LinkSource].
func (w *world) Changed() <-chan struct{} { return nil }

// Settled implements [members.Membership].
func (w *world) Settled() bool { return true }

// SetPeers implements [members.Membership].
func (w *world) SetPeers([]netip.AddrPort) {}

// SetNodes implements [members.Membership].
func (w *world) SetNodes([]netip.Addr) {}

// SetKeys implements [members.Membership].
func (w *world) SetKeys([][]byte) error { return nil }

// Ping implements [members.Membership].
func (w *world) Ping(_ context.Context, node string) error {
	if w.mute[node] || w.members[node].State != membership.Alive {
		return errDown
	}
	return nil
}

// Confirm implements [members.Membership].
func (w *world) Confirm(context.Context) error {
	<-w.evaluated
	if w.whileReturning != nil {
		w.whileReturning()
	}
	return nil
}

// SetLinks implements [members.Prober] and [members.Announcer].
func (w *world) SetLinks([]links.Link) {}

// SetTargets implements [members.Prober].
func (w *world) SetTargets([]prober.Target) {}

// SetMembers implements [members.Announcer].
func (w *world) SetMembers([]net.HardwareAddr) {}

// DialContext implements [members.Dialer]: nobody answers.
func (w *world) DialContext(context.Context, string, string) (net.Conn, error) { return nil, errDown }

// IsFull tells whether node1 can publish more claims.
func (w *world) IsFull() bool { return w.claimed.IsFull() }

// Requeue implements [members.Requeuer]: a test says what is looked at when.
func (w *world) Requeue(netip.Addr) {}

// RequeueAll implements [members.Requeuer].
func (w *world) RequeueAll() uint64 { return 0 }

// Members makes the world its own membership, in which its node is alive.
func (w *world) Members() []membership.Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := map[string][]byte{}
	for key, value := range w.said {
		said[key] = []byte(value)
	}
	all := maps.Clone(w.members)
	self := "node1"
	if w.node != "" {
		self = w.node
	}
	all[self] = membership.Member{Name: self, State: membership.Alive, Values: said}
	var out []membership.Member
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// Reach makes the world its own prober.
func (w *world) Reach() map[string]prober.Reach { return w.reach }

// LinkReach makes the world its own prober.
func (w *world) LinkReach() prober.LinkReach { return w.linkReach }

// Links makes the world its own link watcher.
func (w *world) Links() []links.Link { return w.local }

// Conflicts makes the world its own announcer.
func (w *world) Conflicts() []announcer.Conflict { return w.heard }

// Set makes the world its own announcer. While it is stuck, it takes nothing.
func (w *world) Set(addr netip.Addr, want announcer.Request) {
	if w.stuck != nil {
		<-w.stuck
	}
	w.set = append(w.set, strings.TrimSpace(addr.String()+" "+strings.Join(want.Links, ",")))
	w.requests[addr] = want
}

// Publish makes the world its own membership.
func (w *world) Publish(key string, value []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(key, "claims/") {
		w.sayings++
	}
	if value == nil {
		delete(w.said, key)
	} else {
		w.said[key] = string(value)
	}
	return nil
}

// PublishPrefix makes the world its own membership.
func (w *world) PublishPrefix(prefix string, values map[string][]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if prefix == "claims/" {
		w.sayings++
	}
	maps.DeleteFunc(w.said, func(key, _ string) bool { return strings.HasPrefix(key, prefix) })
	for key, value := range values {
		w.said[key] = string(value)
	}
	return nil
}

// Eventf makes the world an event recorder.
func (w *world) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	text := fmt.Sprintf(note, args...)
	if text == "" || strings.Contains(text, "%!") {
		w.t.Errorf("an Event with the note %q", text)
	}
	w.notes = append(w.notes, text)
	w.events = append(w.events, fmt.Sprintf("%s %s %s", regarding.(client.Object).GetName(), kind, reason))
}

// says makes a member one that is alive and says these things of itself, given
// as "key=value", of which "claim/ADDRESS=2w" is said with the others of its block; it is ready unless it says otherwise. It has a link in the
// subnet of node1, and nothing is known of its kernel.
func (w *world) says(name string, words ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.reach, name)
	w.members[name] = member(name, membership.Alive, time.Now(), words...)
}

// member is a member that says these things of itself.
func member(name string, state membership.State, since time.Time, words ...string) membership.Member {
	m := membership.Member{Name: name, State: state, Since: since, Values: map[string][]byte{
		"stage":     []byte(announcement.StageReady),
		"link/eth0": published(memberLink(name)),
	}}
	for _, text := range words {
		key, value, _ := strings.Cut(text, "=")
		if addr, ok := strings.CutPrefix(key, "claim/"); ok {
			claims, digit := blockOf(netip.MustParseAddr(addr))
			key, value = claims, strings.TrimPrefix(fmt.Sprintf("%s,%s:%s", m.Values[claims], value, digit), ",")
		}
		m.Values[key] = []byte(value)
	}
	return m
}

// published is what a speaker publishes of a link.
func published(l links.Link) []byte {
	fields := []string{l.HardwareAddr.String()}
	for _, p := range l.Prefixes {
		fields = append(fields, p.String())
	}
	return []byte(strings.Join(fields, " "))
}

// blockOf is under which key an address is claimed, and with which digit.
func blockOf(addr netip.Addr) (key, digit string) {
	raw := addr.AsSlice()
	last := &raw[len(raw)-1]
	digit = fmt.Sprintf("%x", *last%16)
	*last -= *last % 16
	first, _ := netip.AddrFromSlice(raw)
	return "claims/" + first.String(), digit
}

// claimIn is the generation and the marks with which an address is claimed; "" for none.
func claimIn(said map[string]string, addr netip.Addr) string {
	key, digit := blockOf(addr)
	for item := range strings.SplitSeq(said[key], ",") {
		if head, digits, _ := strings.Cut(item, ":"); strings.Contains(digits, digit) {
			return head
		}
	}
	return ""
}

// memberLink is the link of nodeN: 192.0.2.N.
func memberLink(name string) links.Link {
	n := name[len(name)-1] - '0'
	l := link("eth0", fmt.Sprintf("192.0.2.%d/24", n))
	l.Index, l.HardwareAddr = 0, net.HardwareAddr{2, 0, 0, 0, 0, n} // membership does not tell indexes
	return l
}

// died says that membership takes a member for dead, while its kernel answers
// or not. What it said stays remembered.
func (w *world) died(name string, kernelAnswers bool) {
	m := w.members[name]
	m.State, m.Since = membership.Dead, time.Now()
	w.members[name] = m
	reach := prober.Reach{State: prober.Silent, LastAnswer: time.Now().Add(-time.Second)}
	if kernelAnswers {
		reach = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
	}
	w.reach[name] = reach
	w.tracker.Ping(w.t.Context(), name)
}

// see makes a new snapshot of the links and the others. Where node1 is back on its LAN,
// it has asked them when see returns.
func (w *world) see() {
	w.tracker.SawAPI(!w.away)
	w.evaluated = make(chan struct{})
	w.tracker.Evaluate(still())
	close(w.evaluated)
	_ = w.tracker.Run(still()) // waits for what was begun, and returns nil
}

// returns has node1 lose its links and get them back. while is called when the links are
// there again, and the others have not been asked.
func (w *world) returns(while func()) {
	up := w.local
	w.local = []links.Link{}
	w.see()
	w.local, w.whileReturning = up, while
	w.see()
	w.whileReturning = nil
}

// reads has the tracker read Speaker objects.
func (w *world) reads(objects ...*v1beta1.Speaker) {
	w.t.Helper()
	for _, o := range objects {
		if err := client.IgnoreNotFound(w.api.Delete(w.t.Context(), o.DeepCopy())); err != nil {
			w.t.Fatal(err)
		}
		if err := w.api.Create(w.t.Context(), o.DeepCopy()); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := members.NewObjects(w.api, w.tracker).Read(w.t.Context(), w.api); err != nil {
		w.t.Fatal(err)
	}
	w.see()
}

// written is the Speaker object of nodeN as its speaker writes it.
func written(name string, change ...func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.SpeakerStatus{
		MemberAddress: fmt.Sprintf("192.0.2.%s:7947", strings.TrimPrefix(name, "node")),
		Stage:         v1beta1.StageReady,
		Links: []v1beta1.SpeakerLink{{
			Name:       "eth0",
			MACAddress: memberLink(name).HardwareAddr.String(),
			Up:         true,
			Prefixes:   []string{memberLink(name).Prefixes[0].String()},
		}},
	}}
	for _, f := range change {
		f(&s.Status)
	}
	return s
}

// claimsOf is what a Speaker object tells of what its node owns.
func claimsOf(l v1beta1.SpeakerLayer2) map[netip.Addr]announcement.Claim {
	return members.ParseObject(&v1beta1.Speaker{Status: v1beta1.SpeakerStatus{Layer2: l}}, "").State.Claims
}

// announcesIn has an object tell of an announcement.
func announcesIn(addr string, generation int64) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) {
		s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{Address: addr, Generation: generation})
		s.Layer2.Count++
	}
}

// renewedAt has an object tell that it was renewed.
func renewedAt(at time.Time) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) { s.RenewTime = &metav1.MicroTime{Time: at} }
}

// suspects has an object list a node whose speaker its own does not hear.
func suspects(node string, reason v1beta1.Reason) func(*v1beta1.SpeakerStatus) {
	since := metav1.NewTime(time.Now().Truncate(time.Second))
	return func(s *v1beta1.SpeakerStatus) {
		s.AbsentMembers = append(s.AbsentMembers, v1beta1.AbsentMember{Name: node, Presence: v1beta1.MemberHeld, Reason: string(reason), Since: since})
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
	if again := w.layer2.Decision(address).Recheck; !again.IsZero() {
		return max(time.Until(again), 1)
	}
	return 0
}

// announces gives a Service an address and has node1 announce it.
func (w *world) announces(addr string) {
	w.t.Helper()
	objects := clustertest.Service("at-" + strings.ReplaceAll(addr, ".", "-"))
	objects[0].(*corev1.Service).Status.LoadBalancer.Ingress[0].IP = addr
	for _, o := range objects {
		if err := w.api.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.loop.Reconcile(w.t.Context(), []netip.Addr{netip.MustParseAddr(addr)}); err != nil {
		w.t.Fatal(err)
	}
	if !w.layer2.Decision(netip.MustParseAddr(addr)).Announce {
		w.t.Fatalf("%s is not announced: %+v", addr, w.layer2.Decision(netip.MustParseAddr(addr)))
	}
}

// hears has the announcer hear that a host claims an address.
func (w *world) hears(addr string, mac byte) {
	w.heard = append(w.heard, conflictAt(netip.MustParseAddr(addr), mac, time.Now()))
}

// isStale reports, once, whether the Speaker object is out of date.
func (w *world) isStale() bool {
	select {
	case <-w.status.C():
		return true
	default:
		return false
	}
}

// did checks the last thing given to the announcer, the Events, and whether
// the Speaker object was to be written, since the last time.
func (w *world) did(set string, told bool, events ...string) {
	w.t.Helper()
	if len(w.set) == 0 || w.set[len(w.set)-1] != set {
		w.t.Errorf("the announcer was given %q, want %q", w.set, set)
	}
	if !slices.Equal(w.events, events) {
		w.t.Errorf("emitted %q, want %q", w.events, events)
	}
	if stale := w.isStale(); stale != told {
		w.t.Errorf("the Speaker object is out of date: %t", stale)
	}
	w.set, w.events = nil, nil
}

// reason is why address is announced, or not.
func (w *world) reason() v1beta1.Reason { return w.layer2.Decision(address).Reason }

// isMember tells in one line what is known of a member.
func (w *world) isMember(name string) string {
	f, known := w.tracker.Current().Members[name]
	if !known {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s)", f.Presence, f.Reason)
}

func link(name string, prefixes ...string) links.Link {
	l := links.Link{Index: 1, Name: name, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Up: true, Broadcast: true}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

// net6 is a hardware address that ends in n.
func net6(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

func node(name string) *corev1.Node { return clustertest.Node(name) }

func service(name string) []client.Object { return clustertest.Service(name) }

// clientKey is the key of an object that has no namespace.
func clientKey(name string) client.ObjectKey { return client.ObjectKey{Name: name} }

// conflictAt is a claim of address by a hardware address that ends in n.
func conflictAt(addr netip.Addr, n byte, at time.Time) announcer.Conflict {
	return announcer.Conflict{Addr: addr, Link: "eth0", MAC: net6(n), First: at, Last: at, Count: 1}
}
