package cli

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/internal/controller/configuration"
	"github.com/berth-lb/berth/internal/controller/services"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// live is a cluster in which the real controller works at an API server in memory, and the
// real code of speakers decides on each node, without networks. Its clock is a synctest's.
type live struct {
	t      *testing.T
	api    client.WithWatch
	writes int // of statuses

	state    *state.State
	queues   *shared.Queues
	services *services.Reconciler
	others   *services.Others
	config   *configuration.Reconciler
	status   *configuration.StatusReconciler
	waiting  []types.NamespacedName // Services that are to be reconciled

	// parsed is the configuration as speakers know it, dead are nodes that have died.
	parsed config.Config
	dead   map[string]bool
	claims map[netip.Addr]map[string]announcement.Claim
	told   map[string]map[netip.Addr]announcement.BGPDecision // by node
}

// newLive returns a cluster with these objects, in which nothing has happened yet.
func newLive(t *testing.T, objects ...client.Object) *live {
	l := &live{
		t:      t,
		dead:   map[string]bool{},
		claims: map[netip.Addr]map[string]announcement.Claim{},
		told:   map[string]map[netip.Addr]announcement.BGPDecision{},
	}
	l.api = fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(objects...).
		WithStatusSubresource(append(kube.ConfigKinds(), &corev1.Service{})...).
		WithIndex(&corev1.Service{}, "spec.type", func(o client.Object) []string {
			return []string{string(o.(*corev1.Service).Spec.Type)}
		}).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object,
				p client.Patch, options ...client.SubResourcePatchOption) error {
				l.writes++
				return c.SubResource(sub).Patch(ctx, o, p, options...)
			},
			SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object,
				options ...client.SubResourceUpdateOption) error {
				l.writes++
				return c.SubResource(sub).Update(ctx, o, options...)
			},
		}).Build()
	l.state, l.queues = state.New(), shared.NewQueues()
	with := shared.Shared{
		State:     l.state,
		Queues:    l.queues,
		Cached:    loadBalancers{l.api},
		Live:      l.api,
		Writer:    l.api,
		Events:    events.NewFakeRecorder(10000),
		Log:       slog.New(slog.DiscardHandler),
		Namespace: "berth-system",
	}
	l.services = services.New(with, announced.New(with))
	l.others = services.NewOthers(with)
	l.config, l.status = configuration.New(with), configuration.NewStatus(with)
	l.must(l.queues.Services.Start(t.Context(), &keyQueue{add: func(key types.NamespacedName) {
		if !slices.Contains(l.waiting, key) {
			l.waiting = append(l.waiting, key)
		}
	}}))
	l.readOthers()
	_, err := l.config.Reconcile(t.Context(), kube.WholeConfig)
	l.must(err)
	l.state.Synced.Set()
	l.must(l.services.Adopt(t.Context()))
	return l
}

func (l *live) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// keyQueue is a queue that passes on what is added to it.
type keyQueue struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	add func(types.NamespacedName)
}

// Add passes a key on.
func (q *keyQueue) Add(r reconcile.Request) { q.add(r.NamespacedName) }

// loadBalancers is the controller's cache: of Services it has those of type LoadBalancer.
type loadBalancers struct{ client.Reader }

// Get implements client.Reader.
func (r loadBalancers) Get(
	ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption,
) error {
	if err := r.Reader.Get(ctx, key, into, options...); err != nil {
		return err
	}
	if s, ok := into.(*corev1.Service); ok && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return apierrors.NewNotFound(corev1.Resource("services"), key.Name)
	}
	return nil
}

// readOthers has the controller read the Services that are not of type LoadBalancer.
func (l *live) readOthers() {
	var list corev1.ServiceList
	l.must(l.api.List(l.t.Context(), &list))
	var kept []any
	for i := range list.Items {
		if list.Items[i].Spec.Type != corev1.ServiceTypeLoadBalancer {
			one, err := l.others.Transformer()(&list.Items[i])
			l.must(err)
			kept = append(kept, one)
		}
	}
	l.must(l.others.Replace(kept, ""))
}

