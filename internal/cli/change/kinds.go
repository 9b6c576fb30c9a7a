package change

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
)

// kind is a kind of objects of which a change can be judged.
type kind struct {
	gvk schema.GroupVersionKind
	// ref is the kind as kubectl takes it, and words are what else it is called.
	ref   string
	words []string
	// reads is the kind in a snapshot.
	reads      snapshot.Kind
	namespaced bool
	// apply puts an object among those of the kind, merged into the one of its name.
	apply func(*applying, Document) (Verb, error)
	// remove takes an object away, and reports whether it was there.
	remove func(o *snapshot.Objects, namespace, name string) bool
}

// newKind returns a kind with objects T.
func newKind[T any, PT interface {
	*T
	metav1.Object
	runtime.Object
}](k kind, at func(*snapshot.Objects) *[]T) kind {
	find := func(list []T, namespace, name string) int {
		return slices.IndexFunc(list, func(o T) bool {
			meta := PT(&o)
			return meta.GetNamespace() == namespace && meta.GetName() == name
		})
	}
	k.apply = func(a *applying, d Document) (Verb, error) {
		list := at(&a.out.Objects)
		i := find(*list, d.Object.GetNamespace(), d.Object.GetName())
		if i < 0 {
			o := PT(new(T))
			if err := decode(d.Object.Object, o); err != nil {
				return "", err
			}
			a.create(k, o)
			*list = append(slices.Clip(*list), *o)
			return Created, nil
		}
		merged, before := PT(new(T)), PT(&(*list)[i])
		if err := merge(k, before, d, merged); err != nil {
			return "", err
		}
		if same(before, merged) {
			return Unchanged, nil
		}
		if s, ok := any(merged).(*corev1.Service); ok {
			completeService(s, a.families)
		}
		merged.SetGeneration(before.GetGeneration() + 1)
		merged.SetResourceVersion(before.GetResourceVersion() + "+")
		*list = slices.Clone(*list)
		(*list)[i] = *merged
		return Updated, nil
	}
	k.remove = func(o *snapshot.Objects, namespace, name string) bool {
		list := at(o)
		i := find(*list, namespace, name)
		if i >= 0 {
			*list = slices.Delete(slices.Clone(*list), i, i+1)
		}
		return i >= 0
	}
	return k
}

func berthKind(name, ref string, reads snapshot.Kind, words ...string) kind {
	return kind{gvk: v1beta1.GroupVersion.WithKind(name), ref: ref, reads: reads, words: words}
}

// kinds are those of which changes can be judged.
var kinds = []kind{
	newKind(berthKind("IPAddressPool", "ipaddresspool", snapshot.Pools, "pool", "ipp"),
		func(o *snapshot.Objects) *[]v1beta1.IPAddressPool { return &o.Pools }),
	newKind(berthKind("L2Advertisement", "l2advertisement", snapshot.L2Advertisements),
		func(o *snapshot.Objects) *[]v1beta1.L2Advertisement { return &o.L2Advertisements }),
	newKind(berthKind("BGPAdvertisement", "bgpadvertisement", snapshot.BGPAdvertisements),
		func(o *snapshot.Objects) *[]v1beta1.BGPAdvertisement { return &o.BGPAdvertisements }),
	newKind(berthKind("BGPPeer", "bgppeer", snapshot.BGPPeers, "peer"),
		func(o *snapshot.Objects) *[]v1beta1.BGPPeer { return &o.BGPPeers }),
	newKind(berthKind("BFDProfile", "bfdprofile", snapshot.BFDProfiles),
		func(o *snapshot.Objects) *[]v1beta1.BFDProfile { return &o.BFDProfiles }),
	newKind(berthKind("Community", "community", snapshot.Communities),
		func(o *snapshot.Objects) *[]v1beta1.Community { return &o.Communities }),
	newKind(kind{
		gvk:        corev1.SchemeGroupVersion.WithKind("Service"),
		ref:        "service",
		words:      []string{"svc"},
		reads:      snapshot.Services,
		namespaced: true,
	}, func(o *snapshot.Objects) *[]corev1.Service { return &o.Services }),
	newKind(kind{
		gvk:        discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		ref:        "endpointslice",
		reads:      snapshot.EndpointSlices,
		namespaced: true,
	}, func(o *snapshot.Objects) *[]discoveryv1.EndpointSlice { return &o.EndpointSlices }),
	newKind(kind{
		gvk:   corev1.SchemeGroupVersion.WithKind("Node"),
		ref:   "node",
		words: []string{"no"},
		reads: snapshot.Nodes,
	}, func(o *snapshot.Objects) *[]corev1.Node { return &o.Nodes }),
	newKind(kind{
		gvk:   corev1.SchemeGroupVersion.WithKind("Namespace"),
		ref:   "namespace",
		words: []string{"ns"},
		reads: snapshot.Namespaces,
	}, func(o *snapshot.Objects) *[]corev1.Namespace { return &o.Namespaces }),
}

// core reports whether the API server merges objects of the kind by the tags of their
// types.
func (k kind) core() bool { return k.gvk.Group != v1beta1.GroupVersion.Group }

// decode reads an object, and refuses fields that there are not.
func decode(from map[string]any, into runtime.Object) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(from, into, true)
}

