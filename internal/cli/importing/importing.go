// Package importing turns the configuration of another load balancer into Berth's: pure
// functions of objects. It decides:
//
//  1. which of Berth's objects do what the other's do (a file for each load balancer),
//  2. what there is to say: what has no equivalent, what does not do quite the same, what has
//     to be done by hand, and what is not understood (Remarks),
//  3. whether any Service would get another address. The controller's own code decides that,
//     on a snapshot in which the objects are applied (Check).
//
// Nothing of the other's is dropped in silence: a field that is not known is told.
package importing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// Source is another load balancer.
type Source struct {
	// Name is what --from takes, Title how it writes itself.
	Name, Title string
	// Namespace is the one in which it usually runs.
	Namespace string
	// Kinds are what it is configured with.
	Kinds []snapshot.Foreign

	// convert converts all objects.
	convert func(c *conversion)
	// service says what becomes of a Service that it handles.
	service func(c *conversion, s *corev1.Service)
	// classes are those of spec.loadBalancerClass that it handles; "" stands for Services
	// without one.
	classes []string
	// marks is an annotation without which it does not handle a Service, "" for none.
	marks string
	// noTakeOver says why there are no steps of a take-over from it, "" if there are.
	noTakeOver string
}

// Sources are all that can be imported from.
var Sources = []Source{metalLB, openELB, pureLB, kubeVIP, cilium}

// SourceOf returns the load balancer of a name.
func SourceOf(name string) (Source, error) {
	var names []string
	for _, s := range Sources {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Source{}, fmt.Errorf("--from: %q is not valid: use one of %s", name, strings.Join(names, ", "))
}

// Input is what an import is made from.
type Input struct {
	Source  Source
	Objects []unstructured.Unstructured
	// Namespace is the one in which the other load balancer runs, Berth that of Berth.
	Namespace, Berth string
	// Services are those of the cluster, nil if they are not known; Nodes likewise.
	Services []corev1.Service
	Nodes    []corev1.Node
}

// Result is what becomes of the configuration of another load balancer.
type Result struct {
	Pools             []v1beta1.IPAddressPool
	L2Advertisements  []v1beta1.L2Advertisement
	BGPPeers          []v1beta1.BGPPeer
	BGPAdvertisements []v1beta1.BGPAdvertisement
	BFDProfiles       []v1beta1.BFDProfile
	Communities       []v1beta1.Community

	// Found is how many objects there were of each kind.
	Found   []v1alpha1.ImportCount
	Remarks []v1alpha1.ImportRemark
	// Annotations are those that Services are to be given, so that they ask Berth for what
	// they ask the other for.
	Annotations map[types.NamespacedName]map[string]string
	// Classes are those of spec.loadBalancerClass that the other handles; "" stands for
	// Services without one.
	Classes []string
	// Origins are the objects that each manifest is made from, by kind/name of the manifest.
	Origins map[string]v1alpha1.Ref

	// first is the first manifest of all that are made from an object.
	first map[v1alpha1.Ref]string
}

// conversion is an import in the making.
type conversion struct {
	in  Input
	out Result

	found map[string]int
	names map[string]bool // kind/name that are taken
	// poolsOf are the pools that are made from one of the other's, by its name.
	poolsOf map[string][]string
	classes []string
}

// Convert converts the configuration of another load balancer.
func Convert(in Input) Result {
	c := &conversion{
		in:      in,
		found:   map[string]int{},
		names:   map[string]bool{},
		poolsOf: map[string][]string{},
		classes: in.Source.classes,
	}
	c.in.Objects = slices.Clone(in.Objects) // the order in which they were read means nothing
	slices.SortStableFunc(c.in.Objects, func(a, b unstructured.Unstructured) int {
		return compareRefs(ref(&a), ref(&b))
	})
	c.out.Annotations = map[types.NamespacedName]map[string]string{}
	c.out.Origins = map[string]v1alpha1.Ref{}

	in.Source.convert(c)
	for i := range in.Services {
		if s := &in.Services[i]; c.handles(s) {
			in.Source.service(c, s)
		}
	}

	c.out.Classes = c.classes
	for _, kind := range slices.Sorted(maps.Keys(c.found)) {
		c.out.Found = append(c.out.Found, v1alpha1.ImportCount{Kind: kind, Count: c.found[kind]})
	}
	c.out.sort()
	return c.out
}

// sort puts objects and remarks in order, and joins remarks that say the same.
func (r *Result) sort() {
	slices.SortFunc(r.Pools, func(a, b v1beta1.IPAddressPool) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.L2Advertisements,
		func(a, b v1beta1.L2Advertisement) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.BGPPeers, func(a, b v1beta1.BGPPeer) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.BGPAdvertisements,
		func(a, b v1beta1.BGPAdvertisement) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.BFDProfiles, func(a, b v1beta1.BFDProfile) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Communities, func(a, b v1beta1.Community) int { return cmp.Compare(a.Name, b.Name) })
	r.Remarks = joined(r.Remarks)
}

// handles reports whether the other load balancer handles a Service.
func (c *conversion) handles(s *corev1.Service) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || !slices.Contains(c.classes, classOf(s)) {
		return false
	}
	_, marked := s.Annotations[c.in.Source.marks]
	return c.in.Source.marks == "" || marked
}

func classOf(s *corev1.Service) string {
	if s.Spec.LoadBalancerClass == nil {
		return ""
	}
	return *s.Spec.LoadBalancerClass
}

// each calls a function with each object of a kind of the other load balancer. A status is no
// configuration: it is not counted.
func (c *conversion) each(group, kind string, act func(o *unstructured.Unstructured)) {
	for i := range c.in.Objects {
		o := &c.in.Objects[i]
		if gvk := o.GroupVersionKind(); gvk.Group == group && gvk.Kind == kind {
			act(o)
		}
	}
}

// count counts an object that configures the other load balancer.
func (c *conversion) count(o *unstructured.Unstructured) { c.found[o.GetKind()]++ }

// Manifests returns the objects as they are applied: without status, in an order in which
// nothing refers to what follows.
func (r *Result) Manifests() ([]map[string]any, error) {
	var out []map[string]any
	var failed error
	r.first = map[v1alpha1.Ref]string{}
	add := func(kind string, o any) {
		m, err := manifestOf(kind, o)
		if err != nil {
			failed = cmp.Or(failed, err)
			return
		}
		r.told(kind, m)
		out = append(out, m)
	}
	for i := range r.BFDProfiles {
		add("BFDProfile", &r.BFDProfiles[i])
	}
	for i := range r.Communities {
		add("Community", &r.Communities[i])
	}
	for i := range r.Pools {
		add("IPAddressPool", &r.Pools[i])
	}
	for i := range r.BGPPeers {
		add("BGPPeer", &r.BGPPeers[i])
	}
	for i := range r.L2Advertisements {
		add("L2Advertisement", &r.L2Advertisements[i])
	}
	for i := range r.BGPAdvertisements {
		add("BGPAdvertisement", &r.BGPAdvertisements[i])
	}
	return out, failed
}
