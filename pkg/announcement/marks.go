package announcement

import "slices"

// marks are what keeps addresses away from nodes: the exclude label and a cordon.
// What they mean to a node is what its own speaker says, so that all agree while a
// setting changes from node to node.
type marks struct {
	speakers map[string]Speaker
	// excludes is set when the exclude label means anything in this cluster.
	excludes bool
}

// marksOf reads what the marks of nodes mean.
//
// The exclude label tells nodes apart: those that are to announce and those that
// are not. Where every node carries it, it tells none apart, and means nothing:
// kubeadm, Talos and kind put it on every control plane, so all nodes of a cluster
// without workers have it and nobody has chosen that. A node without it counts as soon
// as a speaker has been ready there, and as long as the Node exists, whatever becomes of
// its speaker: so a worker that joins takes the addresses over when it can, and the
// death of all workers brings no traffic to nodes that were left out on purpose. A
// node on which no speaker runs, such as one with another operating system, says
// nothing.
func marksOf(nodes []Node, speakers map[string]Speaker) marks {
	excludes := slices.ContainsFunc(nodes, func(n Node) bool {
		return !n.Excluded && speakers[n.Name].Worked
	})
	return marks{speakers, excludes}
}

// excluded reports whether the exclude label keeps a node from announcing.
func (m marks) excluded(n Node) bool {
	return n.Excluded && m.excludes && !m.speakers[n.Name].IgnoresExclude
}

// cordoned reports whether a cordon has a node come last.
func (m marks) cordoned(n Node) bool { return n.Cordoned && !m.speakers[n.Name].IgnoresCordon }

// Leaves reports whether a node is about to go, or to stay out, as its marks tell:
// a speaker that stops there hands over in place of being expected back.
func Leaves(n Node, nodes []Node, speakers map[string]Speaker) bool {
	m := marksOf(nodes, speakers)
	return m.cordoned(n) || m.excluded(n) || n.ShuttingDown
}
