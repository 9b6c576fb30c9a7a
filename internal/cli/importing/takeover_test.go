package importing

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

const (
	metalLBLayer2 = `apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
`
	metalLBBGP = `---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec:
  myASN: 64512
  peerASN: 64500
  peerAddress: 198.51.100.1
  nodeSelectors: [{matchLabels: {rack: a}}]
`
	metalLBPrograms = `---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: metallb-system}
spec: {template: {spec: {containers: [{name: speaker, image: quay.io/metallb/speaker:v0.15.2}]}}}
status: {desiredNumberScheduled: 2, currentNumberScheduled: 2, numberReady: 2}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller, namespace: metallb-system}
spec:
  replicas: 1
  template: {spec: {containers: [{name: controller, image: quay.io/metallb/controller:v0.15.2}]}}
status: {replicas: 1}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: metallb-system}
spec: {template: {spec: {containers: [{name: kube-proxy, image: registry.k8s.io/kube-proxy:v1.36.3}]}}}
status: {desiredNumberScheduled: 2}
`
)

// takingOver is a cluster on its way from MetalLB to Berth.
type takingOver struct {
	t       *testing.T
	other   []unstructured.Unstructured
	unread  []v1alpha1.Unread
	objects snapshot.Objects
	denied  []snapshot.Kind
}

func newTakingOver(t *testing.T, other string) *takingOver {
	t.Helper()
	w := &takingOver{t: t, other: objects(t, other)}
	w.objects.Services = []corev1.Service{service("web", nil, "192.0.2.1")}
	w.objects.Nodes = []corev1.Node{{}, {}}
	for i, name := range []string{"node1", "node2"} {
		w.objects.Nodes[i].Name = name
	}
	return w
}

// steps are those of the cluster as it is now.
func (w *takingOver) steps() []v1alpha1.ImportStep {
	w.t.Helper()
	r := Convert(Input{
		Source:    metalLB,
		Objects:   w.other,
		Namespace: metalLB.Namespace,
		Berth:     "berth-system",
		Services:  w.objects.Services,
		Nodes:     w.objects.Nodes,
	})
	class := ""
	s := snapshot.New(w.objects, snapshot.Request{
		Kinds: TakeOverKinds,
		Berth: "berth-system",
		Class: &class,
	}, time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC))
	for _, k := range w.denied {
		s.SetUnread(k, errDenied)
	}
	services, err := r.Check(s, metalLB)
	if err != nil {
		w.t.Fatal(err)
	}
	return TakeOver{
		Source:    metalLB,
		Namespace: metalLB.Namespace,
		Objects:   w.other,
		Unread:    w.unread,
		Result:    r,
		Services:  services,
		Cluster:   s,
	}.Steps()
}

var errDenied = errors.New("denied")

// is checks which step is at hand, and returns it.
func (w *takingOver) is(name string, state v1alpha1.ImportStepState) v1alpha1.ImportStep {
	w.t.Helper()
	var words []string
	for _, s := range w.steps() {
		words = append(words, s.Name+" "+string(s.State))
		if s.State != v1alpha1.ImportStepDone {
			if s.Name != name || s.State != state {
				w.t.Errorf("%s is %s, want %s to be %s: %s %q",
					s.Name, s.State, name, state, s.Message, s.Details)
			}
			return s
		}
	}
	if name != "" {
		w.t.Errorf("all is done, want %s to be %s: %q", name, state, words)
	}
	return v1alpha1.ImportStep{}
}

// change changes one of MetalLB's objects.
func (w *takingOver) change(kind, name string, change func(o map[string]any)) {
	w.t.Helper()
	for _, o := range w.other {
		if o.GetKind() == kind && o.GetName() == name {
			change(o.Object)
			return
		}
	}
	w.t.Fatalf("there is no %s %s", kind, name)
}

