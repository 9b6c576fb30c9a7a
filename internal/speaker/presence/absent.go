package presence

import (
	"cmp"
	"slices"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// Absent is another node whose speaker is not present, or not heard, as this node reports it
// to all in its Speaker object.
type Absent struct {
	Node     string
	Presence announcement.Presence
	Reason   v1beta1.Reason
	// Since is when the node came to its presence.
	Since time.Time
}

// absentAfter is how long a node is absent before it is reported. One that dies is held at
// first, and gone a third of a second later: a single report says both. It is short beside
// the time that a node has to prove by the API that it works.
const absentAfter = 500 * time.Millisecond

// absent returns the nodes that this one has to report, by name, and when there may be more;
// zero for never.
func (v view) absent(members map[string]Member, now time.Time) (out []Absent, due time.Time) {
	for _, name := range v.all {
		m := members[name]
		present := m.Presence == announcement.Present && m.Reason == v1beta1.ReasonNodePresent
		if present || !v.reporter(name, m, now) {
			continue
		}
		unread := m.Reason == v1beta1.ReasonFormatUnknown
		_, reported := slices.BinarySearchFunc(v.prev.Absent, name, func(a Absent, name string) int {
			return cmp.Compare(a.Node, name)
		})
		if at := m.Since.Add(absentAfter); !unread && !reported && at.After(now) {
			due = earlier(due, at)
			continue
		}
		out = append(out, Absent{name, m.Presence, m.Reason, m.Since})
	}
	return out, due
}

// reporter reports whether this node has to report an absent one. As a rule its two witnesses
// do: if each speaker did, the death of one would be written as often as there are speakers. In
// a part of the cluster that is cut off, witnesses are who is left there.
//
// A node that may work has to know of each speaker to which it has not proved it: one that does
// not read what it publishes, one that has never met it, and one that missed it later than
// others did, after its last renewal.
func (v view) reporter(name string, m Member, now time.Time) bool {
	_, met := v.members[name]
	renews := now.Sub(v.Objects[name].Renewed) < v.Grace.Renewal
	return slices.Contains(v.witnesses.of[name], v.Node) ||
		m.Reason == v1beta1.ReasonFormatUnknown ||
		!met ||
		renews && m.Presence != announcement.Present
}
