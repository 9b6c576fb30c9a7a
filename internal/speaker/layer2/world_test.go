package layer2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
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
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
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

	members map[string]membership.Member // the members, as membership tells of them
	reach   map[string]prober.Reach      // what the prober of node1 found
	local   []links.Link                 // links of node1

	linkReach prober.LinkReach     // the same, of links
	heard     []announcer.Conflict // what the announcer heard of others
	stage     announcement.Stage   // of node1
	away      bool                 // the API server

	// What the speaker did since the test last asked.
	set    []string // "address links" given to the announcer
	events []string // "object type reason"
	notes  []string // of these
	asked  []string // "address links" that the LAN was to be probed for

	requests map[netip.Addr]announcer.Request // the last to the announcer
	// mute are nodes whose speaker answers no ping although membership hears it.
	mute map[string]bool
	// evaluated is closed when a snapshot was made; only then others are asked what
	// became of this node's addresses. whileReturning is called then.
	evaluated      chan struct{}
	whileReturning func()
	said           map[string]string // what node1 says of itself, by key
	sayings        int               // how often it said something of its claims

	memory    *memory
	tracker   *members.Tracker
	claimed   *members.Claims
	c         *Controller
	conflicts *conflicts
	cluster   *cluster.Reader
	config    *cluster.Config
	settled   notify.Latch
	loops     kube.Loops
	loop      *reconcile.Loop
	status    notify.Signal // the Speaker object is out of date
	node      string
}

const namespace = clustertest.Namespace

var address = clustertest.Address

// start is when stories begin that have their own clock.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

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

// newWorldOf starts the speaker of nodeN, whose link is as others see it.
func newWorldOf(t *testing.T, node string, objects ...client.Object) *world {
	t.Helper()
	w := newWorldWith(t, func(c *members.Config) { c.Node = node }, objects...)
	w.local = []links.Link{memberLink(node)}
	return w
}

// newWorldWith is newWorld with other settings.
func newWorldWith(t *testing.T, change func(*members.Config), objects ...client.Object) *world {
	t.Helper()
	w := &world{
		t: t, mute: map[string]bool{}, local: []links.Link{link("eth0", "192.0.2.1/24")}, stage: announcement.StageReady,
		members: map[string]membership.Member{}, reach: map[string]prober.Reach{},
		requests: map[netip.Addr]announcer.Request{}, said: map[string]string{},
	}
	w.api = clustertest.New(t, objects...)
	w.config = cluster.NewConfig()
	w.config.Set(everything(), time.Now())
	w.settled = notify.NewLatch()
	w.settled.Set()
	w.status = notify.NewSignal()
	log := slog.New(slog.DiscardHandler)
	w.claimed = members.NewClaims(w, members.MaxBlocks, reconcile.PartSize, log)
	c := w.trackerConfig()
	change(&c)
	var err error
	if w.tracker, err = members.New(c); err != nil {
		t.Fatal(err)
	}
	w.node, w.cluster = c.Node, cluster.NewReader(w.api, "", namespace, nil)
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
		Prober:    noProber{},
		Queue:     queue,
		Events:    emitted,
		Status:    w.status,
		Logger:    log,
		HandOver:  3 * time.Second,
	})
	w.c.asking = w // a test answers what is asked
	w.memory, w.conflicts = w.c.view.memory, w.c.conflicts
	w.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      queue,
		Source:     w,
		Layer2:     w.c,
		BGP:        noBGP{},
		Warnings:   reconcile.NewWarnings(emitted),
		Configured: w.config.Known(),
		Loops:      &w.loops,
		Logger:     log,
	})
	w.tracker.SetStage(announcement.StageReady)
	w.see()
	return w
}

// noProber asks nobody.
type noProber struct{}

// Ask implements Prober.
func (noProber) Ask(context.Context, prober.Question) (prober.Found, error) {
	return prober.Found{}, errDown
}

// Stats implements Prober.
func (noProber) Stats() prober.Stats { return prober.Stats{} }

// noBGP announces nothing.
type noBGP struct{}

// Reconcile implements reconcile.Protocol.
func (noBGP) Reconcile(reconcile.Inputs, reconcile.Address) reconcile.Outcome {
	return reconcile.Outcome{}
}

// Flush implements reconcile.Protocol.
func (noBGP) Flush() {}

// Known implements reconcile.Protocol.
func (noBGP) Known() []netip.Addr { return nil }

// errDown is what a host says that is not there.
var errDown = errors.New("down")

// still is a context that ended: nothing that is begun with it goes on.
func still() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Inputs makes the world its own source.
func (w *world) Inputs(ctx context.Context) (reconcile.Inputs, error) {
	nodes, err := w.cluster.Nodes(ctx)
	c, revision := w.config.Current()
	around := w.tracker.Around()
	in := reconcile.Inputs{
		Node:      w.node,
		Config:    &c,
		Revision:  revision,
		Nodes:     nodes,
		Speakers:  around.Speakers,
		Settled:   w.settled.IsSet(),
		Now:       time.Now(),
		Claims:    around.Claims,
		Minority:  around.Minority,
		Returning: around.Returning,
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
func (w *world) UrgentFirst(all []netip.Addr) []netip.Addr { return w.c.UrgentFirst(all) }

// State makes the world its own announcer.
func (*world) State() []announcer.Announcement { return nil }

// Stats makes the world its own announcer.
func (*world) Stats() announcer.Stats { return announcer.Stats{} }

// Suspended makes the world its own announcer.
func (*world) Suspended() bool { return false }

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

// Set makes the world its own announcer.
func (w *world) Set(addr netip.Addr, want announcer.Request) {
	w.set = append(w.set, strings.TrimSpace(addr.String()+" "+strings.Join(want.Links, ",")))
	w.requests[addr] = want
}

// start makes the world its own asker.
func (w *world) start(addr netip.Addr, on []string) {
	w.asked = append(w.asked, addr.String()+" "+strings.Join(on, ","))
}

// Publish makes the world its own membership.
func (w *world) Publish(key string, value []byte) error {
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

// claims checks what node1 says of address; "" for nothing.
func (w *world) claims(want string) {
	w.t.Helper()
	if got := claimIn(w.said, address); got != want {
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

// answered has the LAN asked for an address, or answers the question.
func answered(m *memory, addr netip.Addr, state announcement.ProbeState, holder net.HardwareAddr) {
	if state == announcement.ProbeAsking {
		m.startProbe(addr)
		return
	}
	m.setProbe(addr, m.of(addr).asking, announcement.Probe{State: state, Holder: holder})
}

// conflictAt is a claim of address by a hardware address that ends in n.
func conflictAt(addr netip.Addr, n byte, at time.Time) announcer.Conflict {
	return announcer.Conflict{Addr: addr, Link: "eth0", MAC: net6(n), First: at, Last: at, Count: 1}
}
