package importing

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// A take-over goes from another load balancer to Berth in steps, each of which can be undone.
// The other's controller is stopped first, while its speakers go on: two controllers could give
// one address to two Services. Berth then adopts the addresses and, at layer 2, announces them
// beside the other's speakers. Those end when every address is announced.
//
// By BGP, both would have the same address on a node, with which a router keeps one session. So
// the sessions go node by node: a label on the node ends the other's and begins Berth's.

const (
	// takeOverLabel marks nodes whose BGP sessions are Berth's.
	takeOverLabel = "berth.io/take-over"
	// endedLabel is on no node: a DaemonSet that selects it has no pods.
	endedLabel = "berth.io/ended"
	// mostDetails is how many details a step has.
	mostDetails = 10
)

// TakeOverKinds are what steps need of a cluster.
var TakeOverKinds = append(slices.Clone(Kinds), snapshot.DaemonSets)

// TakeOver is what the steps are found by.
type TakeOver struct {
	Source Source
	// Namespace is the one in which the other runs.
	Namespace string
	// Objects are those of the other, Unread what of them could not be read.
	Objects []unstructured.Unstructured
	Unread  []v1alpha1.Unread

	Result   Result
	Services v1alpha1.ImportServices
	Cluster  *snapshot.Snapshot
}

// CanTakeOver returns an error if a load balancer cannot be replaced by these steps.
func (s Source) CanTakeOver() error {
	if s.noTakeOver == "" {
		return nil
	}
	return fmt.Errorf("--take-over is not for %s: %s", s.Title, s.noTakeOver)
}

// finding is what a cluster shows of a step.
type finding struct {
	done bool
	// follows is set if it can be done only after the steps before it: without Berth's
	// configuration there is no address that is not announced.
	follows bool
	unknown []string // kinds that could not be read, as a person reads them
	blocked bool     // details are what is in the way
	message string
	details []string
}

// step is a step with what the cluster shows of it.
type step struct {
	name           string
	found          finding
	commands, back []string
}

// Steps returns the steps in their order: the first that is not done is next, or something is
// in its way.
func (t TakeOver) Steps() []v1alpha1.ImportStep {
	steps := []step{t.carriesOver(), t.configured(), t.controllerStopped(), t.running(), t.adopted(),
		t.announced()}
	if t.speaksBGP() {
		steps = append(steps, t.sessionsMoved())
	}
	steps = append(steps, t.speakersEnded(), t.alone(), t.removed())
	if t.speaksBGP() {
		steps = append(steps, t.unmarked())
	}

	var out []v1alpha1.ImportStep
	first := true
	for _, s := range steps {
		one := v1alpha1.ImportStep{
			Name:     s.name,
			State:    stateOf(s.found, first),
			Message:  s.found.message,
			Details:  few(s.found.details),
			Commands: s.commands,
			Back:     s.back,
		}
		if len(s.found.unknown) > 0 {
			one.Details = []string{"Not read: " + strings.Join(s.found.unknown, ", ") + "."}
		}
		first = first && one.State == v1alpha1.ImportStepDone
		out = append(out, one)
	}
	return out
}

// stateOf returns the state of a step; first is set if all before it are done.
func stateOf(f finding, first bool) v1alpha1.ImportStepState {
	switch {
	case len(f.unknown) > 0:
		return v1alpha1.ImportStepUnknown
	case f.done && (first || !f.follows):
		return v1alpha1.ImportStepDone
	case !first:
		return v1alpha1.ImportStepLater
	case f.blocked:
		return v1alpha1.ImportStepBlocked
	}
	return v1alpha1.ImportStepNext
}

// few returns the first of many details, and how many more there are.
func few(details []string) []string {
	if more := len(details) - mostDetails; more > 0 {
		return append(slices.Clone(details[:mostDetails]), fmt.Sprintf("and %d more", more))
	}
	return details
}

