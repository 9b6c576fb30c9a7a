package importing

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
)

// speaksBGP reports whether Berth has, or gets, sessions that the other has.
func (t TakeOver) speaksBGP() bool {
	waits := func(p v1beta1.BGPPeer) bool {
		return isMarked(p.Spec.NodeSelectors, metav1.LabelSelectorOpExists)
	}
	return len(t.Result.BGPPeers) > 0 || slices.ContainsFunc(t.Cluster.BGPPeers, waits)
}

// mark returns the commands by which the sessions of both wait for the label of a node, and
// which peers are not marked yet. As no node has the label, the other's sessions stay.
func (t TakeOver) mark() (commands, unmarked []string) {
	for _, p := range t.Result.BGPPeers {
		have := slices.IndexFunc(t.Cluster.BGPPeers, func(h v1beta1.BGPPeer) bool { return h.Name == p.Name })
		selectors := p.Spec.NodeSelectors
		if have >= 0 {
			selectors = t.Cluster.BGPPeers[have].Spec.NodeSelectors
		}
		if have < 0 || !isMarked(selectors, metav1.LabelSelectorOpExists) {
			commands = append(commands, "kubectl patch bgppeers.berth.io "+p.Name+
				patch(marked(p.Spec.NodeSelectors, metav1.LabelSelectorOpExists)))
			unmarked = append(unmarked, fmt.Sprintf("Berth's BGPPeer %s does not wait for the label %s.",
				p.Name, takeOverLabel))
		}
	}
	for i := range t.Objects {
		o := &t.Objects[i]
		if gvk := o.GroupVersionKind(); gvk.Group != metalLBGroup || gvk.Kind != "BGPPeer" {
			continue
		}
		selectors := selectorsOf(o)
		if !isMarked(selectors, metav1.LabelSelectorOpDoesNotExist) {
			commands = append(commands, fmt.Sprintf("kubectl -n %s patch bgppeers.metallb.io %s",
				o.GetNamespace(), o.GetName())+patch(marked(selectors, metav1.LabelSelectorOpDoesNotExist)))
			unmarked = append(unmarked, fmt.Sprintf("%s's BGPPeer %s does not heed the label %s.",
				t.Source.Title, o.GetName(), takeOverLabel))
		}
	}
	return commands, unmarked
}

// selectorsOf returns spec.nodeSelectors of an object; none if they cannot be read.
func selectorsOf(o *unstructured.Unstructured) []metav1.LabelSelector {
	list, _, _ := unstructured.NestedSlice(o.Object, "spec", "nodeSelectors")
	var out []metav1.LabelSelector
	for _, item := range list {
		var s metav1.LabelSelector
		m, _ := item.(map[string]any)
		if runtime.DefaultUnstructuredConverter.FromUnstructured(m, &s) == nil {
			out = append(out, s)
		}
	}
	return out
}

// isMarked reports whether every selector asks for the label, with the operator.
func isMarked(selectors []metav1.LabelSelector, operator metav1.LabelSelectorOperator) bool {
	asks := func(r metav1.LabelSelectorRequirement) bool {
		return r.Key == takeOverLabel && r.Operator == operator
	}
	for _, s := range selectors {
		if !slices.ContainsFunc(s.MatchExpressions, asks) {
			return false
		}
	}
	return len(selectors) > 0
}

// marked returns selectors that ask for the label in addition.
func marked(
	selectors []metav1.LabelSelector, operator metav1.LabelSelectorOperator,
) []metav1.LabelSelector {
	if len(selectors) == 0 {
		selectors = []metav1.LabelSelector{{}}
	}
	var out []metav1.LabelSelector
	for _, s := range selectors {
		s = *s.DeepCopy()
		s.MatchExpressions = slices.DeleteFunc(s.MatchExpressions,
			func(r metav1.LabelSelectorRequirement) bool { return r.Key == takeOverLabel })
		s.MatchExpressions = append(s.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: takeOverLabel, Operator: operator})
		out = append(out, s)
	}
	return out
}

