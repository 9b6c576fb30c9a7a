package cli

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/change"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
	"github.com/berth-lb/berth/internal/kube"
)

// dice draws what clusters and changes are like.
type dice struct{ *rand.Rand }

// once is true once in so many times.
func (d dice) once(in int) bool { return d.IntN(in) == 0 }

func oneOf[T any](d dice, list ...T) T { return list[d.IntN(len(list))] }

// rack returns selectors of the nodes of a rack, or none.
func (d dice) rack() []metav1.LabelSelector {
	if !d.once(3) {
		return nil
	}
	return []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": oneOf(d, "a", "b")}}}
}

// ranges are those of which pools are made: some overlap, one is inverted.
var ranges = []v1beta1.AddressRange{
	"192.0.2.100-192.0.2.102", "192.0.2.102-192.0.2.105", "192.0.2.110/31", "198.51.100.0/30",
	"203.0.113.7/32", "192.0.2.120-192.0.2.119",
}

// young is when the objects of worlds were made.
var young = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func metaOf(name string, age int) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              name,
		UID:               types.UID(name),
		Generation:        1,
		CreationTimestamp: metav1.NewTime(young.Add(time.Duration(age) * time.Minute)),
	}
}

func (d dice) pool(name string, age int) *v1beta1.IPAddressPool {
	p := &v1beta1.IPAddressPool{ObjectMeta: metaOf(name, age)}
	p.Labels = map[string]string{"pool": name}
	p.Spec.Addresses = []v1beta1.AddressRange{ranges[d.IntN(len(ranges)-1)]}
	if d.once(2) {
		p.Spec.Addresses = append(p.Spec.Addresses, ranges[d.IntN(len(ranges)-1)])
	}
	if d.once(12) {
		p.Spec.Addresses = ranges[len(ranges)-1:]
	}
	p.Spec.AutoAssign = oneOf(d, nil, nil, new(false))
	p.Spec.OnShrink = oneOf(d, "", v1beta1.OnShrinkMove)
	p.Spec.Drain = d.once(8)
	return p
}

func (d dice) pools() []string {
	if d.once(2) {
		return nil
	}
	return []string{oneOf(d, "p0", "p1", "p2")}
}

func (d dice) l2(name string, age int) *v1beta1.L2Advertisement {
	a := &v1beta1.L2Advertisement{ObjectMeta: metaOf(name, age)}
	a.Spec.IPAddressPools, a.Spec.NodeSelectors = d.pools(), d.rack()
	if d.once(4) {
		a.Spec.Failback = v1beta1.FailbackImmediate
	}
	if d.once(4) {
		a.Spec.PreferredNodeSelectors = []v1beta1.PreferredNodeSelector{{
			Weight:     5,
			Preference: metav1.LabelSelector{MatchLabels: map[string]string{"rack": "b"}},
		}}
	}
	if d.once(6) {
		a.Spec.Interfaces = []string{oneOf(d, "eth0", "eth9")}
	}
	return a
}

func (d dice) bgpAdvertisement(name string, age int) *v1beta1.BGPAdvertisement {
	a := &v1beta1.BGPAdvertisement{ObjectMeta: metaOf(name, age)}
	a.Spec.IPAddressPools, a.Spec.NodeSelectors = d.pools(), d.rack()
	a.Spec.AggregationLength = oneOf(d, nil, nil, new(int32(24)))
	if d.once(3) {
		a.Spec.Communities = []string{"64512:7"}
	}
	return a
}

func (d dice) peer(name string, age int) *v1beta1.BGPPeer {
	p := &v1beta1.BGPPeer{ObjectMeta: metaOf(name, age)}
	p.Spec = v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513}
	p.Spec.PeerAddress, p.Spec.NodeSelectors = oneOf(d, "10.9.0.1", "10.9.0.2"), d.rack()
	return p
}

