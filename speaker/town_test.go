package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/inputs"
	"github.com/berth-lb/berth/internal/speaker/layer2"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// town is a cluster of speakers without sockets. What one says reaches the others
// word by word, in any order, and so does what the API server tells.
type town struct {
	t         *testing.T
	random    *rand.Rand
	api       client.Client
	quick     quick
	addresses []netip.Addr
	shells    map[string]*shell
	// owners are whose the addresses are, once they are not to move any more; story
	// is what happened since.
	owners map[netip.Addr]string
	story  []string
	// apiAway is set while the API server does not answer, readOnly while it takes no
	// writes; blocked while speakers do not hear each other, rejected while a firewall
	// says so.
	apiAway, readOnly, blocked, rejected bool
	// wrote is called with what is written to the API server.
	wrote func(client.Object)
}

// shell is one node, and the speaker that runs there.
type shell struct {
	speakertest.Quiet
	*town
	name string
	*speaker
	objects   map[string]*v1beta1.Speaker // as the watch has brought them
	said      map[string]map[string]word1 // by speaker and key
	people    map[string]membership.Member
	listens   bool
	exchanged bool // the whole state with another one
	tried     bool // to join all
	seesLinks bool
	targets   map[string]time.Time
	dead      bool // the node
	renewedAt time.Time
}

// word1 is one thing said.
type word1 struct {
	value   string
	taken   bool // back
	version int64
}

func newTown(t *testing.T, seed uint64, nodes, addresses int) *town {
	w := &town{t: t, random: rand.New(rand.NewPCG(seed, 9)), shells: map[string]*shell{}}
	var objects, fixed []client.Object
	for i := range addresses {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
		w.addresses = append(w.addresses, addr)
		fixed = append(fixed, serviceAt(fmt.Sprintf("web%d", i), addr)...)
	}
	for i := range nodes {
		name := fmt.Sprintf("node%d", i+1)
		last := written(name, in(v1beta1.StageRestarting))
		for at := i; at < addresses; at += nodes {
			keeps(w.addresses[at].String(), 1)(&last.Status)
		}
		there := nodeThat(name, func(*corev1.Node) {})
		fixed = append(fixed, there)
		objects = append(objects, there, last)
	}
	builder := fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(objects...).
		WithStatusSubresource(&v1beta1.Speaker{})
	w.api = gate{builder.Build(), w}
	w.quick = quick{w.api, cluster.NewSnapshot("", fixed...)}
	for i := range nodes {
		name := fmt.Sprintf("node%d", i+1)
		w.shells[name] = &shell{town: w, name: name}
	}
	return w
}

// quick is the cache of Services, EndpointSlices and Nodes, of which none changes.
type quick struct {
	client.Reader
	fixed *cluster.Snapshot
}

// Get implements client.Reader.
func (q *quick) Get(ctx context.Context, key client.ObjectKey, into client.Object,
	opts ...client.GetOption) error {
	switch into.(type) {
	case *corev1.Service, *corev1.Node:
		return q.fixed.Get(ctx, key, into, opts...)
	}
	return q.Reader.Get(ctx, key, into, opts...)
}

// List implements client.Reader.
func (q *quick) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	switch into.(type) {
	case *corev1.ServiceList, *discoveryv1.EndpointSliceList, *corev1.NodeList:
		return q.fixed.List(ctx, into, opts...)
	}
	return q.Reader.List(ctx, into, opts...)
}

// gate is the API server of a town.
type gate struct {
	client.WithWatch
	town *town
}

// Get implements client.Client. What the speaker has a cache for is always there.
func (g gate) Get(ctx context.Context, key client.ObjectKey, into client.Object,
	opts ...client.GetOption) error {
	if _, speaker := into.(*v1beta1.Speaker); speaker && g.town.apiAway {
		return speakertest.ErrDown
	}
	return g.WithWatch.Get(ctx, key, into, opts...)
}

// List implements client.Client.
func (g gate) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	if _, speakers := into.(*v1beta1.SpeakerList); speakers && g.town.apiAway {
		return speakertest.ErrDown
	}
	return g.WithWatch.List(ctx, into, opts...)
}