// unmarkedSelectors returns selectors without what asks for the label; none where nothing is left.
func unmarkedSelectors(selectors []metav1.LabelSelector) []metav1.LabelSelector {
	var out []metav1.LabelSelector
	for _, s := range selectors {
		s = *s.DeepCopy()
		s.MatchExpressions = slices.DeleteFunc(s.MatchExpressions,
			func(r metav1.LabelSelectorRequirement) bool { return r.Key == takeOverLabel })
		if len(s.MatchExpressions)+len(s.MatchLabels) == 0 {
			return nil // it selects every node
		}
		out = append(out, s)
	}
	return out
}

// patch returns the words that give a peer these selectors.
func patch(selectors []metav1.LabelSelector) string {
	raw, err := json.Marshal(map[string]any{"spec": map[string]any{"nodeSelectors": selectors}})
	if err != nil {
		panic(err) // selectors are strings
	}
	return " --type=merge -p '" + string(raw) + "'"
}

// sessionsMoved: on every node the sessions are Berth's.
func (t TakeOver) sessionsMoved() step {
	s := step{name: "SessionsMoved"}
	s.found.unknown = t.unreadOf(snapshot.Nodes, snapshot.Speakers)
	labelled := map[string]bool{}
	for _, n := range t.Cluster.Nodes {
		_, labelled[n.Name] = n.Labels[takeOverLabel]
	}
	var moved, down, left []string
	for i := range t.Cluster.Speakers {
		sp := &t.Cluster.Speakers[i]
		bgp := sp.Status.BGP
		switch {
		case !labelled[sp.Name]:
			left = append(left, sp.Name)
		case bgp.Count == 0 || bgp.Established < bgp.Count:
			down = append(down, fmt.Sprintf("Node %s has the label, and %d of %d sessions are established.",
				sp.Name, bgp.Established, bgp.Count))
		default:
			moved = append(moved, sp.Name)
		}
	}
	slices.Sort(left)
	slices.Sort(down)
	s.found.message = fmt.Sprintf("On %d of %d nodes the BGP sessions are Berth's.", len(moved),
		len(t.Cluster.Speakers))
	s.found.details, s.found.blocked = down, len(down) > 0
	if len(left) > 0 {
		s.found.details = append(s.found.details,
			"The other's are those of "+strings.Join(few(left), ", ")+".")
		s.commands = []string{
			fmt.Sprintf("kubectl label node %s %s=", left[0], takeOverLabel),
			"kubectl berth sessions --node " + left[0],
		}
	}
	if len(down) > 0 {
		s.commands = []string{"kubectl berth sessions --problems"}
	}
	s.back = []string{"kubectl label node NODE " + takeOverLabel + "-"}
	s.found.done = len(moved) > 0 && len(left)+len(down) == 0
	if t.ended() {
		s.found.done, s.found.details, s.commands = true, nil, nil
		s.found.message = "The other has no sessions any more."
	}
	return s
}

// ended reports whether the other's speakers have ended and Berth's peers wait for no label.
func (t TakeOver) ended() bool {
	return !t.otherRuns() && !slices.ContainsFunc(t.Cluster.BGPPeers, func(p v1beta1.BGPPeer) bool {
		return isMarked(p.Spec.NodeSelectors, metav1.LabelSelectorOpExists)
	})
}

// unmarked: Berth's sessions wait for no label any more.
func (t TakeOver) unmarked() step {
	s := step{name: "Unmarked"}
	s.found.follows = true
	s.found.unknown = t.unreadOf(snapshot.BGPPeers, snapshot.Nodes)
	s.found.message = "Berth's peers and the nodes do without the label " + takeOverLabel + "."
	for _, p := range t.Cluster.BGPPeers {
		if isMarked(p.Spec.NodeSelectors, metav1.LabelSelectorOpExists) {
			s.commands = append(s.commands,
				"kubectl patch bgppeers.berth.io "+p.Name+patch(unmarkedSelectors(p.Spec.NodeSelectors)))
			s.found.details = append(s.found.details, "BGPPeer "+p.Name+" asks for it.")
		}
	}
	for _, n := range t.Cluster.Nodes {
		if _, labelled := n.Labels[takeOverLabel]; labelled {
			s.found.details = append(s.found.details, "Node "+n.Name+" has it.")
		}
	}
	if len(s.found.details) > 0 {
		s.commands = append(s.commands, "kubectl label nodes --all "+takeOverLabel+"-")
	}
	s.found.done = len(s.found.details) == 0
	return s
}