// unreadOf returns which of these kinds are not known. Those of Berth that are not installed
// have no objects.
func (t TakeOver) unreadOf(kinds ...snapshot.Kind) []string {
	reasons := map[string]string{}
	for _, u := range t.Cluster.Unread() {
		reasons[u.Kind] = u.Reason
	}
	var out []string
	for _, k := range kinds {
		if reason := reasons[k.Name]; !t.Cluster.Has(k) && reason != snapshot.ReasonNotInstalled {
			out = append(out, strings.TrimSuffix(k.Name+" ("+reason+")", " ()"))
		}
	}
	return out
}

// ownUnread returns which kinds of the other are not known, of those that a condition is for.
func (t TakeOver) ownUnread(matters func(kind string) bool) []string {
	var out []string
	for _, u := range t.Unread {
		if u.Reason != snapshot.ReasonNotInstalled && matters(u.Kind) {
			out = append(out, u.Kind+" ("+u.Reason+")")
		}
	}
	return out
}

// importCommand returns the command that prints the manifests, with more words.
func (t TakeOver) importCommand(more string) string {
	out := "kubectl berth import --from " + t.Source.Name
	if t.Namespace != t.Source.Namespace {
		out += " --source-namespace " + t.Namespace
	}
	return out + more
}

// carriesOver: no Service gets another address.
func (t TakeOver) carriesOver() step {
	s := step{name: "CarriesOver", commands: []string{t.importCommand(" --report")}}
	switch t.Services.Verdict {
	case Unchanged:
		s.found = finding{done: true, message: "No Service gets another address."}
	case Changes:
		s.found = finding{blocked: true, message: "Some Services would get another address, or none."}
		for _, c := range t.Services.Changes {
			s.found.details = append(s.found.details,
				strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Service, c.Change, strings.Join(c.Now, ","))))
		}
	default:
		s.found = finding{
			message: "Whether a Service gets another address is not known.",
			unknown: []string{t.Services.Message},
		}
	}
	return s
}

// configured: Berth's kinds are installed, and the manifests applied. Its sessions, and the
// other's, wait for the label of a node.
func (t TakeOver) configured() step {
	s := step{
		name:     "Configured",
		commands: []string{"kubectl apply -k manifests/crds", t.importCommand(" | kubectl apply -f -")},
		back:     []string{"kubectl delete -k manifests/crds"},
	}
	s.found.unknown = t.unreadOf(snapshot.ConfigKinds...)
	have, r := t.Cluster.Config(), t.Result
	var missing []string
	missing = append(missing, absent("IPAddressPool", have.Pools, r.Pools)...)
	missing = append(missing, absent("L2Advertisement", have.L2Advertisements, r.L2Advertisements)...)
	missing = append(missing, absent("BGPPeer", have.BGPPeers, r.BGPPeers)...)
	missing = append(missing, absent("BGPAdvertisement", have.BGPAdvertisements, r.BGPAdvertisements)...)
	missing = append(missing, absent("BFDProfile", have.BFDProfiles, r.BFDProfiles)...)
	missing = append(missing, absent("Community", have.Communities, r.Communities)...)
	s.found.details = missing
	s.found.message = "Berth has the configuration of " + t.Source.Title + "."
	if len(have.Pools) == 0 {
		s.found.details = append(s.found.details, "Berth has no IPAddressPool.")
	}

	if t.speaksBGP() && t.otherRuns() {
		commands, unmarked := t.mark()
		s.commands = append(s.commands, commands...)
		s.found.details = append(s.found.details, unmarked...)
	}
	s.found.done = len(s.found.details) == 0
	return s
}

// absent names the wanted objects that are not there.
func absent[T any, PT object[T]](kind string, have, want []T) []string {
	var out []string
	for _, w := range want {
		name := PT(&w).GetName()
		if !slices.ContainsFunc(have, func(h T) bool { return PT(&h).GetName() == name }) {
			out = append(out, fmt.Sprintf("There is no %s %s of Berth.", kind, name))
		}
	}
	return out
}