func (d dice) service(name string, age int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metaOf(name, age)}
	s.Namespace, s.Labels = "default", map[string]string{"app": name}
	s.Spec = corev1.ServiceSpec{
		Type:       corev1.ServiceTypeLoadBalancer,
		ClusterIP:  "10.96.0.1",
		ClusterIPs: []string{"10.96.0.1"},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		ExternalTrafficPolicy: oneOf(d,
			corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal),
		Ports: []corev1.ServicePort{{Port: int32(80 + d.IntN(2)), Protocol: corev1.ProtocolTCP}},
	}
	s.Annotations = map[string]string{}
	if d.once(4) {
		s.Annotations[v1beta1.AnnotationAddressPool] = oneOf(d, "p0", "p1", "p2")
	}
	if d.once(5) {
		asks := oneOf(d, "192.0.2.101", "192.0.2.104", "192.0.2.110")
		s.Annotations[v1beta1.AnnotationLoadBalancerIPs] = asks
	}
	if d.once(3) {
		s.Annotations[v1beta1.AnnotationAllowSharedIP] = "key"
	}
	if d.once(8) {
		s.Spec.Type = corev1.ServiceTypeClusterIP
		s.Spec.ExternalTrafficPolicy = ""
		if d.once(2) {
			s.Spec.ExternalIPs = []string{"192.0.2.102"}
		}
	}
	return s
}

// world draws a cluster.
func (d dice) world() []client.Object {
	out := []client.Object{&corev1.Namespace{ObjectMeta: metaOf("default", 0)}}
	nodes := 2 + d.IntN(3)
	for i := range nodes {
		name := fmt.Sprint("node", i)
		own := fmt.Sprintf("192.0.2.%d", i+1)
		n := &corev1.Node{ObjectMeta: metaOf(name, i)}
		n.Labels = map[string]string{"rack": oneOf(d, "a", "b")}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: own}}
		s := &v1beta1.Speaker{ObjectMeta: metaOf(name, i)}
		s.Status.MemberAddress, s.Status.Stage, s.Status.HasWorked = own+":7947", v1beta1.StageReady, true
		s.Status.ExcludeLabel, s.Status.Cordon = v1beta1.MarkHeeded, v1beta1.MarkHeeded
		s.Status.Links = []v1beta1.SpeakerLink{{
			Name:       "eth0",
			MACAddress: fmt.Sprintf("02:00:00:00:00:%02d", i),
			Up:         true,
			Prefixes:   []string{own + "/24"},
		}}
		s.Status.Conditions = []metav1.Condition{{
			Type:   v1beta1.ConditionReady,
			Status: metav1.ConditionTrue,
			Reason: string(v1beta1.ReasonAnnouncing),
		}}
		out = append(out, n, s)
	}
	for i := range 2 {
		out = append(out, d.pool(fmt.Sprint("p", i), i), d.l2(fmt.Sprint("l", i), i),
			d.bgpAdvertisement(fmt.Sprint("b", i), i), d.peer(fmt.Sprint("r", i), i))
	}
	for i := range 3 + d.IntN(4) {
		name := fmt.Sprint("s", i)
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metaOf(name, i)}
		slice.AddressType = discoveryv1.AddressTypeIPv4
		slice.Namespace, slice.Labels = "default", map[string]string{discoveryv1.LabelServiceName: name}
		for j := range nodes {
			if d.once(2) {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
					Addresses: []string{"10.244.0.1"},
					NodeName:  new(fmt.Sprint("node", j)),
				})
			}
		}
		out = append(out, d.service(name, i), slice)
	}
	return out
}

// manifest returns an object as a document of a file, as a whole: what it does not say is
// to go, as with kubectl apply of what was applied before.
func manifest(t *testing.T, o client.Object) change.Document {
	t.Helper()
	gvk, err := apiutil.GVKForObject(o, kube.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: fields}
	u.SetGroupVersionKind(gvk)
	delete(fields, "status")
	for _, field := range []string{"uid", "generation", "creationTimestamp", "resourceVersion"} {
		unstructured.RemoveNestedField(fields, "metadata", field)
	}
	return change.Document{Source: "drawn", Number: 1, Object: u}
}