// Create implements client.Client.
func (g gate) Create(ctx context.Context, object client.Object, opts ...client.CreateOption) error {
	if g.town.apiAway || g.town.readOnly {
		return speakertest.ErrDown
	}
	return g.WithWatch.Create(ctx, object, opts...)
}

// Status implements client.Client.
func (g gate) Status() client.SubResourceWriter { return gatedStatus{g.WithWatch.Status(), g.town} }

type gatedStatus struct {
	client.SubResourceWriter
	town *town
}

// Update implements client.SubResourceWriter.
func (g gatedStatus) Update(ctx context.Context, object client.Object,
	opts ...client.SubResourceUpdateOption) error {
	if g.town.apiAway || g.town.readOnly {
		return speakertest.ErrDown
	}
	if g.town.wrote != nil {
		g.town.wrote(object)
	}
	return g.SubResourceWriter.Update(ctx, object, opts...)
}

// names are those of the nodes, sorted.
func (w *town) names() []string { return slices.Sorted(maps.Keys(w.shells)) }

func (w *town) happened(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("%s ", time.Now().Format("05.000"))+fmt.Sprintf(format, args...))
}

// fakes are what a speaker finds around it: a membership, links and sockets.
type fakes interface {
	members.Membership
	members.Prober
	members.Announcer
	members.LinkSource
	members.Dialer
	layer2.Announcer
}

// begin starts a process of the speaker.
func (s *shell) begin() { s.beginIn(s) }