// programsOf returns the other's workloads of a kind, in the namespace in which it runs: those
// that have its name in theirs or in an image.
func programsOf[T any, PT object[T]](t TakeOver, kind string, template func(T) corev1.PodSpec) []T {
	var out []T
	for i := range t.Objects {
		o := &t.Objects[i]
		gvk := o.GroupVersionKind()
		if gvk.Group != appsv1.GroupName || gvk.Kind != kind || o.GetNamespace() != t.Namespace {
			continue
		}
		var w T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &w); err != nil {
			continue // import tells it
		}
		isIts := strings.Contains(o.GetName(), t.Source.Name)
		for _, c := range template(w).Containers {
			isIts = isIts || strings.Contains(c.Image, t.Source.Name)
		}
		if isIts {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(PT(&a).GetName(), PT(&b).GetName()) })
	return out
}

func (t TakeOver) daemonSets() []appsv1.DaemonSet {
	template := func(d appsv1.DaemonSet) corev1.PodSpec { return d.Spec.Template.Spec }
	return programsOf(t, "DaemonSet", template)
}

func (t TakeOver) deployments() []appsv1.Deployment {
	template := func(d appsv1.Deployment) corev1.PodSpec { return d.Spec.Template.Spec }
	return programsOf(t, "Deployment", template)
}

// isEnded reports whether a DaemonSet has no pods, and shall have none.
func isEnded(d appsv1.DaemonSet) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.DesiredNumberScheduled == 0 &&
		s.CurrentNumberScheduled == 0 && s.NumberMisscheduled == 0
}

// otherRuns reports whether the other has speakers that run, or may have.
func (t TakeOver) otherRuns() bool {
	return slices.ContainsFunc(t.daemonSets(), func(d appsv1.DaemonSet) bool { return !isEnded(d) })
}

// controllerStopped: the other's controller assigns nothing any more. Its speakers go on.
func (t TakeOver) controllerStopped() step {
	s := step{name: "ControllerStopped"}
	s.found.unknown = t.ownUnread(func(kind string) bool { return strings.HasPrefix(kind, "deployments") })
	s.found.message = fmt.Sprintf("The controller of %s assigns no addresses any more; what it assigned "+
		"stays, and its speakers go on.", t.Source.Title)
	s.found.done = true
	for _, d := range t.deployments() {
		wanted := int32(1)
		if d.Spec.Replicas != nil {
			wanted = *d.Spec.Replicas
		}
		scale := "kubectl -n " + t.Namespace + " scale deployment " + d.Name
		s.commands = append(s.commands, scale+" --replicas=0")
		s.back = append(s.back, fmt.Sprintf("%s --replicas=%d", scale, max(wanted, 1)))
		if wanted > 0 || d.Status.Replicas > 0 {
			s.found.done = false
			s.found.details = append(s.found.details,
				fmt.Sprintf("Deployment %s: %d to go.", d.Name, max(wanted, d.Status.Replicas)))
		}
	}
	return s
}

// running: Berth's programs work, with a speaker on every node that has one of the other's.
func (t TakeOver) running() step {
	s := step{
		name: "Running",
		commands: []string{
			"kubectl apply -k manifests/base",
			"kubectl -n " + t.Cluster.Berth + " rollout status deployment/berth-controller",
			"kubectl -n " + t.Cluster.Berth + " rollout status daemonset/berth-speaker",
		},
		back: []string{
			"kubectl -n " + t.Cluster.Berth + " delete deployment/berth-controller daemonset/berth-speaker",
		},
	}
	s.found.unknown = t.unreadOf(snapshot.Deployments, snapshot.DaemonSets, snapshot.Speakers, snapshot.Nodes)
	s.found.message = "Berth runs beside " + t.Source.Title + ", with a speaker on every node."
	controllers, speakers := int32(0), false
	for _, d := range t.Cluster.Deployments {
		if d.Spec.Template.Labels[labelComponent] == "controller" {
			controllers += d.Status.ReadyReplicas
		}
	}
	for _, d := range t.Cluster.DaemonSets {
		speakers = speakers || d.Spec.Template.Labels[labelComponent] == "speaker"
	}
	if controllers == 0 {
		s.found.details = append(s.found.details, "No controller is ready.")
	}
	if !speakers {
		s.found.details = append(s.found.details, "There is no DaemonSet of speakers.")
	}
	s.found.details = append(s.found.details, t.withoutSpeaker()...)
	s.found.done = len(s.found.details) == 0
	return s
}