// remove removes MetalLB's objects of which a condition is true.
func (w *takingOver) remove(which func(o unstructured.Unstructured) bool) {
	w.other = slices.DeleteFunc(w.other, which)
}

// configure has the cluster have what import makes.
func (w *takingOver) configure() {
	r := Convert(Input{
		Source:    metalLB,
		Objects:   w.other,
		Namespace: metalLB.Namespace,
		Berth:     "berth-system",
	})
	w.objects.Pools, w.objects.L2Advertisements = r.Pools, r.L2Advertisements
	w.objects.BGPPeers = r.BGPPeers
}

// runs has Berth run, with speakers on these nodes.
func (w *takingOver) runs(nodes ...string) {
	labels := func(component string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{labelComponent: component},
		}}
	}
	w.objects.Deployments = []appsv1.Deployment{{
		Spec:   appsv1.DeploymentSpec{Template: labels("controller")},
		Status: appsv1.DeploymentStatus{ReadyReplicas: 1},
	}}
	w.objects.DaemonSets = []appsv1.DaemonSet{{Spec: appsv1.DaemonSetSpec{Template: labels("speaker")}}}
	w.objects.Speakers = nil
	for _, node := range nodes {
		sp := v1beta1.Speaker{}
		sp.Name = node
		sp.Status.Conditions = []metav1.Condition{{
			Type:   v1beta1.ConditionReady,
			Status: metav1.ConditionTrue,
		}}
		w.objects.Speakers = append(w.objects.Speakers, sp)
	}
}

// says gives the Service Berth's condition.
func (w *takingOver) says(status metav1.ConditionStatus, reason string) {
	w.objects.Services[0].Status.Conditions = []metav1.Condition{{
		Type:   v1beta1.ConditionAddressAssigned,
		Status: status,
		Reason: reason,
	}}
}

func (w *takingOver) layer2(node int) *v1beta1.SpeakerLayer2 {
	return &w.objects.Speakers[node].Status.Layer2
}

// TestTakeOverStepByStep: what is next, and what is in the way, from the first step to the last.
func TestTakeOverStepByStep(t *testing.T) {
	w := newTakingOver(t, metalLBLayer2+metalLBPrograms)
	got := w.is("Configured", v1alpha1.ImportStepNext)
	if !slices.Contains(got.Commands, "kubectl berth import --from metallb | kubectl apply -f -") ||
		!slices.Contains(got.Details, "There is no IPAddressPool lan of Berth.") {
		t.Errorf("got %+v", got)
	}

	w.configure()
	got = w.is("ControllerStopped", v1alpha1.ImportStepNext)
	if want := "kubectl -n metallb-system scale deployment controller --replicas="; len(got.Commands) != 1 ||
		got.Commands[0] != want+"0" || got.Back[0] != want+"1" {
		t.Errorf("got %+v", got)
	}

	w.change("Deployment", "controller", func(o map[string]any) {
		o["spec"].(map[string]any)["replicas"] = int64(0)
	})
	w.is("ControllerStopped", v1alpha1.ImportStepNext) // a pod is still there
	w.change("Deployment", "controller", func(o map[string]any) { delete(o, "status") })
	w.is("Running", v1alpha1.ImportStepNext)

	w.runs("node1")
	if got = w.is("Running", v1alpha1.ImportStepNext); !slices.Equal(got.Details,
		[]string{"Node node2 has no speaker that is ready."}) {
		t.Errorf("got %+v", got)
	}
	w.runs("node1", "node2")
	w.is("Adopted", v1alpha1.ImportStepNext)
	w.says(metav1.ConditionFalse, "StatusOverwritten")
	w.is("Adopted", v1alpha1.ImportStepBlocked)
	w.says(metav1.ConditionTrue, "Assigned")
	w.is("AnnouncedBeside", v1alpha1.ImportStepNext)

	w.layer2(0).Conflicts = []v1beta1.Layer2Conflict{{
		Kind:    v1beta1.ConflictForeignHost,
		Message: "Another host has it.",
	}}
	w.is("AnnouncedBeside", v1alpha1.ImportStepBlocked)
	w.layer2(0).Conflicts = nil
	w.layer2(0).Count = 300
	w.is("AnnouncedBeside", v1alpha1.ImportStepUnknown) // the object does not list all
	w.layer2(1).Announcements = []v1beta1.Layer2Announcement{{Address: "192.0.2.1"}}
	got = w.is("SpeakersEnded", v1alpha1.ImportStepNext)
	if len(got.Commands) != 1 || !strings.Contains(got.Commands[0], "patch daemonset speaker ") ||
		got.Back[0] != "kubectl -n metallb-system rollout undo daemonset speaker" {
		t.Errorf("got %+v", got)
	}

	w.change("DaemonSet", "speaker", func(o map[string]any) {
		o["metadata"].(map[string]any)["generation"] = int64(2)
		o["status"] = map[string]any{"observedGeneration": int64(1)}
	})
	w.is("SpeakersEnded", v1alpha1.ImportStepNext) // nobody has looked at the change
	w.change("DaemonSet", "speaker", func(o map[string]any) {
		o["status"] = map[string]any{"observedGeneration": int64(2)}
	})
	w.layer2(1).Conflicts = []v1beta1.Layer2Conflict{{
		Kind:    v1beta1.ConflictOtherNode,
		Message: "Node node1 too.",
	}}
	w.is("Alone", v1alpha1.ImportStepNext)
	w.layer2(1).Conflicts = nil
	w.is("Removed", v1alpha1.ImportStepNext)

	w.remove(func(o unstructured.Unstructured) bool { return o.GetName() != "kube-proxy" })
	w.is("", "")
}