// beginIn starts a process of the speaker that finds these around it.
func (s *shell) beginIn(around fakes) {
	log := slog.New(slog.DiscardHandler)
	before, err := report.LastStatus(s.t.Context(), s.api, s.name, log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.happened("%s starts; its object says %s, %v", s.name, before.Stage, claimsOf(before.Layer2))
	s.objects, s.said = map[string]*v1beta1.Speaker{}, map[string]map[string]word1{}
	var all v1beta1.SpeakerList
	if err := s.api.List(s.t.Context(), &all); err != nil {
		s.t.Fatal(err)
	}
	for _, object := range all.Items {
		s.objects[object.Name] = &object
	}
	s.people, s.targets = map[string]membership.Member{}, map[string]time.Time{}
	s.listens, s.exchanged, s.tried, s.seesLinks = false, false, false, false

	configuration := cluster.NewConfig()
	configuration.Set(speakertest.Everything(), time.Now())
	status, queue := notify.NewSignal(), reconcile.NewQueue()
	at := netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%s:7947", s.name[4:]))
	sp := &speaker{
		settings: processSettings{Node: s.name, HandOver: 3 * time.Second},
		log:      log,
		member:   &member{address: at},
		live:     s.api,
		cluster:  cluster.NewReader(&s.quick, "", namespace, nil),
		config:   configuration,
		ready:    report.NewReadiness(configuration.Known()),
		status:   status,
		loops:    &kube.Loops{},
		queue:    queue,
	}
	sp.settings.Member.SettleTimeout = 5 * time.Second
	s.speaker = sp
	claims := members.NewClaims(around, members.MaxBlocks, reconcile.PartSize, log)
	sp.tracker, err = members.New(members.Config{
		Node: s.name,
		Grace: announcement.GracePeriods{
			Restart:   time.Minute,
			Silence:   3 * time.Second,
			Suspicion: 500 * time.Millisecond,
			Renewal:   presence.RenewalTrust,
			Contact:   report.ContactGrace,
		},
		ExcludeLinks:  links.DefaultExclude(),
		Configuration: configuration,
		Membership:    around,
		Links:         around,
		Prober:        around,
		Announcer:     around,
		Dialer:        around,
		Room:          claims,
		Requeue:       reconcile.NewQueue(), // a town says what is looked at when
		Status:        status,
		Log:           log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	sp.joiner = members.NewJoiner(members.JoinerConfig{Membership: around, Status: status, Log: log})
	sp.peers = members.NewObjects(s.api, sp.tracker)
	emitted := reconcile.NewServiceEvents(&s.quick, s)
	sp.layer2 = layer2.New(s.t.Context(), layer2.Config{
		Node:      s.name,
		Config:    configuration,
		Settled:   sp.ready.Settled(),
		Members:   sp.tracker,
		Claims:    claims,
		Links:     around,
		Announcer: around,
		Prober:    speakertest.NoProber{},
		Queue:     queue,
		Events:    emitted,
		Status:    status,
		Logger:    log,
		Before:    claimsOf(before.Layer2),
		HandOver:  3 * time.Second,
	})
	sp.source = inputs.New(inputs.Config{
		Node:    s.name,
		Cluster: sp.cluster,
		Config:  configuration,
		Settled: sp.ready.Settled(),
		Members: sp.tracker,
		Urgency: sp.layer2,
	})
	sp.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      queue,
		Source:     sp.source,
		Protocols:  []reconcile.Protocol{sp.layer2},
		Warnings:   reconcile.NewWarnings(emitted),
		Configured: configuration.Known(),
		Loops:      sp.loops,
		Logger:     log,
	})
	sp.object = report.New(report.Config{
		Node:     s.name,
		Address:  at,
		Profile:  membership.Balanced,
		Cached:   sp.cluster,
		Live:     s.api,
		Writer:   s.api,
		Ready:    sp.ready,
		Members:  sp.tracker,
		Joiner:   sp.joiner,
		Sections: []report.Section{sp.layer2},
		Status:   status,
		Logger:   log,
		Last:     before,
	})
	sp.renewer = report.NewRenewer(report.RenewerConfig{
		Object:   sp.object,
		Claimant: sp.layer2,
		Events:   s,
		Logger:   log,
	})
	sp.tracker.SetStage(announcement.StageStarting)
}

// runs reports whether there is a process.
func (s *shell) runs() bool { return s.speaker != nil }

// ready reports whether it has settled.
func (s *shell) ready() bool { return s.runs() && s.speaker.ready.Settled().IsSet() }

// end ends the process. One that is killed says nothing more.
func (s *shell) end(killed bool) {
	s.happened("%s ends, killed: %t", s.name, killed)
	if !killed {
		if err := s.object.Run(still()); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, name := range s.names() {
		other := s.shells[name]
		if m, known := other.people[s.name]; other != s && other.runs() && known {
			m.State, m.Since = membership.Dead, time.Now()
			if !killed {
				m.State = membership.Left
			}
			other.people[s.name] = m
		}
	}
	s.speaker, s.listens = nil, false
}

// settleSome does the next of what settle does.
func (s *shell) settleSome() {
	switch {
	case !s.linksKnown(still()), s.introduceNext.IsZero() && !s.introduced(still()):
	case !s.listens:
		s.listens = true
	case !s.tried:
		s.tried = true
		s.meet()
	default:
		s.resume(still())
		s.tracker.SetStage(announcement.StageReady)
		s.speaker.ready.Settled().Set()
		s.status.Set()
		s.happened("%s is ready", s.name)
	}
}

// meet exchanges the whole state with one that it can join, if there is one.
func (s *shell) meet() {
	for _, name := range s.names() {
		other := s.shells[name]
		if other != s && other.listens {
			s.learns(other)
			other.learns(s)
			if s.random.IntN(2) == 0 {
				s.tracker.Evaluate(still()) // between hearing that one lives and what it says
				s.decide()
			}
			s.exchanged = true
			for who := range other.said {
				for key := range other.said[who] {
					s.hears(other, who, key)
				}
			}
			return
		}
	}
}

// learns hears that another lives.
func (s *shell) learns(other *shell) {
	if m := s.people[other.name]; m.State != membership.Alive {
		s.people[other.name] = membership.Member{Name: other.name, State: membership.Alive, Since: time.Now()}
	}
}

// misses finds another dead, as far as membership knows.
func (s *shell) misses(other *shell) {
	if m, known := s.people[other.name]; known && m.State == membership.Alive {
		m.State, m.Since = membership.Dead, time.Now()
		s.people[other.name] = m
	}
}

// hears takes in one thing that another knows.
func (s *shell) hears(from *shell, who, key string) {
	news := from.said[who][key]
	if s.said[who] == nil {
		s.said[who] = map[string]word1{}
	}
	if news.version > s.said[who][key].version {
		s.said[who][key] = news
	}
	if _, known := s.people[who]; who != s.name && !known {
		s.people[who] = membership.Member{Name: who, State: membership.Dead, Since: time.Now()}
	}
}

// decide looks at all addresses.
func (s *shell) decide() {
	if s.ready() {
		if err := s.speaker.loop.Reconcile(still(), s.town.addresses); err != nil {
			s.t.Fatal(err)
		}
	}
}

// happen has one thing happen at a node.
func (w *town) happen() {
	time.Sleep(time.Duration(w.random.IntN(16)) * time.Millisecond)
	names := w.names()
	s, other := w.shells[names[w.random.IntN(len(names))]], w.shells[names[w.random.IntN(len(names))]]
	if !s.runs() {
		return
	}
	if s.ready() && time.Since(s.renewedAt) >= checkInterval {
		s.renewedAt = time.Now()
		s.renewer.Check(s.t.Context())
		s.tracker.WaitContact()
	}
	switch w.random.IntN(8) {
	case 0:
		s.seesLinks = true
		if !s.ready() {
			s.settleSome()
		}
	case 1:
		switch {
		case w.blocked && w.random.IntN(4) == 0:
			s.misses(other)
		case s.listens && other.listens && other != s && !w.blocked:
			s.learns(other)
		}
	case 2, 3: // some words
		for range 6 {
			if !s.listens || !other.listens || other == s || w.blocked {
				break
			}
			whos := slices.Sorted(maps.Keys(other.said))
			who := whos[w.random.IntN(len(whos))]
			if keys := slices.Sorted(maps.Keys(other.said[who])); len(keys) > 0 {
				s.hears(other, who, keys[w.random.IntN(len(keys))])
			}
		}
	case 4: // the watch of the API server
		if w.apiAway {
			return
		}
		for _, name := range names {
			var have v1beta1.Speaker
			if w.random.IntN(3) > 0 && w.api.Get(w.t.Context(), client.ObjectKey{Name: name}, &have) == nil {
				s.objects[name] = &have
			}
		}
		if len(s.objects) > 0 {
			if err := s.peers.Read(still(), s); err != nil {
				w.t.Fatal(err)
			}
		}
	case 5:
		select {
		case <-s.status.C():
			if err := s.object.Write(still()); err != nil && !w.apiAway && !w.readOnly {
				w.t.Fatal(err)
			} else if err != nil {
				s.status.Set()
			}
		default:
		}
	case 6:
		for _, name := range names {
			if name != s.name {
				s.tracker.Ping(still(), name)
			}
		}
		s.tracker.Evaluate(still())
	case 7:
		s.decide()
	}
}

// calm lets everything come to an end.
func (w *town) calm() {
	for range 3 {
		for _, a := range w.names() {
			s := w.shells[a]
			if !s.runs() {
				s.begin()
			}
			s.seesLinks = true
			for !s.ready() {
				s.settleSome()
			}
		}
		for _, a := range w.names() {
			s := w.shells[a]
			for _, b := range w.names() {
				other := w.shells[b]
				if other == s {
					continue
				}
				s.learns(other)
				for who := range other.said {
					for key := range other.said[who] {
						s.hears(other, who, key)
					}
				}
			}
			if err := s.object.Write(still()); err != nil {
				w.t.Fatal(err)
			}
			if err := s.peers.Read(still(), s.api); err != nil {
				w.t.Fatal(err)
			}
			s.tracker.Evaluate(still())
			s.decide()
		}
		time.Sleep(time.Minute)
	}
}

// has are whose the addresses are.
func (w *town) has() map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, name := range w.names() {
		if !w.shells[name].runs() {
			continue
		}
		for _, a := range layer2Status(w.shells[name].layer2).Announcements {
			if a.StandInFor == "" {
				out[netip.MustParseAddr(a.Address)] += name
			}
		}
	}
	return out
}

// What follows makes a shell the membership, the sockets and the API server's cache of
// its speaker.

// Members implements [members.Membership].
func (s *shell) Members() []membership.Member {
	if !s.listens {
		return nil
	}
	all := maps.Clone(s.people)
	all[s.name] = membership.Member{Name: s.name, State: membership.Alive}
	var out []membership.Member
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		m.Values = map[string][]byte{}
		for key, word := range s.said[name] {
			if !word.taken {
				m.Values[key] = []byte(word.value)
			}
		}
		out = append(out, m)
	}
	return out
}

