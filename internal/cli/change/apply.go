package change

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// Verb is what is done to an object.
type Verb string

// The verbs.
const (
	Created   Verb = "Create"
	Updated   Verb = "Update"
	Deleted   Verb = "Delete"
	Unchanged Verb = "Unchanged"
	Drained   Verb = "Drain"
	Failed    Verb = "Fail"
	Added     Verb = "Add"
)

// Request is what is to be changed, all at once.
type Request struct {
	Documents []Document
	Delete    []v1alpha1.Ref
	// Drain, Fail and Add are nodes.
	Drain, Fail, Add []string
	// Namespace is that of objects which name none.
	Namespace string
}

// Result is what a snapshot comes to.
type Result struct {
	Objects snapshot.Objects
	// Done is what is done, in the order of the request.
	Done []Done
	// NotJudged are objects of kinds of which nothing is known here.
	NotJudged []NotJudged
	// FailedNodes have died. AddedNodes have the links of another one each.
	FailedNodes []string
	AddedNodes  map[string]string
	// NewServices are Services of which no endpoints can be known yet.
	NewServices []v1alpha1.Ref
	// Remarks say what was assumed.
	Remarks []string
}

// Done is what is done to one object.
type Done struct {
	Verb   Verb
	Object v1alpha1.Ref
	// From says where that stands, "" for an argument.
	From string
}

// NotJudged is an object of which nothing is known here.
type NotJudged struct {
	Object v1alpha1.Ref
	From   string
}

// applying is a request that is being applied.
type applying struct {
	out      *Result
	families families
	now      time.Time
}

// Apply returns what the objects of a snapshot are when a request is done. The error names
// every document and argument that is wrong. The snapshot is not changed.
func Apply(s *snapshot.Snapshot, r Request) (Result, error) {
	out := Result{Objects: s.Objects, AddedNodes: map[string]string{}}
	a := &applying{out: &out, families: familiesOf(s.Services), now: s.Taken.Truncate(time.Second)}
	var errs []error
	for _, d := range r.Documents {
		if err := a.document(d, r.Namespace); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d, err))
		}
	}
	for _, ref := range r.Delete {
		errs = append(errs, a.remove(ref))
	}
	for _, name := range r.Add {
		errs = append(errs, a.add(name))
	}
	for _, name := range r.Drain {
		errs = append(errs, a.drain(name))
	}
	for _, name := range r.Fail {
		errs = append(errs, a.fail(name))
	}
	a.expectEndpoints()
	return out, errors.Join(errs...)
}

// document applies one object of a manifest.
func (a *applying) document(d Document, namespace string) error {
	gvk := d.Object.GroupVersionKind()
	ref := v1alpha1.Ref{
		Kind:      strings.ToLower(gvk.Kind),
		Namespace: d.Object.GetNamespace(),
		Name:      d.Object.GetName(),
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.gvk.GroupKind() == gvk.GroupKind() })
	switch {
	case d.Object.GetName() == "":
		return fmt.Errorf("%s has no metadata.name", gvk.Kind)
	case i < 0:
		a.out.NotJudged = append(a.out.NotJudged, NotJudged{Object: ref, From: d.String()})
		return nil
	case kinds[i].gvk.Version != gvk.Version:
		return fmt.Errorf("%s is of apiVersion %s, use %s",
			gvk.Kind, gvk.GroupVersion(), kinds[i].gvk.GroupVersion())
	}
	k := kinds[i]
	ref.Kind = k.ref
	d.Object = d.Object.DeepCopy()
	switch {
	case !k.namespaced && ref.Namespace != "":
		ref.Namespace = ""
		d.Object.SetNamespace("") // kubectl passes over it too
	case k.namespaced && ref.Namespace == "":
		ref.Namespace = cmp.Or(namespace, metav1.NamespaceDefault)
		d.Object.SetNamespace(ref.Namespace)
	}
	verb, err := k.apply(a, d)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	a.done(verb, ref, d.String())
	if k.ref == "service" && verb == Created {
		a.out.NewServices = append(a.out.NewServices, ref)
	}
	return nil
}

func (a *applying) done(verb Verb, ref v1alpha1.Ref, from string) {
	a.out.Done = append(a.out.Done, Done{Verb: verb, Object: ref, From: from})
}