// settle has the controller work until nothing is left to do, and then the speakers.
func (l *live) settle() {
	for round := 0; ; round++ {
		if round == 100 {
			l.t.Fatal("the controller does not come to rest")
		}
		before := l.writes
		l.readOthers()
		again, err := l.config.Reconcile(l.t.Context(), kube.WholeConfig)
		l.must(err)
		for len(l.waiting) > 0 {
			key := l.waiting[0]
			l.waiting = l.waiting[1:]
			_, err := l.services.Reconcile(l.t.Context(), reconcile.Request{NamespacedName: key})
			l.must(err)
		}
		wait := again.RequeueAfter
		for _, key := range l.state.Objects() {
			soon, err := l.status.Reconcile(l.t.Context(), key)
			l.must(err)
			if soon.RequeueAfter == configuration.InterfaceGracePeriod {
				wait = max(wait, soon.RequeueAfter)
			}
		}
		l.speak()
		l.report()
		if l.writes == before && wait == 0 {
			return
		}
		time.Sleep(wait + time.Millisecond)
	}
}

// objects returns all objects of the API server.
func (l *live) objects() snapshot.Objects {
	var out snapshot.Objects
	ctx := l.t.Context()
	c, err := kube.ConfigObjects(ctx, l.api)
	l.must(err)
	out.Pools, out.L2Advertisements, out.BGPAdvertisements = c.Pools, c.L2Advertisements, c.BGPAdvertisements
	out.BGPPeers, out.BFDProfiles, out.Communities = c.BGPPeers, c.BFDProfiles, c.Communities
	var services corev1.ServiceList
	var slices discoveryv1.EndpointSliceList
	var nodes corev1.NodeList
	var namespaces corev1.NamespaceList
	var speakers v1beta1.SpeakerList
	for _, list := range []client.ObjectList{&services, &slices, &nodes, &namespaces, &speakers} {
		l.must(l.api.List(ctx, list))
	}
	out.Services, out.EndpointSlices, out.Nodes = services.Items, slices.Items, nodes.Items
	out.Namespaces, out.Speakers = namespaces.Items, speakers.Items
	return out
}

// mostSteps is how many rounds of decisions speakers have until none of them changes
// anything: a hand-over takes a few.
const mostSteps = 20

// speak has every speaker decide for every address until nothing changes.
func (l *live) speak() {
	o := l.objects()
	objects := config.Objects{
		Pools:             o.Pools,
		L2Advertisements:  o.L2Advertisements,
		BGPPeers:          o.BGPPeers,
		BGPAdvertisements: o.BGPAdvertisements,
		BFDProfiles:       o.BFDProfiles,
		Communities:       o.Communities,
		SecretsUnread:     true,
		Namespace:         "berth-system",
	}
	l.parsed, _ = config.Parse(objects, l.parsed, time.Now())
	var nodes []announcement.Node
	speakers := map[string]announcement.Speaker{}
	for i := range o.Nodes {
		nodes = append(nodes, announcement.ParseNode(&o.Nodes[i]))
	}
	for i := range o.Speakers {
		s := &o.Speakers[i]
		one := announcement.Speaker{
			Presence: announcement.Present,
			Links:    presence.ParseObject(s, "").State.Links,
			Heard:    true,
			Worked:   true,
		}
		if l.dead[s.Name] {
			one.Presence, one.Reason, one.Heard = announcement.Gone, v1beta1.ReasonNodeSilent, false
		}
		speakers[s.Name] = one
	}
	for addr, services := range servicesByAddress(o) {
		for range mostSteps {
			if !l.step(addr, services, nodes, speakers) {
				break
			}
		}
		for _, n := range nodes {
			if l.told[n.Name] == nil {
				l.told[n.Name] = map[netip.Addr]announcement.BGPDecision{}
			}
			l.told[n.Name][addr] = announcement.DecideBGP(announcement.BGPInput{
				Address:  addr,
				Services: services,
				Config:   &l.parsed,
				Nodes:    nodes,
				Speakers: speakers,
				Node:     n.Name,
				Settled:  true,
				Before:   l.told[n.Name][addr],
				Now:      time.Now(),
			})
		}
	}
}