// change draws a change of a cluster.
func (d dice) change(t *testing.T, o snapshot.Objects) change.Request {
	t.Helper()
	var out change.Request
	apply := func(objects ...client.Object) {
		for _, o := range objects {
			out.Documents = append(out.Documents, manifest(t, o))
		}
	}
	node := oneOf(d, o.Nodes...).Name
	for range 1 + d.IntN(2) {
		name := fmt.Sprint(d.IntN(3))
		switch d.IntN(12) {
		case 0, 1:
			apply(d.pool("p"+name, 90))
		case 2:
			apply(d.l2("l"+name, 90))
		case 3:
			apply(d.bgpAdvertisement("b"+name, 90))
		case 4:
			apply(d.peer("r"+name, 90))
		case 5:
			apply(d.service("s"+name, 90))
		case 6:
			out.Drain = []string{node}
		case 7:
			out.Fail = []string{node}
		case 8:
			out.Add = []string{"node9"}
		case 9:
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{
				"rack": oneOf(d, "a", "b"),
			}}}
			if d.once(2) {
				n.Labels[v1beta1.LabelExcludeNode] = ""
			}
			apply(n)
		case 10:
			p := oneOf(d, o.Pools...)
			out.Delete = append(out.Delete, v1alpha1.Ref{Kind: "ipaddresspool", Name: p.Name})
		case 11:
			s := oneOf(d, o.Services...)
			out.Delete = append(out.Delete, v1alpha1.Ref{
				Kind:      "service",
				Namespace: s.Namespace,
				Name:      s.Name,
			})
		}
	}
	slices.SortFunc(out.Delete, func(a, b v1alpha1.Ref) int {
		return strings.Compare(a.String(), b.String())
	})
	out.Delete = slices.Compact(out.Delete)
	return out
}

// become makes the objects of the API server those of a change.
func (l *live) become(after snapshot.Objects, failed []string) {
	before := l.objects()
	replace(l, before.Nodes, after.Nodes)
	replace(l, before.Speakers, after.Speakers)
	replace(l, before.EndpointSlices, after.EndpointSlices)
	replace(l, before.Pools, after.Pools)
	replace(l, before.L2Advertisements, after.L2Advertisements)
	replace(l, before.BGPAdvertisements, after.BGPAdvertisements)
	replace(l, before.BGPPeers, after.BGPPeers)
	l.waiting = append(l.waiting, replace(l, before.Services, after.Services)...)
	for _, name := range failed {
		l.dead[name] = true
	}
}

// replace creates, updates and deletes objects of a kind, and returns which.
func replace[T any, PT interface {
	*T
	client.Object
}](l *live, before, after []T) (touched []types.NamespacedName) {
	had := map[client.ObjectKey]PT{}
	for i := range before {
		o := PT(&before[i])
		had[client.ObjectKeyFromObject(o)] = o
	}
	for i := range after {
		o := PT(&after[i]).DeepCopyObject().(PT)
		key := client.ObjectKeyFromObject(o)
		was := had[key]
		delete(had, key)
		switch {
		case was == nil:
			o.SetResourceVersion("")
			l.must(l.api.Create(l.t.Context(), o))
		case was.GetResourceVersion() != o.GetResourceVersion() || fmt.Sprint(was) != fmt.Sprint(o):
			o.SetResourceVersion(was.GetResourceVersion())
			l.must(l.api.Update(l.t.Context(), o))
		default:
			continue
		}
		touched = append(touched, key)
	}
	for _, key := range slices.SortedFunc(maps.Keys(had), func(a, b client.ObjectKey) int {
		return strings.Compare(a.String(), b.String())
	}) {
		l.must(l.api.Delete(l.t.Context(), had[key]))
		touched = append([]types.NamespacedName{key}, touched...)
	}
	return touched
}

// planned returns a plan for a change of what the API server has, and what it comes to.
func (l *live) planned(r change.Request) (v1alpha1.Plan, change.Result) {
	s := snapshot.New(l.objects(), snapshot.Request{Kinds: view.PlanKinds, Berth: "berth-system"}, time.Now())
	f, err := view.Of(s)
	l.must(err)
	done, err := change.Apply(f.Snapshot, r)
	l.must(err)
	p, err := f.Plan(view.Change{
		After:  done.Objects,
		Failed: done.FailedNodes,
		Added:  done.AddedNodes,
		Said:   said(done),
	})
	l.must(err)
	return p, done
}