// remove takes an object away, with what goes with it.
func (a *applying) remove(ref v1alpha1.Ref) error {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.ref == ref.Kind })
	if i < 0 || !kinds[i].remove(&a.out.Objects, ref.Namespace, ref.Name) {
		return fmt.Errorf("--delete: there is no %s", ref)
	}
	a.done(Deleted, ref, "")
	o := &a.out.Objects
	switch ref.Kind {
	case "service":
		o.EndpointSlices = without(o.EndpointSlices, func(s *discoveryv1.EndpointSlice) bool {
			return s.Namespace == ref.Namespace && s.Labels[discoveryv1.LabelServiceName] == ref.Name
		})
	case "namespace":
		o.Services = without(o.Services, func(s *corev1.Service) bool { return s.Namespace == ref.Name })
		o.EndpointSlices = without(o.EndpointSlices, func(s *discoveryv1.EndpointSlice) bool {
			return s.Namespace == ref.Name
		})
	case "node":
		o.Speakers = without(o.Speakers, func(s *v1beta1.Speaker) bool { return s.Name == ref.Name })
		a.evict(ref.Name)
	}
	return nil
}

// without returns a list without the objects for which a condition holds.
func without[T any](list []T, condition func(*T) bool) []T {
	var out []T
	for i := range list {
		if !condition(&list[i]) {
			out = append(out, list[i])
		}
	}
	return out
}

// remark says what is assumed.
func (a *applying) remark(format string, args ...any) {
	a.out.Remarks = append(a.out.Remarks, fmt.Sprintf(format, args...))
}

// node returns the index of a node.
func (a *applying) node(flag, name string) (int, error) {
	i := slices.IndexFunc(a.out.Objects.Nodes, func(n corev1.Node) bool { return n.Name == name })
	if i < 0 {
		return i, fmt.Errorf("%s: there is no node %q", flag, name)
	}
	return i, nil
}

// drain cordons a node, and takes the endpoints on it away.
func (a *applying) drain(name string) error {
	i, err := a.node("--drain", name)
	if err != nil {
		return err
	}
	a.out.Objects.Nodes = slices.Clone(a.out.Objects.Nodes)
	a.out.Objects.Nodes[i].Spec.Unschedulable = true
	a.done(Drained, v1alpha1.Ref{Kind: "node", Name: name}, "")
	if n := a.evict(name); n > 0 {
		a.remark("Endpoints on node %s count as gone: %d. Pods that are evicted start elsewhere, and where "+
			"is not known; those of DaemonSets stay.", name, n)
	}
	return nil
}

// fail has a node die, and takes the endpoints on it away.
func (a *applying) fail(name string) error {
	if _, err := a.node("--fail", name); err != nil {
		return err
	}
	a.out.FailedNodes = append(a.out.FailedNodes, name)
	a.done(Failed, v1alpha1.Ref{Kind: "node", Name: name}, "")
	if n := a.evict(name); n > 0 {
		a.remark("Endpoints on node %s count as gone: %d. Kubernetes needs some 40 s to say so, and then "+
			"starts the pods elsewhere: where is not known.", name, n)
	}
	return nil
}

// evict takes the endpoints on a node away, and returns how many there were.
func (a *applying) evict(node string) int {
	o := &a.out.Objects
	o.EndpointSlices = slices.Clone(o.EndpointSlices)
	count := 0
	on := func(e discoveryv1.Endpoint) bool { return e.NodeName != nil && *e.NodeName == node }
	for i := range o.EndpointSlices {
		s := &o.EndpointSlices[i]
		if !slices.ContainsFunc(s.Endpoints, on) {
			continue
		}
		had := len(s.Endpoints)
		s.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints), on)
		count += had - len(s.Endpoints)
	}
	return count
}