// Settled implements [members.Membership].
func (s *shell) Settled() bool { return s.exchanged || s.tried }

// Publish implements [members.Membership].
func (s *shell) Publish(key string, value []byte) error {
	for addr, owner := range s.owners {
		claims := speakertest.ClaimIn(map[string][]byte{key: value}, addr)
		if claims != "" && owner != s.name {
			s.happened("%s claims %s of %s", s.name, addr, owner)
			s.t.Errorf("%s claims %s of %s", s.name, addr, owner)
		}
	}
	if s.said[s.name] == nil {
		s.said[s.name] = map[string]word1{}
	}
	before := s.said[s.name][key]
	if before.version > 0 && before.taken == (value == nil) && before.value == string(value) {
		return nil
	}
	s.said[s.name][key] = word1{string(value), value == nil, max(before.version+1, time.Now().UnixNano())}
	return nil
}

// PublishPrefix implements [members.Membership].
func (s *shell) PublishPrefix(prefix string, values map[string][]byte) error {
	for _, key := range slices.Sorted(maps.Keys(s.said[s.name])) {
		if _, stays := values[key]; strings.HasPrefix(key, prefix) && !stays {
			_ = s.Publish(key, nil)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		_ = s.Publish(key, values[key])
	}
	return nil
}

// Ping implements [members.Membership].
func (s *shell) Ping(_ context.Context, node string) error {
	if other := s.shells[node]; other != nil && other.listens && !s.blocked {
		return nil
	}
	return speakertest.ErrDown
}

// DialContext implements [members.Dialer]: where a speaker does not listen, its kernel
// refuses connections, and so does a firewall that says so.
func (s *shell) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	down := s.shells["node"+strings.TrimSuffix(strings.TrimPrefix(address, "192.0.2."), ":7947")]
	if down != nil && !down.dead && (s.rejected || !s.blocked) {
		return nil, syscall.ECONNREFUSED
	}
	return nil, speakertest.ErrDown
}