// TestTakeOverBySessions: with BGP the sessions go from node to node, each with a label.
func TestTakeOverBySessions(t *testing.T) {
	w := newTakingOver(t, metalLBLayer2+metalLBBGP+metalLBPrograms)
	w.change("Deployment", "controller", func(o map[string]any) {
		o["spec"].(map[string]any)["replicas"] = int64(0)
		delete(o, "status")
	})
	w.configure()
	w.runs("node1", "node2")
	w.says(metav1.ConditionTrue, "Assigned")
	w.layer2(0).Announcements = []v1beta1.Layer2Announcement{{Address: "192.0.2.1"}}

	got := w.is("Configured", v1alpha1.ImportStepNext)
	ours := w.patched(got.Commands, "kubectl patch bgppeers.berth.io tor ")
	theirs := w.patched(got.Commands, "kubectl -n metallb-system patch bgppeers.metallb.io tor ")
	if len(ours) != 1 || len(theirs) != 1 || ours[0].MatchLabels["rack"] != "a" ||
		!isMarked(ours, metav1.LabelSelectorOpExists) ||
		!isMarked(theirs, metav1.LabelSelectorOpDoesNotExist) {
		t.Fatalf("ours are to be %v, theirs %v", ours, theirs)
	}

	w.objects.BGPPeers[0].Spec.NodeSelectors = ours
	w.change("BGPPeer", "tor", func(o map[string]any) {
		raw, _ := json.Marshal(theirs)
		var list []any
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		o["spec"].(map[string]any)["nodeSelectors"] = list
	})
	got = w.is("SessionsMoved", v1alpha1.ImportStepNext)
	if got.Commands[0] != "kubectl label node node1 berth.io/take-over=" {
		t.Errorf("got %+v", got)
	}
	w.objects.Nodes[0].Labels = map[string]string{takeOverLabel: ""}
	w.objects.Speakers[0].Status.BGP = v1beta1.SpeakerBGP{Count: 2, Established: 1}
	w.is("SessionsMoved", v1alpha1.ImportStepBlocked)
	w.objects.Speakers[0].Status.BGP.Established = 2
	got = w.is("SessionsMoved", v1alpha1.ImportStepNext)
	if !strings.Contains(got.Commands[0], "node node2 ") {
		t.Errorf("got %+v", got)
	}
	w.objects.Nodes[1].Labels = map[string]string{takeOverLabel: ""}
	w.objects.Speakers[1].Status.BGP = v1beta1.SpeakerBGP{Count: 1, Established: 1}
	w.is("SpeakersEnded", v1alpha1.ImportStepNext)

	w.remove(func(unstructured.Unstructured) bool { return true })
	got = w.is("Unmarked", v1alpha1.ImportStepNext)
	left := w.patched(got.Commands, "kubectl patch bgppeers.berth.io tor ")
	if len(left) != 1 || left[0].MatchLabels["rack"] != "a" || len(left[0].MatchExpressions) > 0 ||
		!slices.Contains(got.Commands, "kubectl label nodes --all berth.io/take-over-") {
		t.Fatalf("left are %v, of %q", left, got.Commands)
	}
	w.objects.BGPPeers[0].Spec.NodeSelectors = left
	for i := range w.objects.Nodes {
		w.objects.Nodes[i].Labels = nil
	}
	w.is("", "")
}

