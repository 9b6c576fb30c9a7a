package presence

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Reachability is the result of probes of a node's kernel.
type Reachability uint8

// The states of reachability; the zero value is Unknown.
const (
	// Unknown: it has not answered since the first probe, or since the link came up. Its
	// silence means nothing then.
	Unknown Reachability = iota
	// Answers: it answers probes.
	Answers
	// Silent: it has answered, and no longer does.
	Silent
)

// Reach is what this node's probes have found out about another node's kernel.
type Reach struct {
	State Reachability
	// LastAnswer is when it answered last; zero before the first time.
	LastAnswer time.Time
	// Missed is how many probes in a row were not answered.
	Missed int
}

// LinkReach is what this node's probes have found out about the links of other nodes.
type LinkReach struct {
	// Answers has, by node, the links on which its kernel answers. Silent has those on
	// which it no longer does, while other nodes answer there.
	Answers, Silent map[string][]string
	// Suspect are the links of this node on which another node is silent. Only a third node
	// there shows which of the two has lost the LAN.
	Suspect []string
}

// Target is an address of another node to probe.
type Target struct {
	// Node is the other node. Link is the link of this node on which to probe, On the link
	// of the other node that has the address.
	Node string
	Link string
	On   string
	Addr netip.Addr
	MAC  net.HardwareAddr
}

// Ping is the last result of a ping of a speaker. Refused is set if the kernel of its node
// refuses connections to the speaker's port.
type Ping struct {
	Failed  bool
	Refused bool
	At      time.Time
	// RefusedAt is when connections were refused last.
	RefusedAt time.Time
}

// After returns the result to keep when p follows before, and whether it is news. A process
// that has just been started listens before it answers: it has the time silence from then
// on, not from the death of its predecessor.
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

// reports returns the reports of a node's witnesses: those of this node as of now, those of
// others as published.
func (v view) reports(name string) []ProbeReport {
	var out []ProbeReport
	for _, witness := range v.witnesses.of[name] {
		if witness == v.Node {
			out = append(out, v.ownReport(v.prev, name))
			continue
		}
		out = append(out, v.members[witness].State.Reports[name])
	}
	return out
}

// OwnReports returns this node's reports about the others, by node.
func OwnReports(last Snapshot, obs Observations) map[string]ProbeReport {
	out := make(map[string]ProbeReport, len(obs.Reach))
	for name := range obs.Reach {
		out[name] = obs.ownReport(last, name)
	}
	return out
}

// ownReport returns this node's report about another. It omits the link on which the other
// speaker is reached as a member, as long as that speaker answers pings.
func (o Observations) ownReport(last Snapshot, name string) ProbeReport {
	other := func(link string) bool {
		peer := o.Objects[name].Peer.Addr()
		reached := slices.ContainsFunc(last.Members[name].Links, func(l links.Link) bool {
			return l.Name == link && l.Holds(peer)
		})
		return o.Pings[name].Failed || !reached
	}
	ping := o.Pings[name]
	if !ping.At.After(o.DisconnectedUntil) {
		ping.Failed = false // nobody would have answered this node
	}
	return ProbeReport{
		Kernel:  kernelReport(o.Reach[name], ping),
		Answers: keep(o.LinkReach.Answers[name], other),
		Silent:  keep(o.LinkReach.Silent[name], other),
	}
}

// keep returns the elements for which condition holds.
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

// silentLinks returns the links of a node on which its kernel is silent: at least one
// witness reports it, and none gets an answer there.
func silentLinks(all []ProbeReport) []string {
	var answers, silent []string
	for _, r := range all {
		answers, silent = append(answers, r.Answers...), append(silent, r.Silent...)
	}
	slices.Sort(silent)
	return keep(slices.Compact(silent), func(link string) bool { return !slices.Contains(answers, link) })
}

// kernelReport returns this node's report about the kernel of another. The kernel is silent
// if neither it nor the speaker has answered since the kernel's last answer.
func kernelReport(r Reach, p Ping) announcement.Report {
	switch {
	case r.State == Answers && p.Refused:
		return announcement.KernelRefuses
	case r.State == Answers:
		return announcement.KernelAnswers
	case r.State == Silent && p.Failed && p.At.After(r.LastAnswer):
		return announcement.KernelSilent
	}
	return ""
}

// Questionable returns the nodes whose speaker to ping, with when their kernel last
// answered: their kernel misses probes, on one link or on all, or membership misses them
// while their kernel answers. The nodes in settled need no further ping, and earlier
// results no longer count.
func Questionable(last Snapshot, obs Observations) (ask map[string]time.Time, settled []string) {
	ask = map[string]time.Time{}
	for node, r := range obs.Reach {
		m := last.Members[node]
		held := !m.Heard && m.Presence == announcement.Held
		switch {
		case r.State != Unknown && (r.Missed > 0 || held || len(obs.LinkReach.Silent[node]) > 0):
			ask[node] = r.LastAnswer
		case m.Heard:
			settled = append(settled, node)
		}
	}
	return ask, settled
}

// Targets returns what a node has to probe: for each node that it is a witness of, an
// address on every link that both share. On a suspect link it also probes a few other
// nodes: if none of them answers either, it is this node that has lost the LAN.
func (s Snapshot) Targets(node string, links []links.Link, suspect []string) []Target {
	const controls = 2
	var out []Target
	left := map[string]int{} // how many controls each suspect link may have yet
	for _, link := range suspect {
		left[link] = controls
	}
	for _, name := range sets.List(sets.KeySet(s.Members)) {
		witness := slices.Contains(s.witnesses.of[name], node)
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
func targetsOn(node string, ours links.Link, links []links.Link) []Target {
	var out []Target
	for _, theirs := range links {
		if addr, ok := announcement.SharedAddress(ours, theirs); ok && ours.Usable() {
			out = append(out, Target{
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
