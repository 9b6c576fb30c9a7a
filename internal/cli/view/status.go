package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// StatusKinds are the kinds that Status needs.
var StatusKinds = slices.Concat(NodeKinds, []snapshot.Kind{snapshot.Leases})

// Verdicts of Status.
const (
	VerdictHealthy      = "Healthy"
	VerdictProblems     = "Problems"
	VerdictUnknown      = Unknown
	VerdictNotInstalled = "NotInstalled"
)

// leaseName is that of the controller's leader election.
const leaseName = "berth-controller"

// Status returns the state of Berth on one screen.
func (f *Facts) Status(context string) v1alpha1.Status {
	out := v1alpha1.Status{
		TypeMeta:  v1alpha1.TypeMeta("Status"),
		Context:   context,
		Namespace: f.Berth,
		Verdict:   VerdictHealthy,
		Problems:  []v1alpha1.Problem{},
		Unread:    f.Unread(),
	}
	if !f.Installed() {
		out.Verdict = VerdictNotInstalled
		out.Problems = append(out.Problems, problem(v1alpha1.Error,
			v1alpha1.Ref{Kind: "namespace", Name: f.Berth}, VerdictNotInstalled,
			"The API server knows none of Berth's kinds.", "kubectl apply -k manifests/base"))
		return out
	}
	problems := append(f.configProblems(), f.definitionProblems()...)
	problems = append(problems, f.addController(&out)...)
	problems = append(problems, f.addSpeakers(&out)...)
	problems = append(problems, f.addServices(&out)...)
	for i := range f.Pools {
		out.Pools = append(out.Pools, f.poolUse(&f.Pools[i]))
		row := f.poolRow(&f.Pools[i])
		for _, p := range row.Problems {
			if p.Severity == v1alpha1.Warning { // the others are those of the Ready condition
				problems = append(problems, p)
			}
		}
	}
	sortProblems(problems)
	out.Problems = append(out.Problems, problems...)
	switch {
	case len(out.Problems) > 0:
		out.Verdict = VerdictProblems
	case len(out.Unread) > 0 || f.Settings.ClassUnknown != "" ||
		out.Services != nil && out.Services.Unknown > 0:
		out.Verdict = VerdictUnknown
	}
	return out
}

// addController fills in the state of the controller.
func (f *Facts) addController(out *v1alpha1.Status) []v1alpha1.Problem {
	var problems []v1alpha1.Problem
	state := &v1alpha1.ControllerState{}
	ref := v1alpha1.Ref{Kind: "deployment", Namespace: f.Berth, Name: "berth-controller"}
	logs := fmt.Sprintf("kubectl -n %s logs deployment/berth-controller", f.Berth)
	found := false
	for i := range f.Deployments {
		d := &f.Deployments[i]
		if d.Spec.Template.Labels["app.kubernetes.io/component"] != "controller" {
			continue
		}
		found, ref.Name = true, d.Name
		state.Replicas, state.Ready = d.Spec.Replicas, new(d.Status.ReadyReplicas)
		for _, c := range d.Spec.Template.Spec.Containers {
			state.Image = c.Image
		}
		if d.Status.ReadyReplicas == 0 {
			problems = append(problems, problem(v1alpha1.Error, ref, "NotReady",
				"No replica of the controller is ready: nothing is assigned.", logs))
		} else if d.Spec.Replicas != nil && d.Status.ReadyReplicas < *d.Spec.Replicas {
			problems = append(problems, problem(v1alpha1.Warning, ref, "NotReady", fmt.Sprintf(
				"%d of %d replicas are ready.", d.Status.ReadyReplicas, *d.Spec.Replicas), logs))
		}
	}
	if !found && f.Has(snapshot.Deployments) {
		problems = append(problems, problem(v1alpha1.Error, ref, "NotFound",
			"There is no Deployment of the controller in namespace "+f.Berth+".",
			"kubectl berth status --berth-namespace NAMESPACE"))
	}
	if p := f.addLeader(state, ref, logs); p != nil {
		problems = append(problems, *p)
	}
	if found || state.Leader != "" || f.Has(snapshot.Deployments) {
		out.Controller = state
	}
	return problems
}

