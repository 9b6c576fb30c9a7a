package view

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/config"
)

// problem returns a problem of an object.
func problem(
	severity v1alpha1.Severity, object v1alpha1.Ref, reason, message, command string,
) v1alpha1.Problem {
	return v1alpha1.Problem{
		Severity: severity,
		Object:   object,
		Reason:   reason,
		Message:  message,
		Command:  command,
	}
}

// refs of objects, as kubectl takes their kinds.
func serviceRef(s *service) v1alpha1.Ref {
	return v1alpha1.Ref{Kind: "service", Namespace: s.Namespace, Name: s.Name}
}
func poolRef(name string) v1alpha1.Ref    { return v1alpha1.Ref{Kind: "ipaddresspool", Name: name} }
func speakerRef(name string) v1alpha1.Ref { return v1alpha1.Ref{Kind: "speaker", Name: name} }

// explainService is the command that explains a Service.
func explainService(s *service) string {
	return fmt.Sprintf("kubectl berth explain service/%s -n %s", s.Name, s.Namespace)
}

// configProblems returns what is wrong with the objects that users configure Berth with:
// what their Ready condition says, or, if the controller has not judged this version of the
// object, what it would say.
func (f *Facts) configProblems() []v1alpha1.Problem {
	var out []v1alpha1.Problem
	look := func(kind, resource string, o metav1.ObjectMeta, conditions []metav1.Condition) {
		reason, message := f.readiness(kind, o, conditions)
		if reason == string(v1beta1.ReasonAccepted) || reason == Unknown {
			return
		}
		severity := v1alpha1.Error
		if reason == reasonNotJudged {
			severity = v1alpha1.Warning
		}
		out = append(out, problem(severity, v1alpha1.Ref{Kind: resource, Name: o.Name}, reason, message,
			"kubectl describe "+resource+" "+o.Name))
	}
	for _, o := range f.Pools {
		look(config.KindIPAddressPool, "ipaddresspool", o.ObjectMeta, o.Status.Conditions)
	}
	for _, o := range f.L2Advertisements {
		look(config.KindL2Advertisement, "l2advertisement", o.ObjectMeta, o.Status.Conditions)
	}
	for _, o := range f.BGPAdvertisements {
		look(config.KindBGPAdvertisement, "bgpadvertisement", o.ObjectMeta, o.Status.Conditions)
	}
	for _, o := range f.BGPPeers {
		look(config.KindBGPPeer, "bgppeer", o.ObjectMeta, o.Status.Conditions)
	}
	for _, o := range f.BFDProfiles {
		look(config.KindBFDProfile, "bfdprofile", o.ObjectMeta, o.Status.Conditions)
	}
	for _, o := range f.Communities {
		look(config.KindCommunity, "community", o.ObjectMeta, o.Status.Conditions)
	}
	return out
}

// conditions returns the conditions of the configuration objects.
func (f *Facts) conditions() map[v1alpha1.Ref][]metav1.Condition {
	out := map[v1alpha1.Ref][]metav1.Condition{}
	for _, o := range f.Pools {
		out[poolRef(o.Name)] = o.Status.Conditions
	}
	for _, o := range f.L2Advertisements {
		out[v1alpha1.Ref{Kind: "l2advertisement", Name: o.Name}] = o.Status.Conditions
	}
	for _, o := range f.BGPAdvertisements {
		out[v1alpha1.Ref{Kind: "bgpadvertisement", Name: o.Name}] = o.Status.Conditions
	}
	for _, o := range f.BGPPeers {
		out[v1alpha1.Ref{Kind: "bgppeer", Name: o.Name}] = o.Status.Conditions
	}
	for _, o := range f.BFDProfiles {
		out[v1alpha1.Ref{Kind: "bfdprofile", Name: o.Name}] = o.Status.Conditions
	}
	for _, o := range f.Communities {
		out[v1alpha1.Ref{Kind: "community", Name: o.Name}] = o.Status.Conditions
	}
	return out
}

// applyDefinitions is the command that brings the definitions of Berth's kinds up to date.
const applyDefinitions = "kubectl apply --server-side --force-conflicts -k manifests/crds"

// definitionsOf are the names of the definitions of kinds.
var definitionsOf = map[string]string{
	"ipaddresspool":    snapshot.Pools.Name,
	"l2advertisement":  snapshot.L2Advertisements.Name,
	"bgpadvertisement": snapshot.BGPAdvertisements.Name,
	"bgppeer":          snapshot.BGPPeers.Name,
	"bfdprofile":       snapshot.BFDProfiles.Name,
	"community":        snapshot.Communities.Name,
}

// definitionProblems returns the definitions that are older than the controller, as objects of
// these kinds say.
func (f *Facts) definitionProblems() []v1alpha1.Problem {
	messages := map[string]string{}
	for ref, conditions := range f.conditions() {
		if meta.IsStatusConditionTrue(conditions, v1beta1.ConditionCRDOutdated) {
			outdated := meta.FindStatusCondition(conditions, v1beta1.ConditionCRDOutdated)
			name := definitionsOf[ref.Kind]
			messages[name] = max(messages[name], outdated.Message) // each object of a kind has the same
		}
	}
	var out []v1alpha1.Problem
	for _, name := range sortedKeys(messages) {
		ref := v1alpha1.Ref{Kind: "customresourcedefinition", Name: name}
		out = append(out, problem(v1alpha1.Warning, ref, string(v1beta1.ReasonCRDOutdated), messages[name],
			applyDefinitions))
	}
	return out
}

// reasonNotJudged is the word for an object of which no controller has judged this version.
const reasonNotJudged = "NotObserved"

// judgePatience is how long a controller may take to judge an object.
const judgePatience = 10 * time.Second

// readiness returns the reason and message of the Ready condition of a configuration
// object. If the condition is not about the object as it is now, it returns what the
// controller would say.
func (f *Facts) readiness(
	kind string, o metav1.ObjectMeta, conditions []metav1.Condition,
) (reason, message string) {
	ready := meta.FindStatusCondition(conditions, v1beta1.ConditionReady)
	if ready != nil && ready.ObservedGeneration == o.Generation {
		return ready.Reason, ready.Message
	}
	if p, wrong := f.problems[objectKey{kind, o.Name}]; wrong {
		return string(p.Reason), "The controller has not said so yet. " + p.Message
	}
	if f.Taken.Sub(o.CreationTimestamp.Time) < judgePatience && ready == nil {
		return Unknown, "The controller has not judged the object yet."
	}
	return reasonNotJudged, "No controller has judged this version of the object."
}

// sortProblems puts the worst first, then goes by object.
func sortProblems(problems []v1alpha1.Problem) {
	rank := map[v1alpha1.Severity]int{v1alpha1.Error: 0, v1alpha1.Warning: 1}
	slices.SortStableFunc(problems, func(a, b v1alpha1.Problem) int {
		return cmp.Or(
			cmp.Compare(rank[a.Severity], rank[b.Severity]),
			cmp.Compare(a.Object.Kind, b.Object.Kind),
			cmp.Compare(a.Object.Namespace, b.Object.Namespace),
			cmp.Compare(a.Object.Name, b.Object.Name),
			cmp.Compare(a.Reason, b.Reason),
		)
	})
}
