package snapshot

import (
	"cmp"
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
)

// Kind is a kind of objects that can be read.
type Kind struct {
	// Name is the kind as kubectl takes it, such as services or ipaddresspools.berth.io.
	Name string

	version    schema.GroupVersion
	resource   string
	namespaced bool
	own        bool // only those in Berth's own namespace
	custom     bool // of a CustomResourceDefinition, which speaks no protobuf
}

// The kinds.
var (
	Services       = core("services", true)
	EndpointSlices = Kind{
		Name:       "endpointslices.discovery.k8s.io",
		version:    discoveryv1.SchemeGroupVersion,
		resource:   "endpointslices",
		namespaced: true,
	}
	Nodes      = core("nodes", false)
	Namespaces = core("namespaces", false)
	Events     = core("events", true)

	Pools             = berth("ipaddresspools")
	L2Advertisements  = berth("l2advertisements")
	BGPAdvertisements = berth("bgpadvertisements")
	BGPPeers          = berth("bgppeers")
	BFDProfiles       = berth("bfdprofiles")
	Communities       = berth("communities")
	Speakers          = berth("speakers")

	Deployments = own("deployments.apps", appsv1.SchemeGroupVersion, "deployments")
	DaemonSets  = own("daemonsets.apps", appsv1.SchemeGroupVersion, "daemonsets")
	Pods        = own("pods", corev1.SchemeGroupVersion, "pods")
	ConfigMaps  = own("configmaps", corev1.SchemeGroupVersion, "configmaps")
	Leases      = own("leases.coordination.k8s.io", coordinationv1.SchemeGroupVersion, "leases")
)

// ConfigKinds are those that users configure Berth with.
var ConfigKinds = []Kind{Pools, L2Advertisements, BGPAdvertisements, BGPPeers, BFDProfiles, Communities}

// PlanKinds are those by which the controller decides.
var PlanKinds = append([]Kind{Services, Namespaces, Nodes, Speakers}, ConfigKinds...)

func core(resource string, namespaced bool) Kind {
	return Kind{
		Name:       resource,
		version:    corev1.SchemeGroupVersion,
		resource:   resource,
		namespaced: namespaced,
	}
}

func berth(resource string) Kind {
	return Kind{
		Name:     resource + "." + v1beta1.GroupVersion.Group,
		version:  v1beta1.GroupVersion,
		resource: resource,
		custom:   true,
	}
}

func own(name string, version schema.GroupVersion, resource string) Kind {
	return Kind{Name: name, version: version, resource: resource, namespaced: true, own: true}
}

// Objects are what was read.
type Objects struct {
	Services       []corev1.Service
	EndpointSlices []discoveryv1.EndpointSlice
	Nodes          []corev1.Node
	Namespaces     []corev1.Namespace
	Events         []corev1.Event

	Pools             []v1beta1.IPAddressPool
	L2Advertisements  []v1beta1.L2Advertisement
	BGPAdvertisements []v1beta1.BGPAdvertisement
	BGPPeers          []v1beta1.BGPPeer
	BFDProfiles       []v1beta1.BFDProfile
	Communities       []v1beta1.Community
	Speakers          []v1beta1.Speaker

	Deployments []appsv1.Deployment
	DaemonSets  []appsv1.DaemonSet
	Pods        []corev1.Pod
	ConfigMaps  []corev1.ConfigMap
	Leases      []coordinationv1.Lease
}

// reader knows how the objects of one kind are read.
type reader struct {
	Kind
	// read replaces the objects of the kind. Nothing else of Objects is touched.
	read func(ctx context.Context, c *Client, namespace string, into *Objects) error
	// list returns an empty list, object an empty object.
	list   func() runtime.Object
	object func() runtime.Object
	// set replaces the objects of the kind by those that a store has.
	set func(into *Objects, stored []any)
	// each returns the objects of the kind.
	each func(*Objects) []client.Object
}