// addLeader fills in who leads.
func (f *Facts) addLeader(
	state *v1alpha1.ControllerState, ref v1alpha1.Ref, logs string,
) *v1alpha1.Problem {
	for i := range f.Leases {
		l := &f.Leases[i]
		if l.Name != leaseName || l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
			continue
		}
		state.Leader, _, _ = strings.Cut(*l.Spec.HolderIdentity, "_")
		if l.Spec.AcquireTime != nil {
			state.Since = metav1.NewTime(l.Spec.AcquireTime.Time)
		}
		if l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
			return nil
		}
		// The clocks of two hosts differ a little.
		const slack = 30 * time.Second
		held := time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second + slack
		if age := f.Taken.Sub(l.Spec.RenewTime.Time); age > held {
			return new(problem(v1alpha1.Error, ref, "NoLeader", fmt.Sprintf(
				"%s has not renewed its lease for %s: nothing is "+
					"assigned.", state.Leader, age.Round(time.Second)),
				logs))
		}
		return nil
	}
	if f.Has(snapshot.Leases) {
		return new(problem(v1alpha1.Error, ref, "NoLeader", "No controller leads: nothing is "+
			"assigned.", logs))
	}
	return nil
}

// reasonSettings is the word for settings of the controller and the speakers that disagree.
const reasonSettings = "Settings"

// mostNamed is how many nodes are named in one place.
const mostNamed = 3

// addSpeakers fills in the state of the speakers, and what they announce and watch.
func (f *Facts) addSpeakers(out *v1alpha1.Status) []v1alpha1.Problem {
	if !f.Has(snapshot.Speakers) {
		return nil
	}
	var problems []v1alpha1.Problem
	state := &v1alpha1.SpeakersState{Known: len(f.Speakers)}
	layer2 := &v1alpha1.Layer2State{}
	bgp, bfd := &v1alpha1.SessionsState{}, &v1alpha1.SessionsState{}
	versions := map[string]*v1alpha1.VersionCount{}
	for i := range f.Speakers {
		s := &f.Speakers[i]
		if meta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.ConditionReady) {
			state.Ready++
		}
		v := versions[s.Status.Version]
		if v == nil {
			v = &v1alpha1.VersionCount{Version: s.Status.Version}
			versions[s.Status.Version] = v
		}
		if v.Count++; len(v.Nodes) < mostNamed {
			v.Nodes = append(v.Nodes, s.Name)
		}
		layer2.Addresses += int(s.Status.Layer2.Owned)
		layer2.Conflicts += int(s.Status.Layer2.ConflictCount)
		if s.Status.Layer2.Owned > 0 {
			layer2.Nodes++
		}
		bgp.Sessions, bgp.Up = bgp.Sessions+int(s.Status.BGP.Count), bgp.Up+int(s.Status.BGP.Established)
		bfd.Sessions, bfd.Up = bfd.Sessions+int(s.Status.BFD.Count), bfd.Up+int(s.Status.BFD.Up)
		problems = append(problems, f.nodeProblems(f.nodeRow(s.Name), s, true)...)
		for _, session := range f.sessionsOf(s) {
			problems = append(problems, session.Problems...)
		}
	}
	for name, r := range f.reports {
		if r.Presence.String() != string(v1beta1.MemberPresent) {
			state.Absent = append(state.Absent, name)
		}
	}
	slices.Sort(state.Absent)
	state.Versions = sortVersions(versions)
	problems = append(problems, f.rollout(state)...)
	out.Speakers, out.Layer2 = state, layer2
	if bgp.Sessions > 0 {
		out.BGP = bgp
	}
	if bfd.Sessions > 0 {
		out.BFD = bfd
	}
	return problems
}

// sortVersions returns the versions, that of most nodes first.
func sortVersions(versions map[string]*v1alpha1.VersionCount) []v1alpha1.VersionCount {
	var out []v1alpha1.VersionCount
	for _, v := range versions {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b v1alpha1.VersionCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Version, b.Version))
	})
	return out
}