// patched returns the selectors that the command with a beginning gives a peer.
func (w *takingOver) patched(commands []string, begins string) []metav1.LabelSelector {
	w.t.Helper()
	for _, c := range commands {
		if !strings.HasPrefix(c, begins) {
			continue
		}
		_, text, _ := strings.Cut(c, "'")
		var out struct {
			Spec struct{ NodeSelectors []metav1.LabelSelector }
		}
		if err := json.Unmarshal([]byte(strings.TrimSuffix(text, "'")), &out); err != nil {
			w.t.Fatal(err)
		}
		return out.Spec.NodeSelectors
	}
	w.t.Fatalf("no command begins with %q: %q", begins, commands)
	return nil
}

// TestMarksOfPeers: a peer of all nodes asks for the label alone, and for nothing afterwards.
func TestMarksOfPeers(t *testing.T) {
	got := marked(nil, metav1.LabelSelectorOpExists)
	if len(got) != 1 || !isMarked(got, metav1.LabelSelectorOpExists) ||
		isMarked(got, metav1.LabelSelectorOpDoesNotExist) || isMarked(nil, metav1.LabelSelectorOpExists) {
		t.Errorf("marked are %v", got)
	}
	if again := marked(got, metav1.LabelSelectorOpExists); len(again[0].MatchExpressions) != 1 {
		t.Errorf("marked twice are %v", again)
	}
	if left := unmarkedSelectors(got); left != nil {
		t.Errorf("left are %v", left)
	}
}

// TestTakeOverDoesNotTakeUnreadForDone, and has no step done that it could not see.
func TestTakeOverDoesNotTakeUnreadForDone(t *testing.T) {
	for _, test := range []struct {
		denied snapshot.Kind
		name   string
	}{
		{snapshot.Services, "CarriesOver"},
		{snapshot.DaemonSets, "Running"},
	} {
		w := newTakingOver(t, metalLBLayer2)
		w.configure()
		w.runs("node1", "node2")
		w.denied = []snapshot.Kind{test.denied}
		w.is(test.name, v1alpha1.ImportStepUnknown)
	}
	w := newTakingOver(t, metalLBLayer2)
	w.configure()
	w.unread = []v1alpha1.Unread{{Kind: "deployments.apps", Reason: snapshot.ReasonForbidden}}
	w.is("ControllerStopped", v1alpha1.ImportStepUnknown)
}

// TestWhoCanBeTakenOver: only from MetalLB are there steps, and the others say why not.
func TestWhoCanBeTakenOver(t *testing.T) {
	for _, s := range Sources {
		err := s.CanTakeOver()
		if (err == nil) != (s.Name == "metallb") || err != nil && !strings.Contains(err.Error(), s.Title) {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}