// newReader returns the reader of a kind whose lists are L with objects T.
func newReader[T, L any, PT interface {
	*T
	client.Object
}, PL interface {
	*L
	runtime.Object
}](k Kind, items func(PL) []T, at func(*Objects) *[]T) reader {
	r := reader{
		Kind:   k,
		list:   func() runtime.Object { return PL(new(L)) },
		object: func() runtime.Object { return PT(new(T)) },
	}
	r.read = func(ctx context.Context, c *Client, namespace string, into *Objects) error {
		var out []T
		options := metav1.ListOptions{Limit: c.chunk, ResourceVersion: "0"}
		err := c.list(ctx, k, options, namespace, r.list, func(page runtime.Object, first bool) {
			if first {
				out = nil
			}
			list := items(page.(PL))
			for i := range list {
				trim(PT(&list[i])) // at once: managedFields may be larger than all the rest
			}
			out = append(out, list...)
		})
		*at(into) = out
		return err
	}
	r.set = func(into *Objects, stored []any) {
		out := make([]T, 0, len(stored))
		for _, o := range stored {
			out = append(out, *o.(PT))
		}
		slices.SortFunc(out, func(a, b T) int {
			first, second := PT(&a), PT(&b)
			return cmp.Or(
				cmp.Compare(first.GetNamespace(), second.GetNamespace()),
				cmp.Compare(first.GetName(), second.GetName()),
			)
		})
		*at(into) = out
	}
	r.each = func(o *Objects) []client.Object {
		list := *at(o)
		out := make([]client.Object, 0, len(list))
		for i := range list {
			out = append(out, PT(&list[i]))
		}
		return out
	}
	return r
}

// trim drops what nobody reads and what may be large.
func trim(o metav1.Object) {
	o.SetManagedFields(nil)
	if n, ok := o.(*corev1.Node); ok {
		n.Status.Images, n.Status.VolumesInUse, n.Status.VolumesAttached = nil, nil, nil
	}
}

// readers are those of all kinds.
var readers = []reader{
	newReader(Services, func(l *corev1.ServiceList) []corev1.Service { return l.Items },
		func(o *Objects) *[]corev1.Service { return &o.Services }),
	newReader(EndpointSlices,
		func(l *discoveryv1.EndpointSliceList) []discoveryv1.EndpointSlice { return l.Items },
		func(o *Objects) *[]discoveryv1.EndpointSlice { return &o.EndpointSlices }),
	newReader(Nodes, func(l *corev1.NodeList) []corev1.Node { return l.Items },
		func(o *Objects) *[]corev1.Node { return &o.Nodes }),
	newReader(Namespaces, func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items },
		func(o *Objects) *[]corev1.Namespace { return &o.Namespaces }),
	newReader(Events, func(l *corev1.EventList) []corev1.Event { return l.Items },
		func(o *Objects) *[]corev1.Event { return &o.Events }),

	newReader(Pools, func(l *v1beta1.IPAddressPoolList) []v1beta1.IPAddressPool { return l.Items },
		func(o *Objects) *[]v1beta1.IPAddressPool { return &o.Pools }),
	newReader(L2Advertisements,
		func(l *v1beta1.L2AdvertisementList) []v1beta1.L2Advertisement { return l.Items },
		func(o *Objects) *[]v1beta1.L2Advertisement { return &o.L2Advertisements }),
	newReader(BGPAdvertisements,
		func(l *v1beta1.BGPAdvertisementList) []v1beta1.BGPAdvertisement { return l.Items },
		func(o *Objects) *[]v1beta1.BGPAdvertisement { return &o.BGPAdvertisements }),
	newReader(BGPPeers, func(l *v1beta1.BGPPeerList) []v1beta1.BGPPeer { return l.Items },
		func(o *Objects) *[]v1beta1.BGPPeer { return &o.BGPPeers }),
	newReader(BFDProfiles, func(l *v1beta1.BFDProfileList) []v1beta1.BFDProfile { return l.Items },
		func(o *Objects) *[]v1beta1.BFDProfile { return &o.BFDProfiles }),
	newReader(Communities, func(l *v1beta1.CommunityList) []v1beta1.Community { return l.Items },
		func(o *Objects) *[]v1beta1.Community { return &o.Communities }),
	newReader(Speakers, func(l *v1beta1.SpeakerList) []v1beta1.Speaker { return l.Items },
		func(o *Objects) *[]v1beta1.Speaker { return &o.Speakers }),

	newReader(Deployments, func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items },
		func(o *Objects) *[]appsv1.Deployment { return &o.Deployments }),
	newReader(DaemonSets, func(l *appsv1.DaemonSetList) []appsv1.DaemonSet { return l.Items },
		func(o *Objects) *[]appsv1.DaemonSet { return &o.DaemonSets }),
	newReader(Pods, func(l *corev1.PodList) []corev1.Pod { return l.Items },
		func(o *Objects) *[]corev1.Pod { return &o.Pods }),
	newReader(ConfigMaps, func(l *corev1.ConfigMapList) []corev1.ConfigMap { return l.Items },
		func(o *Objects) *[]corev1.ConfigMap { return &o.ConfigMaps }),
	newReader(Leases, func(l *coordinationv1.LeaseList) []coordinationv1.Lease { return l.Items },
		func(o *Objects) *[]coordinationv1.Lease { return &o.Leases }),
}