// rollout fills in on how many nodes a speaker is to run, and returns what is wrong there.
func (f *Facts) rollout(state *v1alpha1.SpeakersState) []v1alpha1.Problem {
	var problems []v1alpha1.Problem
	ref := v1alpha1.Ref{Kind: "daemonset", Namespace: f.Berth, Name: "berth-speaker"}
	found := false
	for i := range f.DaemonSets {
		d := &f.DaemonSets[i]
		if d.Spec.Template.Labels["app.kubernetes.io/component"] != "speaker" {
			continue
		}
		found, ref.Name = true, d.Name
		wanted := d.Status.DesiredNumberScheduled
		state.Wanted = &wanted
		if d.Status.NumberReady < wanted {
			problems = append(problems, problem(v1alpha1.Error, ref, "NotReady", fmt.Sprintf(
				"%d of %d speakers are ready.", d.Status.NumberReady, wanted), fmt.Sprintf(
				"kubectl -n %s get pods -o wide -l app.kubernetes.io/component=speaker", f.Berth)))
		}
	}
	if !found && f.Has(snapshot.DaemonSets) {
		problems = append(problems, problem(v1alpha1.Error, ref, "NotFound",
			"There is no DaemonSet of the speakers in namespace "+f.Berth+".",
			"kubectl berth status --berth-namespace NAMESPACE"))
	}
	if len(state.Versions) > 1 {
		problems = append(problems, problem(v1alpha1.Warning, ref, "Versions", fmt.Sprintf(
			"%d versions run: %s.", len(state.Versions), tellVersions(state.Versions)),
			fmt.Sprintf("kubectl -n %s rollout status daemonset/%s", f.Berth, ref.Name)))
	}
	if f.Settings.SpeakerClass != "" {
		problems = append(problems, problem(v1alpha1.Error, ref, reasonSettings, fmt.Sprintf(
			"The speakers handle Services of loadBalancerClass %q, the controller those of %q.",
			f.Settings.SpeakerClass, f.Settings.Class),
			fmt.Sprintf("kubectl -n %s get daemonset %s -o yaml", f.Berth, ref.Name)))
	}
	return problems
}

func tellVersions(versions []v1alpha1.VersionCount) string {
	var out []string
	for _, v := range versions {
		text := fmt.Sprintf("%s on %d", cmp.Or(v.Version, "an unknown one"), v.Count)
		if v.Count <= len(v.Nodes) {
			text += " (" + strings.Join(v.Nodes, ", ") + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// addServices fills in the state of the Services.
func (f *Facts) addServices(out *v1alpha1.Status) []v1alpha1.Problem {
	if !f.HasSome(snapshot.Services) {
		return nil
	}
	counts, problems := f.serviceCounts()
	for _, u := range f.Unread() {
		if u.Kind == snapshot.Services.Name {
			counts.Namespace = u.Namespace
		}
	}
	out.Services = &counts
	return problems
}

// Version returns which versions run.
func (f *Facts) Version(client, server string) v1alpha1.Version {
	out := v1alpha1.Version{
		TypeMeta:   v1alpha1.TypeMeta("Version"),
		Client:     client,
		Kubernetes: server,
		Unread:     f.Unread(),
	}
	versions := map[string]*v1alpha1.VersionCount{}
	for i := range f.Speakers {
		s := &f.Speakers[i]
		if versions[s.Status.Version] == nil {
			versions[s.Status.Version] = &v1alpha1.VersionCount{Version: s.Status.Version}
		}
		versions[s.Status.Version].Count++
	}
	out.Speakers = sortVersions(versions)
	for i := range f.Deployments {
		if t := &f.Deployments[i].Spec.Template; t.Labels["app.kubernetes.io/component"] == "controller" {
			for _, c := range t.Spec.Containers {
				out.Controller = c.Image
			}
		}
	}
	return out
}

// VersionKinds are the kinds that Version needs.
var VersionKinds = []snapshot.Kind{snapshot.Speakers, snapshot.Deployments}
