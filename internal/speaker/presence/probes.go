package presence

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// Ping is the last answer, or missing answer, of a speaker to a ping. Refused is set
// when the kernel of its node refuses connections to the speaker's port.
type Ping struct {
	Failed  bool
	Refused bool
	At      time.Time
	// RefusedAt is when connections were refused last.
	RefusedAt time.Time
}

// After returns the ping that is remembered when p follows before, and whether it is
// news. A process that has just been started listens before it answers: it is given this
// long from then on, not from when the one before it died.
func (p Ping) After(before Ping, silence time.Duration) (out Ping, news bool) {
	switch {
	case p.Refused:
		p.RefusedAt = p.At
	case p.Failed:
		p.RefusedAt = before.RefusedAt
	}
	p.Refused = p.Refused || p.Failed && p.At.Sub(p.RefusedAt) < silence
	return p, before.Failed != p.Failed || before.Refused != p.Refused
}

// reports returns those of a node's witnesses. This node's own are fresh, those of
// others are what they published.
func (v view) reports(name string) []ProbeReport {
	var out []ProbeReport
	for _, witness := range announcement.Witnesses(name, v.alive) {
		if witness == v.Node {
			out = append(out, v.ownReport(v.prev, name))
			continue
		}
		out = append(out, v.members[witness].State.Reports[name])
	}
	return out
}

// OwnReports returns what this node says of the others, by node.
func OwnReports(last Snapshot, obs Observations) map[string]ProbeReport {
	out := make(map[string]ProbeReport, len(obs.Reach))
	for name := range obs.Reach {
		out[name] = obs.ownReport(last, name)
	}
	return out
}

// ownReport returns what this node says of another. Of the link on which the other
// speaker is reached as a member it says nothing as long as that answers pings.
func (o Observations) ownReport(last Snapshot, name string) ProbeReport {
	other := func(link string) bool {
		peer := o.Objects[name].Peer.Addr()
		return o.Pings[name].Failed || !slices.ContainsFunc(last.Members[name].Links, func(l links.Link) bool {
			return l.Name == link && l.Holds(peer)
		})
	}
	return ProbeReport{
		Kernel:  kernelReport(o.Reach[name], o.Pings[name]),
		Answers: keep(o.LinkReach.Answers[name], other),
		Silent:  keep(o.LinkReach.Silent[name], other),
	}
}

// keep returns the part of a list for which a condition holds.
func keep(list []string, condition func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !condition(s) })
}

func kernelReports(all []ProbeReport) []announcement.Report {
	var out []announcement.Report
	for _, r := range all {
		out = append(out, r.Kernel)
	}
	return out
}

// silentLinks returns the links of a node on which its witnesses find its kernel silent:
// one says so, and none gets an answer there.
func silentLinks(all []ProbeReport) []string {
	var answers, silent []string
	for _, r := range all {
		answers, silent = append(answers, r.Answers...), append(silent, r.Silent...)
	}
	slices.Sort(silent)
	return keep(slices.Compact(silent), func(link string) bool { return !slices.Contains(answers, link) })
}

// kernelReport returns what this node says of the kernel of another. It is silent when
// neither the kernel nor the speaker has answered since the kernel last did.
func kernelReport(r prober.Reach, p Ping) announcement.Report {
	switch {
	case r.State == prober.Answers && p.Refused:
		return announcement.KernelRefuses
	case r.State == prober.Answers:
		return announcement.KernelAnswers
	case r.State == prober.Silent && p.Failed && p.At.After(r.LastAnswer):
		return announcement.KernelSilent
	}
	return ""
}

// Questionable returns the nodes whose speaker is to be pinged, with when their kernel
// last answered: their kernel misses probes, on one link or on all, or membership misses
// them while their kernel answers. Those in settled need no ping any more: what earlier
// ones found is over.
func Questionable(last Snapshot, obs Observations) (ask map[string]time.Time, settled []string) {
	ask = map[string]time.Time{}
	for node, r := range obs.Reach {
		m := last.Members[node]
		held := !m.Heard && m.Presence == announcement.Held
		switch {
		case r.State != prober.Unknown && (r.Missed > 0 || held || len(obs.LinkReach.Silent[node]) > 0):
			ask[node] = r.LastAnswer
		case m.Heard:
			settled = append(settled, node)
		}
	}
	return ask, settled
}

// Targets returns what a node is to probe: for each node that it is a witness of, an
// address on every link that both are on. On a link of the node on which one is silent, a
// few others are probed as well: if none of them answers either, it is this node that has
// lost the LAN.
func (s Snapshot) Targets(node string, links []links.Link, doubtful []string) []prober.Target {
	const controls = 2
	alive := []string{node}
	for name, m := range s.Members {
		if m.Heard {
			alive = append(alive, name)
		}
	}
	slices.Sort(alive)

	var out []prober.Target
	left := map[string]int{} // how many controls each doubtful link may have yet
	for _, link := range doubtful {
		left[link] = controls
	}
	for _, name := range sets.List(sets.KeySet(s.Members)) {
		witness := slices.Contains(announcement.Witnesses(name, alive), node)
		for _, ours := range links {
			control := s.Members[name].Heard && left[ours.Name] > 0
			if !witness && !control {
				continue
			}
			on := targetsOn(name, ours, s.Members[name].Links)
			if !witness && len(on) > 0 {
				left[ours.Name]--
			}
			out = append(out, on...)
		}
	}
	return out
}

// targetsOn returns the addresses of a node that can be probed on one of our links.
func targetsOn(node string, ours links.Link, links []links.Link) []prober.Target {
	var out []prober.Target
	for _, theirs := range links {
		if addr, ok := announcement.SharedAddress(ours, theirs); ok && ours.Usable() {
			out = append(out, prober.Target{
				Node: node,
				Link: ours.Name,
				On:   theirs.Name,
				Addr: addr,
				MAC:  theirs.HardwareAddr,
			})
		}
	}
	return out
}