// add adds a node with a speaker, like another one.
func (a *applying) add(name string) error {
	o := &a.out.Objects
	if slices.ContainsFunc(o.Speakers, func(s v1beta1.Speaker) bool { return s.Name == name }) {
		return fmt.Errorf("--add: there is a node %q already", name)
	}
	like := a.model(name)
	if like == nil {
		return errors.New("--add: there is no node with a speaker that the new one could be like")
	}
	known := slices.ContainsFunc(o.Nodes, func(n corev1.Node) bool { return n.Name == name })
	if !known { // else a manifest has it
		o.Nodes = append(slices.Clip(o.Nodes), corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:              name,
			Labels:            map[string]string{corev1.LabelHostname: name},
			CreationTimestamp: metav1.NewTime(a.now),
		}})
		a.remark("Node %s is taken for one without labels and annotations: give its manifest with -f if it "+
			"has some.", name)
	}
	a.remark("Node %s is taken for one with the network interfaces and subnets of node %s, and no endpoints.",
		name, like.Name)
	a.out.AddedNodes[name] = like.Name
	speaker := v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
	speaker.Status = v1beta1.SpeakerStatus{
		Stage:        v1beta1.StageReady,
		HasWorked:    true,
		Links:        like.Status.Links,
		Protocols:    like.Status.Protocols,
		ExcludeLabel: like.Status.ExcludeLabel,
		Cordon:       like.Status.Cordon,
	}
	o.Speakers = append(slices.Clip(o.Speakers), speaker)
	slices.SortFunc(o.Speakers, func(a, b v1beta1.Speaker) int { return cmp.Compare(a.Name, b.Name) })
	a.done(Added, v1alpha1.Ref{Kind: "node", Name: name}, "")
	return nil
}

// model returns the Speaker of the node that a new one is taken to be like: the first that
// works and carries no marks, else the first that there is.
func (a *applying) model(name string) *v1beta1.Speaker {
	var first *v1beta1.Speaker
	for i := range a.out.Objects.Speakers {
		s := &a.out.Objects.Speakers[i]
		at := slices.IndexFunc(a.out.Objects.Nodes, func(n corev1.Node) bool { return n.Name == s.Name })
		if at < 0 || s.Name == name {
			continue
		}
		n := &a.out.Objects.Nodes[at]
		_, excluded := n.Labels[v1beta1.LabelExcludeNode]
		if s.Status.Stage == v1beta1.StageReady && !excluded && !n.Spec.Unschedulable {
			return s
		}
		if first == nil {
			first = s
		}
	}
	return first
}

// expectEndpoints has new Services have an endpoint of which it is not known where it is:
// without one nobody would announce them, and their pods are not known. Services of whose
// endpoints a manifest tells are left alone.
func (a *applying) expectEndpoints() {
	o := &a.out.Objects
	for _, ref := range a.out.NewServices {
		told := slices.ContainsFunc(o.EndpointSlices, func(s discoveryv1.EndpointSlice) bool {
			return s.Namespace == ref.Namespace && s.Labels[discoveryv1.LabelServiceName] == ref.Name
		})
		if told {
			continue
		}
		for _, family := range []discoveryv1.AddressType{
			discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6,
		} {
			slice := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
				Namespace: ref.Namespace,
				Name:      ref.Name + "-" + strings.ToLower(string(family)),
				Labels:    map[string]string{discoveryv1.LabelServiceName: ref.Name},
			}}
			slice.AddressType, slice.Endpoints = family, make([]discoveryv1.Endpoint, 1)
			o.EndpointSlices = append(slices.Clip(o.EndpointSlices), slice)
		}
		a.remark("Service %s/%s is taken to have a ready endpoint: who announces it if its "+
			"externalTrafficPolicy is Local depends on where its pods run.", ref.Namespace, ref.Name)
	}
}

// Kind returns the kind that a word of kubectl's stands for, as a Ref has it; ok is false if
// changes of it cannot be judged. namespaced is set if its objects are in namespaces.
func Kind(word string) (ref string, namespaced, ok bool) {
	word = strings.ToLower(word)
	for _, k := range kinds {
		plain, _, _ := strings.Cut(word, ".")
		names := append([]string{k.ref, plural(k.ref)}, k.words...)
		for _, w := range k.words {
			names = append(names, plural(w))
		}
		if slices.Contains(names, word) || k.gvk.Group == v1beta1.GroupVersion.Group &&
			word == plain+"."+k.gvk.Group && slices.Contains(names, plain) {
			return k.ref, k.namespaced, true
		}
	}
	return "", false, false
}

func plural(word string) string {
	if head, ok := strings.CutSuffix(word, "y"); ok {
		return head + "ies"
	}
	return word + "s"
}

// Kinds returns the kinds of which changes can be judged, as a Ref has them, sorted.
func Kinds() []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.ref)
	}
	slices.Sort(out)
	return out
}
