package importing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/controller/plan"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// Verdicts on Services.
const (
	Unchanged = "Unchanged"
	Changes   = "Changes"
	Unknown   = "Unknown"
)

// Kinds are what Check needs of a cluster.
var Kinds = append(slices.Clone(snapshot.PlanKinds), snapshot.Deployments)

// Check says what would become of Services if the manifests were applied, with the
// controller's own code. The other load balancer's Services keep what their status has if
// they can. Problems of the manifests themselves become remarks.
func (r *Result) Check(s *snapshot.Snapshot, source Source) (v1alpha1.ImportServices, error) {
	if unknown := unread(s); unknown != "" {
		return v1alpha1.ImportServices{Verdict: Unknown, Message: unknown}, nil
	}
	r.tellReplaced(s)
	applied := r.applied(s)
	class, assumed := r.class(s)
	out := v1alpha1.ImportServices{Verdict: Unchanged, Message: assumed}

	before := map[types.NamespacedName]v1alpha1.ImportChange{}
	for _, step := range []struct {
		when     string
		services []corev1.Service
	}{
		{"", slices.Clone(s.Services)},
		{"once the annotations are set", r.annotated(s.Services)},
	} {
		if step.when != "" && len(r.Annotations) == 0 {
			break
		}
		planned, err := plan.Of(plan.Snapshot{
			Objects:    applied,
			Services:   step.services,
			Namespaces: s.NamespaceLabels(),
			Nodes:      s.Nodes,
			Speakers:   s.Speakers,
			Class:      class,
			Namespace:  s.Berth,
		}, s.Taken)
		if err != nil {
			return out, fmt.Errorf("decide as the controller does: %w", err)
		}
		if step.when == "" {
			r.refuse(planned.Problems)
			out.Checked = len(planned.Services)
		}
		for key, change := range changed(s.Services, planned.Services) {
			if _, told := before[key]; told {
				continue
			}
			change.When = step.when
			before[key] = change
		}
	}
	for key, change := range r.unhandled(s.Services, source, class) {
		before[key] = change
	}
	out.Assigned = assigned(s.Services, class)
	for _, key := range slices.SortedFunc(maps.Keys(before), byName) {
		out.Changes = append(out.Changes, before[key])
	}
	if len(out.Changes) > 0 {
		out.Verdict = Changes
	}
	return out, nil
}