// merge does what kubectl apply does with the manifest of an object that exists: of three
// versions, the one applied last, the manifest and the object, it makes the next. Status is
// nothing that users write.
func merge(k kind, before runtime.Object, d Document, into runtime.Object) error {
	current, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("encode the object in the cluster: %w", err)
	}
	manifest := maps.Clone(d.Object.Object)
	delete(manifest, "status")
	modified, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	if err := decode(manifest, into); err != nil { // to refuse unknown fields
		return err
	}
	original, err := lastApplied(before.(metav1.Object))
	if err != nil {
		return err
	}
	var merged []byte
	if k.core() {
		tags, err := strategicpatch.NewPatchMetaFromStruct(before)
		if err != nil {
			return fmt.Errorf("merge: %w", err)
		}
		patch, err := strategicpatch.CreateThreeWayMergePatch(original, modified, current, tags, true)
		if err != nil {
			return fmt.Errorf("merge: %w", err)
		}
		merged, err = strategicpatch.StrategicMergePatchUsingLookupPatchMeta(current, patch, tags)
		if err != nil {
			return fmt.Errorf("merge: %w", err)
		}
	} else {
		patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(original, modified, current)
		if err != nil {
			return fmt.Errorf("merge: %w", err)
		}
		if merged, err = jsonpatch.MergePatch(current, patch); err != nil {
			return fmt.Errorf("merge: %w", err)
		}
	}
	fields := map[string]any{}
	if err := json.NewDecoder(bytes.NewReader(merged)).Decode(&fields); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(fields, into)
}

// lastApplied returns the manifest that kubectl apply wrote last, without a status; none if
// it never did.
func lastApplied(o metav1.Object) ([]byte, error) {
	text := o.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if text == "" {
		return nil, nil
	}
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return nil, fmt.Errorf("the annotation %s of the object in the cluster: %w",
			corev1.LastAppliedConfigAnnotation, err)
	}
	delete(fields, "status")
	return json.Marshal(fields)
}

// same reports whether two versions of an object differ in nothing that counts.
func same(a, b runtime.Object) bool {
	strip := func(o runtime.Object) runtime.Object {
		out := o.DeepCopyObject()
		meta := out.(metav1.Object)
		annotations := maps.Clone(meta.GetAnnotations())
		delete(annotations, corev1.LastAppliedConfigAnnotation)
		meta.SetAnnotations(annotations)
		out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		return out
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

// create completes an object as the API server does that makes one.
func (a *applying) create(k kind, o metav1.Object) {
	o.SetUID(types.UID("planned/" + k.ref + "/" + o.GetNamespace() + "/" + o.GetName()))
	o.SetCreationTimestamp(metav1.NewTime(a.now))
	o.SetGeneration(1)
	o.SetResourceVersion("planned")
	switch o := o.(type) {
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
		completeService(o, a.families)
	case *v1beta1.IPAddressPool:
		o.Status = v1beta1.IPAddressPoolStatus{}
	}
}

// families are those of cluster IPs, the one that Services get first.
type families []corev1.IPFamily

// familiesOf returns the families of cluster IPs: those of the Services that there are, the
// one of Service kubernetes first.
func familiesOf(services []corev1.Service) families {
	var out families
	ordered := slices.Clone(services)
	isAPI := func(s corev1.Service) int {
		if s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(ordered, func(a, b corev1.Service) int { return cmp.Compare(isAPI(a), isAPI(b)) })
	for i := range ordered {
		for _, text := range ordered[i].Spec.ClusterIPs {
			family := corev1.IPv4Protocol
			switch {
			case text == corev1.ClusterIPNone || text == "":
				continue
			case bytes.ContainsRune([]byte(text), ':'):
				family = corev1.IPv6Protocol
			}
			if !slices.Contains(out, family) {
				out = append(out, family)
			}
		}
	}
	if len(out) == 0 {
		return families{corev1.IPv4Protocol}
	}
	return out
}

// plannedIPs are cluster IPs that nobody has given out: they tell the family.
var plannedIPs = map[corev1.IPFamily]string{corev1.IPv4Protocol: "127.0.0.1", corev1.IPv6Protocol: "::1"}

// completeService fills in what the API server does of a Service that counts here: its type
// and policy, and cluster IPs of the families that it asks for.
func completeService(s *corev1.Service, has families) {
	s.Spec.Type = cmp.Or(s.Spec.Type, corev1.ServiceTypeClusterIP)
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return
	}
	if s.Spec.Type != corev1.ServiceTypeClusterIP {
		s.Spec.ExternalTrafficPolicy = cmp.Or(s.Spec.ExternalTrafficPolicy,
			corev1.ServiceExternalTrafficPolicyCluster)
	}
	wanted := slices.Clone(s.Spec.IPFamilies)
	if len(wanted) == 0 {
		wanted = append(wanted, has[0])
	}
	if policy := s.Spec.IPFamilyPolicy; policy != nil && *policy != corev1.IPFamilyPolicySingleStack {
		for _, family := range has {
			if !slices.Contains(wanted, family) {
				wanted = append(wanted, family)
			}
		}
	} else if policy != nil || len(s.Spec.ClusterIPs) == 0 {
		wanted = wanted[:1]
	}
	s.Spec.IPFamilies = wanted
	s.Spec.ClusterIPs = s.Spec.ClusterIPs[:min(len(s.Spec.ClusterIPs), len(wanted))]
	for _, family := range wanted[len(s.Spec.ClusterIPs):] {
		s.Spec.ClusterIPs = append(slices.Clip(s.Spec.ClusterIPs), plannedIPs[family])
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
}