// servicesByAddress returns the Services with each address that any Service has or had.
func servicesByAddress(o snapshot.Objects) map[netip.Addr][]announcement.Service {
	out := map[netip.Addr][]announcement.Service{}
	for i := range o.Services {
		s := &o.Services[i]
		for _, addr := range cluster.ServedAddresses(s, "") {
			var own []discoveryv1.EndpointSlice
			for _, slice := range o.EndpointSlices {
				if slice.Namespace == s.Namespace && slice.Labels[discoveryv1.LabelServiceName] == s.Name {
					own = append(own, slice)
				}
			}
			out[addr] = append(out[addr], announcement.ParseService(s, own, addr))
		}
	}
	return out
}

// step has each speaker that lives decide once for an address, and reports whether a claim
// has changed.
func (l *live) step(
	addr netip.Addr, services []announcement.Service, nodes []announcement.Node,
	speakers map[string]announcement.Speaker,
) (changed bool) {
	if l.claims[addr] == nil {
		l.claims[addr] = map[string]announcement.Claim{}
	}
	for _, n := range nodes {
		if speakers[n.Name].Presence != announcement.Present {
			continue
		}
		claims := maps.Clone(l.claims[addr])
		mine, had := claims[n.Name]
		d := announcement.Decide(announcement.Input{
			Address:    addr,
			Services:   services,
			Config:     &l.parsed,
			Nodes:      nodes,
			Speakers:   speakers,
			Claims:     claims,
			Node:       n.Name,
			Probe:      announcement.Probe{State: announcement.ProbeFree},
			Announcing: had,
			HandOver:   time.Second,
			Now:        time.Now(),
		})
		switch {
		case d.Claim == nil && had:
			delete(l.claims[addr], n.Name)
			changed = true
		case d.Claim != nil && *d.Claim != mine:
			l.claims[addr][n.Name] = *d.Claim
			changed = true
		}
	}
	return changed
}

// report writes into the Speaker objects what speakers own, and of which BGPPeers they say
// that they are not in force.
func (l *live) report() {
	o := l.objects()
	for i := range o.Speakers {
		s := &o.Speakers[i]
		at := slices.IndexFunc(o.Nodes, func(n corev1.Node) bool { return n.Name == s.Name })
		if at < 0 {
			continue
		}
		before := s.DeepCopy()
		s.Status.Layer2, s.Status.BGP.Sessions, s.Status.AbsentMembers = v1beta1.SpeakerLayer2{}, nil, nil
		if l.dead[s.Name] { // what the controller makes of it
			changed := meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{
				Type:   v1beta1.ConditionReady,
				Status: metav1.ConditionFalse,
				Reason: string(v1beta1.ReasonNodeNotReady),
			})
			if changed {
				l.must(l.api.Update(l.t.Context(), s))
				l.writes++
			}
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(l.dead)) {
			s.Status.AbsentMembers = append(s.Status.AbsentMembers, v1beta1.AbsentMember{
				Name:     name,
				Presence: v1beta1.MemberGone,
				Reason:   string(v1beta1.ReasonNodeSilent),
			})
		}
		s.Status.AbsentCount = int32(len(s.Status.AbsentMembers))
		for addr, claims := range l.claims {
			if c, claimed := claims[s.Name]; claimed {
				l2 := &s.Status.Layer2
				l2.Announcements = append(l2.Announcements, v1beta1.Layer2Announcement{
					Address:    addr.String(),
					Generation: int64(c.Generation),
				})
			}
		}
		slices.SortFunc(s.Status.Layer2.Announcements, func(a, b v1beta1.Layer2Announcement) int {
			return netip.MustParseAddr(a.Address).Compare(netip.MustParseAddr(b.Address))
		})
		s.Status.Layer2.Count = int32(len(s.Status.Layer2.Announcements))
		for _, p := range l.parsed.PeersOn(cluster.ParseNode(&o.Nodes[at])) {
			row := v1beta1.BGPSession{Peer: p.Name, State: v1beta1.BGPEstablished}
			switch {
			case p.Rival != nil:
				row.State, row.Reason = v1beta1.BGPNotConfigured, string(v1beta1.ReasonConflicting)
				row.Problem = "another one has the session"
			case p.Err != nil:
				row.State, row.Reason = v1beta1.BGPNotConfigured, string(v1beta1.ReasonNotConfigured)
				row.Problem = p.Err.Error()
			}
			s.Status.BGP.Sessions = append(s.Status.BGP.Sessions, row)
		}
		if !slices.EqualFunc(before.Status.Layer2.Announcements, s.Status.Layer2.Announcements,
			func(a, b v1beta1.Layer2Announcement) bool {
				return a.Address == b.Address && a.Generation == b.Generation
			}) ||
			before.Status.AbsentCount != s.Status.AbsentCount ||
			fmt.Sprint(before.Status.BGP.Sessions) != fmt.Sprint(s.Status.BGP.Sessions) {
			l.must(l.api.Update(l.t.Context(), s))
			l.writes++
		}
	}
}