func byName(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// unread says which kinds that a decision needs are not known, "" for none. Kinds of Berth that
// are not installed have no objects.
func unread(s *snapshot.Snapshot) string {
	missing := map[string]string{}
	for _, u := range s.Unread() {
		missing[u.Kind] = u.Reason
	}
	var out []string
	for _, k := range snapshot.PlanKinds {
		if s.Has(k) || missing[k.Name] == snapshot.ReasonNotInstalled {
			continue
		}
		out = append(out, strings.TrimSuffix(k.Name+" ("+missing[k.Name]+")", " ()"))
	}
	if len(out) == 0 {
		return ""
	}
	return "Not all of what decides could be read: " + strings.Join(out, ", ") + "."
}

// class returns the class of Services that Berth handles, or would. assumed says on what that
// rests if Berth's settings do not say it.
func (r *Result) class(s *snapshot.Snapshot) (class, assumed string) {
	if s.Settings.ClassUnknown == "" {
		return s.Settings.Class, ""
	}
	if !slices.Contains(r.Classes, "") && len(r.Classes) > 0 {
		return r.Classes[0], "Berth is taken to handle Services of the class " + r.Classes[0] + ", because " +
			s.Settings.ClassUnknown + "."
	}
	return "", "Berth is taken to handle Services without a loadBalancerClass, because " +
		s.Settings.ClassUnknown + "."
}

// applied returns the configuration of the cluster with the manifests in it. One that replaces
// another keeps its age.
func (r *Result) applied(s *snapshot.Snapshot) config.Objects {
	out := s.Config()
	out.Pools = apply(s, out.Pools, r.Pools, func(have *v1beta1.IPAddressPool, want v1beta1.IPAddressPool) {
		have.Spec, have.Labels = want.Spec, want.Labels
	})
	out.L2Advertisements = apply(s, out.L2Advertisements, r.L2Advertisements,
		func(have *v1beta1.L2Advertisement, want v1beta1.L2Advertisement) { have.Spec = want.Spec })
	out.BGPPeers = apply(s, out.BGPPeers, r.BGPPeers,
		func(have *v1beta1.BGPPeer, want v1beta1.BGPPeer) { have.Spec = want.Spec })
	out.BGPAdvertisements = apply(s, out.BGPAdvertisements, r.BGPAdvertisements,
		func(have *v1beta1.BGPAdvertisement, want v1beta1.BGPAdvertisement) { have.Spec = want.Spec })
	out.BFDProfiles = apply(s, out.BFDProfiles, r.BFDProfiles,
		func(have *v1beta1.BFDProfile, want v1beta1.BFDProfile) { have.Spec = want.Spec })
	out.Communities = apply(s, out.Communities, r.Communities,
		func(have *v1beta1.Community, want v1beta1.Community) { have.Spec = want.Spec })
	out.SecretsUnread = true
	return out
}

// tellReplaced adds a remark for each object that is there already, and would be changed.
func (r *Result) tellReplaced(s *snapshot.Snapshot) {
	have := s.Config()
	replaced(r, have.Pools, r.Pools, config.KindIPAddressPool,
		func(o v1beta1.IPAddressPool) any { return o.Spec })
	replaced(r, have.L2Advertisements, r.L2Advertisements, config.KindL2Advertisement,
		func(o v1beta1.L2Advertisement) any { return o.Spec })
	replaced(r, have.BGPPeers, r.BGPPeers, config.KindBGPPeer,
		func(o v1beta1.BGPPeer) any { return o.Spec })
	replaced(r, have.BGPAdvertisements, r.BGPAdvertisements, config.KindBGPAdvertisement,
		func(o v1beta1.BGPAdvertisement) any { return o.Spec })
	replaced(r, have.BFDProfiles, r.BFDProfiles, config.KindBFDProfile,
		func(o v1beta1.BFDProfile) any { return o.Spec })
	replaced(r, have.Communities, r.Communities, config.KindCommunity,
		func(o v1beta1.Community) any { return o.Spec })
}

// replaced adds a remark for each object of one kind. What the API server has filled in by
// default is no difference.
func replaced[T any, PT object[T]](r *Result, have, want []T, kind string, spec func(T) any) {
	for _, w := range want {
		name := PT(&w).GetName()
		i := slices.IndexFunc(have, func(h T) bool { return PT(&h).GetName() == name })
		if i < 0 || within(spec(w), spec(have[i])) {
			continue
		}
		r.Remarks = append(r.Remarks, v1alpha1.ImportRemark{
			Reason:  v1alpha1.ImportDiffers,
			Objects: []v1alpha1.Ref{r.Origins[kind+"/"+name]},
			Message: fmt.Sprintf("Berth's %s %s is there already, and would be changed: see kubectl "+
				"diff.", kind, name),
		})
	}
}

// within reports whether all that one value says another says too.
func within(want, have any) bool {
	a, errA := valueOf(want)
	b, errB := valueOf(have)
	return errA == nil && errB == nil && contains(b, a)
}

func valueOf(o any) (out any, err error) {
	raw, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	return out, err
}

func contains(have, want any) bool {
	w, isMap := want.(map[string]any)
	if !isMap {
		return reflect.DeepEqual(have, want)
	}
	h, _ := have.(map[string]any)
	for key, value := range w {
		if !contains(h[key], value) {
			return false
		}
	}
	return true
}

// object is a configuration object by pointer.
type object[T any] interface {
	*T
	metav1.Object
}

// apply returns objects with others applied.
func apply[T any, PT object[T]](s *snapshot.Snapshot, have, want []T, merge func(have *T, want T)) []T {
	out := slices.Clone(have)
	for _, w := range want {
		name := PT(&w).GetName()
		i := slices.IndexFunc(out, func(h T) bool { return PT(&h).GetName() == name })
		if i >= 0 {
			merge(&out[i], w)
			PT(&out[i]).SetGeneration(PT(&out[i]).GetGeneration() + 1)
			continue
		}
		PT(&w).SetCreationTimestamp(metav1.NewTime(s.Taken))
		PT(&w).SetUID(types.UID("(import) " + name))
		PT(&w).SetGeneration(1)
		out = append(out, w)
	}
	return out
}

// annotated returns Services with the annotations that they are to be given.
func (r *Result) annotated(services []corev1.Service) []corev1.Service {
	out := slices.Clone(services)
	for i := range out {
		add := r.Annotations[types.NamespacedName{Namespace: out[i].Namespace, Name: out[i].Name}]
		if len(add) > 0 {
			out[i].Annotations = maps.Clone(out[i].Annotations)
			if out[i].Annotations == nil {
				out[i].Annotations = map[string]string{}
			}
			maps.Copy(out[i].Annotations, add)
		}
	}
	return out
}

// refuse adds a remark for each manifest that the controller would not put in force as it is.
func (r *Result) refuse(problems []config.Problem) {
	for _, p := range problems {
		from, ours := r.Origins[p.Kind+"/"+p.Name]
		if !ours {
			continue // it was there before
		}
		r.Remarks = append(r.Remarks, v1alpha1.ImportRemark{
			Reason:  v1alpha1.ImportRefused,
			Objects: []v1alpha1.Ref{from},
			Message: fmt.Sprintf("Berth's %s %s would not be in force as it is. "+
				"%s", p.Kind, p.Name, p.Message),
		})
	}
	r.Remarks = joined(r.Remarks)
}

// changed returns the Services of which something would change.
func changed(
	services []corev1.Service, planned []plan.Service,
) map[types.NamespacedName]v1alpha1.ImportChange {
	now := map[types.NamespacedName]*corev1.Service{}
	for i := range services {
		now[types.NamespacedName{Namespace: services[i].Namespace, Name: services[i].Name}] = &services[i]
	}
	out := map[types.NamespacedName]v1alpha1.ImportChange{}
	for _, p := range planned {
		has := assignment.StatusAddresses(now[p.Key])
		change := v1alpha1.ImportChange{
			Service: v1alpha1.Ref{Kind: "service", Namespace: p.Key.Namespace, Name: p.Key.Name},
			Change:  changeOf(has, p),
			Now:     texts(has),
			Then:    texts(p.Addresses),
			Reason:  string(p.Reason),
			Message: p.Message,
		}
		if change.Change != "" {
			out[p.Key] = change
		}
	}
	return out
}

// changeOf says what becomes of the addresses of a Service, "" for nothing.
func changeOf(has []netip.Addr, p plan.Service) string {
	kept := 0
	for _, addr := range has {
		if slices.Contains(p.Addresses, addr) {
			kept++
		}
	}
	switch {
	case len(has) == 0 && len(p.Addresses) == 0:
		return ""
	case len(has) > 0 && (p.LeaveStatus || p.Reason == v1beta1.ReasonPoolMissing):
		return "NotTaken" // nobody would announce it
	case len(has) == 0 || kept == len(has) && len(p.Addresses) > kept:
		return "Gains"
	case kept == len(has):
		return ""
	case len(p.Addresses) == 0 || kept == len(p.Addresses):
		return "Loses"
	}
	return "Moves"
}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

// unhandled returns the Services with addresses that the other load balancer handles and Berth
// would not.
func (r *Result) unhandled(
	services []corev1.Service, source Source, class string,
) map[types.NamespacedName]v1alpha1.ImportChange {
	out := map[types.NamespacedName]v1alpha1.ImportChange{}
	for i := range services {
		s := &services[i]
		has := assignment.StatusAddresses(s)
		_, marked := s.Annotations[source.marks]
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(has) == 0 || assignment.Serves(s, class) ||
			!slices.Contains(r.Classes, classOf(s)) || source.marks != "" && !marked {
			continue
		}
		handled := "of the class " + class
		if class == "" {
			handled = "without a loadBalancerClass"
		}
		out[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = v1alpha1.ImportChange{
			Service: v1alpha1.Ref{Kind: "service", Namespace: s.Namespace, Name: s.Name},
			Change:  "NotHandled",
			Now:     texts(has),
			Message: fmt.Sprintf("%s handles it by its loadBalancerClass %q, Berth handles Services %s.",
				source.Title, classOf(s), handled),
		}
	}
	return out
}

// assigned counts the Services of a class that have addresses.
func assigned(services []corev1.Service, class string) int {
	n := 0
	for i := range services {
		if assignment.Serves(&services[i], class) && len(assignment.StatusAddresses(&services[i])) > 0 {
			n++
		}
	}
	return n
}