// labelComponent tells the parts of Berth apart.
const labelComponent = "app.kubernetes.io/component"

// withoutSpeaker says which nodes have no speaker that works. What answers on such a node is a
// stranger to the others.
func (t TakeOver) withoutSpeaker() []string {
	ready := map[string]bool{}
	for i := range t.Cluster.Speakers {
		sp := &t.Cluster.Speakers[i]
		ready[sp.Name] = meta.IsStatusConditionTrue(sp.Status.Conditions, v1beta1.ConditionReady)
	}
	var out []string
	for _, n := range t.Cluster.Nodes {
		if os := n.Labels[corev1.LabelOSStable]; (os == "" || os == "linux") && !ready[n.Name] {
			out = append(out, fmt.Sprintf("Node %s has no speaker that is ready.", n.Name))
		}
	}
	slices.Sort(out)
	return out
}

// taken are the Services that the other handles, or handled, and that have addresses.
func (t TakeOver) taken() []*corev1.Service {
	var out []*corev1.Service
	for i := range t.Cluster.Services {
		s := &t.Cluster.Services[i]
		_, marked := s.Annotations[t.Source.marks]
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer && slices.Contains(t.Result.Classes, classOf(s)) &&
			(t.Source.marks == "" || marked) && len(assignment.StatusAddresses(s)) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// adopted: Berth's condition on every Service says that it keeps its addresses.
func (t TakeOver) adopted() step {
	s := step{name: "Adopted", commands: []string{"kubectl berth services --problems"}}
	s.found.follows = true
	s.found.unknown = t.unreadOf(snapshot.Services)
	all := t.taken()
	for _, service := range all {
		c := meta.FindStatusCondition(service.Status.Conditions, v1beta1.ConditionAddressAssigned)
		name := "service " + service.Namespace + "/" + service.Name
		switch {
		case c == nil:
			s.found.details = append(s.found.details, name+": Berth has not looked at it yet.")
		case c.Status != metav1.ConditionTrue:
			s.found.blocked = true
			s.found.details = append(s.found.details, fmt.Sprintf("%s: %s: %s", name, c.Reason, c.Message))
		}
	}
	s.found.message = fmt.Sprintf("Berth has adopted the addresses of %d of %d Services.",
		len(all)-len(s.found.details), len(all))
	s.found.done = len(s.found.details) == 0
	return s
}

// announced: each address that Berth announces at layer 2 is announced.
func (t TakeOver) announced() step {
	s := step{name: "AnnouncedBeside", commands: []string{"kubectl berth services", "kubectl berth status"}}
	s.found.follows = true
	s.found.unknown = t.unreadOf(snapshot.Services, snapshot.Speakers, snapshot.Pools,
		snapshot.L2Advertisements)
	announced, listsAll := map[string]bool{}, true
	for i := range t.Cluster.Speakers {
		l2 := &t.Cluster.Speakers[i].Status.Layer2
		listsAll = listsAll && int(l2.Count) <= len(l2.Announcements)
		for _, a := range l2.Announcements {
			announced[a.Address] = true
		}
	}
	all := t.layer2()
	missing := 0
	for _, addr := range slices.SortedFunc(maps.Keys(all), netip.Addr.Compare) {
		if !announced[addr.String()] {
			missing++
			s.found.details = append(s.found.details, fmt.Sprintf("%s of service %s", addr, all[addr]))
		}
	}
	s.found.message = fmt.Sprintf("Berth announces %d of %d addresses at layer 2, beside %s.",
		len(all)-missing, len(all), t.Source.Title)
	if missing > 0 && !listsAll {
		s.found.unknown = []string{
			"what speakers with more than 256 addresses announce, for their objects list no more",
		}
	}
	if strangers := t.conflictsOf(v1beta1.ConflictForeignHost); missing > 0 && len(strangers) > 0 {
		s.found.blocked, s.found.details = true, append(strangers, s.found.details...)
	}
	s.found.done = missing == 0
	return s
}

// layer2 returns the addresses that Berth is to announce at layer 2, with their Services.
func (t TakeOver) layer2() map[netip.Addr]string {
	in, _ := config.Parse(t.Cluster.Config(), config.Config{}, t.Cluster.Taken) // conditions tell problems
	out := map[netip.Addr]string{}
	for _, s := range t.taken() {
		for _, addr := range assignment.StatusAddresses(s) {
			pool := in.PoolOf(addr)
			selects := func(a *config.L2Advertisement) bool {
				return a.SelectsPool(pool) && a.SelectsService(s.Labels)
			}
			if pool != nil && slices.ContainsFunc(in.L2Advertisements, selects) {
				out[addr] = s.Namespace + "/" + s.Name
			}
		}
	}
	return out
}

// conflictsOf returns the messages of conflicts of these kinds, each once.
func (t TakeOver) conflictsOf(kinds ...v1beta1.ConflictKind) []string {
	var out []string
	for i := range t.Cluster.Speakers {
		for _, c := range t.Cluster.Speakers[i].Status.Layer2.Conflicts {
			if slices.Contains(kinds, c.Kind) {
				out = append(out, c.Message)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// speakersEnded: the other announces nothing any more.
func (t TakeOver) speakersEnded() step {
	s := step{name: "SpeakersEnded"}
	s.found.unknown = t.ownUnread(func(kind string) bool { return strings.HasPrefix(kind, "daemonsets") })
	s.found.message = "The speakers of " + t.Source.Title + " are ended: Berth alone announces."
	s.found.done = true
	for _, d := range t.daemonSets() {
		s.commands = append(s.commands, fmt.Sprintf("kubectl -n %s patch daemonset %s -p "+
			`'{"spec":{"template":{"spec":{"nodeSelector":{"%s":"true"}}}}}'`,
			t.Namespace, d.Name, endedLabel))
		s.back = append(s.back, fmt.Sprintf("kubectl -n %s rollout undo daemonset %s", t.Namespace, d.Name))
		if !isEnded(d) {
			s.found.done = false
			s.found.details = append(s.found.details, fmt.Sprintf("DaemonSet %s: %d to go.", d.Name,
				d.Status.CurrentNumberScheduled+d.Status.NumberMisscheduled))
		}
	}
	return s
}

// alone: nobody else answers for the addresses.
func (t TakeOver) alone() step {
	s := step{name: "Alone", commands: []string{"kubectl berth status"}}
	s.found.follows = true
	s.found.unknown = t.unreadOf(snapshot.Speakers)
	s.found.details = t.conflictsOf(v1beta1.ConflictOtherNode, v1beta1.ConflictForeignHost,
		v1beta1.ConflictDuplicate, v1beta1.ConflictUnanswered)
	s.found.message = "Berth sees nobody else who answers for the addresses. It takes note within a minute."
	s.found.done = len(s.found.details) == 0
	for i := range t.Cluster.Speakers {
		if l2 := &t.Cluster.Speakers[i].Status.Layer2; int(l2.ConflictCount) > len(l2.Conflicts) {
			s.found.done = false
		}
	}
	return s
}

// removed: nothing of the other is left.
func (t TakeOver) removed() step {
	s := step{name: "Removed"}
	s.found.unknown = t.ownUnread(func(string) bool { return true })
	s.found.message = fmt.Sprintf("%s is removed, the way in which it was installed: its manifests by "+
		"kubectl delete -f, its chart by helm uninstall. Keep a copy of its objects.", t.Source.Title)
	for _, d := range t.daemonSets() {
		s.found.details = append(s.found.details, "DaemonSet "+d.Name+" is left.")
	}
	for _, d := range t.deployments() {
		s.found.details = append(s.found.details, "Deployment "+d.Name+" is left.")
	}
	for _, f := range t.Result.Found {
		s.found.details = append(s.found.details, fmt.Sprintf("%s: %d left.", f.Kind, f.Count))
	}
	s.found.done = len(s.found.details) == 0
	if !s.found.done {
		s.commands = []string{fmt.Sprintf("kubectl -n %s get all", t.Namespace)}
	}
	return s
}
