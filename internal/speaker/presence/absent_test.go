package presence

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
)

// city has nodes that observe the same, each from its own place.
type city struct {
	nodes []string
	apart func(a, b string) bool // whether these two do not hear each other
	// unread are the nodes that publish in a format which others do not read.
	unread string
	last   map[string]Snapshot
	now    time.Time
}

// look has every node in nodes look, and returns who reports whom.
func (c *city) look() string {
	var out []string
	for _, node := range c.nodes {
		obs := alone()
		obs.Node, obs.OwnLinks, obs.Members = node, nil, nil
		for _, other := range c.nodes {
			m := ready(other)
			if c.apart(node, other) {
				m.Alive, m.Since = false, c.now
			}
			m.Unread = other == c.unread && node != other
			obs.Members = append(obs.Members, m)
		}
		c.last[node] = Next(c.last[node], obs, c.now)
		for _, a := range c.last[node].Absent {
			out = append(out, fmt.Sprintf("%s %s %s", a.Node, a.Presence, node))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestTwoReportWhoIsAbsent: however many speakers there are, two write that they miss another, and in a part
// that is cut off those who are left.
func TestTwoReportWhoIsAbsent(t *testing.T) {
	among := func(node, list string) bool { return strings.Contains(list, node) }
	for _, test := range []struct {
		story  string
		apart  func(a, b string) bool
		unread string
		// By all nodes together.
		reports string
	}{
		{"all hear each other", func(_, _ string) bool { return false }, "", ""},
		{"node4 is gone",
			func(a, b string) bool { return a != b && (a == "node4" || b == "node4") }, "",
			"node1 Gone node4, node2 Gone node4, node3 Gone node4, node4 Gone node2, node4 Gone node5, " +
				"node5 Gone node4, node6 Gone node4"},
		{"the network has split in two",
			func(a, b string) bool { return among(a, "node1 node2") != among(b, "node1 node2") }, "",
			"node1 Gone node3, node1 Gone node6, node2 Gone node4, node2 Gone node6, " +
				"node3 Gone node1, node3 Gone node2, node4 Gone node1, node4 Gone node2, " +
				"node5 Gone node1, node5 Gone node2, node6 Gone node1, node6 Gone node2"},
		{"nobody reads what node4 publishes", func(_, _ string) bool { return false }, "node4",
			"node4 Present node1, node4 Present node2, node4 Present node3, " +
				"node4 Present node5, node4 Present node6"},
	} {
		t.Run(test.story, func(t *testing.T) {
			c := city{
				nodes: []string{"node1", "node2", "node3", "node4", "node5", "node6"},
				apart: func(_, _ string) bool { return false },
				last:  map[string]Snapshot{},
				now:   start,
			}
			c.look()
			c.apart, c.unread = test.apart, test.unread
			if at := c.look(); at != "" && test.unread == "" {
				t.Errorf("at once they report %s", at)
			}
			for node, s := range c.last {
				want := start.Add(absentAfter)
				if len(s.Absent) > 0 || s.AbsentDue.IsZero() {
					continue
				}
				if !s.AbsentDue.Equal(want) {
					t.Errorf("%s looks again after %s", node, s.AbsentDue.Sub(start))
				}
			}
			c.now = start.Add(absentAfter)
			if got := c.look(); got != test.reports {
				t.Errorf("they report\n%s, want\n%s", got, test.reports)
			}
			c.apart, c.unread = func(_, _ string) bool { return false }, ""
			if got := c.look(); got != "" {
				t.Errorf("when all is well again they report %s", got)
			}
		})
	}
}

// TestEachReportsWhoHasToProveThatItWorks: a node that others do not hear renews its object for those that
// report it. So does a speaker that does not watch it and that no renewal has satisfied.
func TestEachReportsWhoHasToProveThatItWorks(t *testing.T) {
	const subject, other = "node4", "node3" // which does not watch it
	for _, test := range []struct {
		story   string
		met     bool
		renewed time.Duration // after the other missed it; zero for never
		after   time.Duration
		reports string
	}{
		{"it has died: its witnesses report that", true, 0, 20 * time.Second, "[]"},
		{"it renews its object, and has proved that it works", true, time.Second, 2 * time.Second, "[]"},
		{"it had renewed its object before it was missed here", true, -time.Second, 2 * time.Second,
			"[node4 Held]"},
		{"it renewed its object long ago, and has died since", true, -time.Minute, 2 * time.Second, "[]"},
		{"it was never met", false, 0, 20 * time.Second, "[node4 Gone]"},
	} {
		t.Run(test.story, func(t *testing.T) {
			obs := alone()
			obs.Node, obs.OwnLinks, obs.Members = other, nil, nil
			for _, name := range []string{"node1", "node2", "node3", "node4", "node5", "node6"} {
				m := ready(name)
				m.State.Reports = map[string]ProbeReport{subject: {Kernel: announcement.KernelAnswers}}
				if name == subject {
					m.Alive = false
				}
				if name != subject || test.met {
					obs.Members = append(obs.Members, m)
				}
			}
			object := Object{Complete: true, State: NodeState{Stage: announcement.StageReady}}
			if test.renewed != 0 {
				object.Renewed = start.Add(test.renewed)
			}
			obs.Objects = map[string]Object{subject: object}
			first := Next(Snapshot{}, obs, start)
			s := Next(first, obs, start.Add(test.after))
			got := []string{}
			for _, a := range s.Absent {
				got = append(got, fmt.Sprintf("%s %s", a.Node, a.Presence))
			}
			if fmt.Sprint(got) != test.reports {
				t.Errorf("it is %s (%s), and reported is %v, want %s", s.Members[subject].Presence,
					s.Members[subject].Reason, got, test.reports)
			}
		})
	}
}