// foretold returns what a plan says that an outcome becomes.
func foretold(was outcomeOf, p v1alpha1.Plan) outcomeOf {
	out := outcomeOf{
		services: maps.Clone(was.services),
		owners:   maps.Clone(was.owners),
		routes:   maps.Clone(was.routes),
		ready:    maps.Clone(was.ready),
		pools:    map[string]string{},
	}
	for _, s := range p.Services {
		var addrs []netip.Addr
		for _, a := range s.After {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		key := s.Namespace + "/" + s.Name
		if out.services[key] = fmt.Sprint(v1beta1.Reason(s.Reason), addrs); s.Reason == "" {
			delete(out.services, key)
		}
	}
	for _, a := range p.Addresses {
		if out.owners[a.Address] = a.To; a.To == "" {
			delete(out.owners, a.Address)
		}
	}
	for _, r := range p.Routes {
		key := r.Peer + " " + r.Prefix
		nodes := strings.Fields(strings.Trim(out.routes[key], "[]"))
		if r.Lost != nil {
			nodes = slices.DeleteFunc(nodes, func(n string) bool { return slices.Contains(r.Lost.Nodes, n) })
		}
		if r.Gained != nil {
			nodes = append(nodes, r.Gained.Nodes...)
		}
		slices.Sort(nodes)
		if out.routes[key] = fmt.Sprint(nodes); len(nodes) == 0 {
			delete(out.routes, key)
		}
	}
	for _, c := range p.Changes {
		key := c.Object.Kind + "/" + c.Object.Name
		switch _, configures := was.ready[key]; {
		case c.Verb == string(change.Deleted):
			delete(out.ready, key)
		case c.Verb == string(change.Created) && !configures && slices.Contains(judged, c.Object.Kind):
			out.ready[key] = string(v1beta1.ReasonAccepted)
		}
	}
	for _, r := range p.Objects {
		out.ready[r.Object.Kind+"/"+r.Object.Name] = r.Reason
	}
	for _, pool := range p.Pools {
		if pool.After != nil {
			size := v1alpha1.PoolSize{}
			if pool.After.IPv4 != nil {
				size = *pool.After.IPv4
			}
			out.pools[pool.Name] = fmt.Sprint(size.Assigned, size.Free, pool.OutOfRange)
		}
	}
	return out
}

// judged are the kinds with a Ready condition.
var judged = []string{"ipaddresspool", "l2advertisement", "bgpadvertisement", "bgppeer"}

// TestWhatPlanSaysIsWhatHappens: in clusters and by changes that are drawn, what plan says
// is what the controller and the speakers then do.
func TestWhatPlanSaysIsWhatHappens(t *testing.T) {
	const worlds, changes = 30, 3
	made, brought := 0, 0 // changes, and those of which something comes
	for seed := range worlds {
		t.Run(fmt.Sprint("world ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dice{rand.New(rand.NewPCG(uint64(seed), 1))}
				time.Sleep(time.Until(young.Add(24 * time.Hour)))
				l := newLive(t, d.world()...)
				l.settle()
				for i := range changes {
					p, same := l.foresee(d.change(t, l.objects()), i)
					if made++; p.Verdict == view.VerdictDifferences {
						brought++
					}
					if !same || l.forgetful() {
						return
					}
				}
			})
		})
	}
	t.Logf("%d changes, something comes of %d", made, brought)
	if brought < 30 {
		t.Errorf("something comes of %d of %d changes only: does this test still see them?", brought, made)
	}
}

// forgetful reports whether a version of an object is in force that no object has: what was
// good before it became invalid. Plan says then that it does not know.
func (l *live) forgetful() bool {
	p, _ := l.planned(change.Request{})
	return len(p.Unknown) > 0
}

// foresee plans a change, makes it, and compares what becomes of the cluster with the plan.
func (l *live) foresee(r change.Request, number int) (p v1alpha1.Plan, same bool) {
	var words []string
	for _, doc := range r.Documents {
		words = append(words, fmt.Sprint("apply ", doc.Object.Object))
	}
	speakers := l.objects().Speakers
	r.Add = slices.DeleteFunc(r.Add, func(name string) bool {
		return slices.ContainsFunc(speakers, func(s v1beta1.Speaker) bool { return s.Name == name })
	})
	words = append(words, fmt.Sprintf("delete %v drain %v fail %v add %v", r.Delete, r.Drain, r.Fail, r.Add))
	was := l.outcome()
	p, done := l.planned(r)
	want := foretold(was, p)
	l.become(done.Objects, done.FailedNodes)
	l.settle()
	is := l.outcome()
	same = true
	for what, of := range map[string][2]map[string]string{
		"Services": {want.services, is.services},
		"owners":   {want.owners, is.owners},
		"routes":   {want.routes, is.routes},
		"Ready":    {want.ready, is.ready},
		"pools":    {want.pools, is.pools},
	} {
		if !maps.Equal(of[0], of[1]) {
			same = false
			l.t.Errorf("change %d, %s: the plan says\n%v, what came is\n%v", number, what, of[0], of[1])
		}
	}
	if !same {
		l.t.Logf("the change is\n%s\nfrom %+v\nthe plan is %+v", strings.Join(words, "\n"), was, p)
	}
	return p, same
}