// outcome is what became of a cluster.
type outcomeOf struct {
	services map[string]string // reason and addresses
	owners   map[string]string // by address
	routes   map[string]string // nodes, by peer and prefix
	ready    map[string]string // reasons
	pools    map[string]string // counts
}

// outcome returns what has become of the cluster.
func (l *live) outcome() outcomeOf {
	o := l.objects()
	out := outcomeOf{
		services: map[string]string{},
		owners:   map[string]string{},
		routes:   map[string]string{},
		ready:    map[string]string{},
		pools:    map[string]string{},
	}
	for i := range o.Services {
		s := &o.Services[i]
		if c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned); c != nil {
			out.services[s.Namespace+"/"+s.Name] = fmt.Sprint(c.Reason, assignment.StatusAddresses(s))
		}
	}
	held := servicesByAddress(o)
	for addr := range held {
		for name, claim := range l.claims[addr] {
			if !l.dead[name] && !claim.Lingers {
				out.owners[addr.String()] += name
			}
		}
	}
	l.routes(o, held, &out)
	note := func(kind string, o metav1.ObjectMeta, conditions []metav1.Condition) {
		if c := meta.FindStatusCondition(conditions, v1beta1.ConditionReady); c != nil {
			out.ready[kind+"/"+o.Name] = c.Reason
		}
	}
	for _, p := range o.Pools {
		note("ipaddresspool", p.ObjectMeta, p.Status.Conditions)
		s := p.Status
		out.pools[p.Name] = fmt.Sprint(s.AssignedIPv4, s.AvailableIPv4, s.OutOfRangeCount)
	}
	for _, a := range o.L2Advertisements {
		note("l2advertisement", a.ObjectMeta, a.Status.Conditions)
	}
	for _, a := range o.BGPAdvertisements {
		note("bgpadvertisement", a.ObjectMeta, a.Status.Conditions)
	}
	for _, p := range o.BGPPeers {
		note("bgppeer", p.ObjectMeta, p.Status.Conditions)
	}
	return out
}

// routes notes what nodes that live tell routers, once all that they drain is withdrawn.
func (l *live) routes(o snapshot.Objects, held map[netip.Addr][]announcement.Service, out *outcomeOf) {
	tellers := map[string][]string{}
	for i := range o.Nodes {
		n := &o.Nodes[i]
		named := func(s v1beta1.Speaker) bool { return s.Name == n.Name }
		if l.dead[n.Name] || !slices.ContainsFunc(o.Speakers, named) {
			continue
		}
		var peers []bgp.Peer
		for _, p := range l.parsed.PeersOn(cluster.ParseNode(n)) {
			if p.InForce() {
				peers = append(peers, p.Peer)
			}
		}
		var addresses []bgp.Address
		for addr, d := range l.told[n.Name] {
			if route, ok := d.Route(addr); ok && held[addr] != nil {
				addresses = append(addresses, route)
			}
		}
		for _, d := range bgp.Plan(time.Now().Add(time.Hour), peers, addresses).Desired {
			for _, r := range d.Routes {
				key := d.Peer.Name + " " + r.Prefix.String()
				tellers[key] = append(tellers[key], n.Name)
			}
		}
	}
	for key, nodes := range tellers {
		slices.Sort(nodes)
		out.routes[key] = fmt.Sprint(nodes)
	}
}