// SetTargets implements [members.Prober].
func (s *shell) SetTargets(targets []prober.Target) {
	before := s.targets
	s.targets = map[string]time.Time{}
	for _, target := range targets {
		s.targets[target.Node] = time.Now()
		if since, known := before[target.Node]; known {
			s.targets[target.Node] = since
		}
	}
}

// Reach makes a shell its own prober: kernels answer all the time.
func (s *shell) Reach() map[string]prober.Reach {
	out := map[string]prober.Reach{}
	for name, since := range s.targets {
		out[name] = prober.Reach{}
		switch {
		case s.shells[name].dead:
			out[name] = prober.Reach{State: prober.Silent, LastAnswer: since, Missed: 3}
		case time.Since(since) > 100*time.Millisecond:
			out[name] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
		}
	}
	return out
}

// Links implements [members.LinkSource].
func (s *shell) Links() []links.Link {
	if !s.seesLinks {
		return nil
	}
	l := speakertest.LinkOf(s.name)
	l.Index = 1
	return []links.Link{l}
}

// Eventf makes a shell its own event recorder.
func (s *shell) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

// Get implements client.Reader; a watch brings lists only.
func (s *shell) Get(ctx context.Context, key client.ObjectKey, into client.Object,
	opts ...client.GetOption) error {
	return s.api.Get(ctx, key, into, opts...)
}

// List implements client.Reader: the Speaker objects as far as the watch is.
func (s *shell) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	list := into.(*v1beta1.SpeakerList)
	for _, name := range slices.Sorted(maps.Keys(s.objects)) {
		list.Items = append(list.Items, *s.objects[name])
	}
	return nil
}
