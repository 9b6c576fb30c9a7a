package configuration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/config"
)

// Which nodes an advertisement reaches is not known from it alone: nodes have labels
// that keep them out, and only their speakers list what links they have.

// place is a node, and what its speaker reports of it.
type place struct {
	name   string
	labels labels.Set
	// speaks is set when the node has a Speaker object, worked when a speaker of it
	// has been ready.
	speaks, worked bool
	// excludeLabel is what the exclude label means to its speaker, "" when it does not
	// say.
	excludeLabel v1beta1.NodeMark
	// protocols are those by which its speaker announces, none for all.
	protocols []v1beta1.Protocol
	// links are the names of the links that may carry announcements, nil when they
	// are not known, or not all of them.
	links []string
}

func (p place) labelled() bool {
	_, labelled := p.labels[v1beta1.LabelExcludeNode]
	return labelled
}

// announces reports whether the speaker of the node announces by a protocol, as far as is
// known.
func (p place) announces(by v1beta1.Protocol) bool {
	return len(p.protocols) == 0 || slices.Contains(p.protocols, by)
}

// settingOf is the setting that turns a protocol off.
var settingOf = map[v1beta1.Protocol]string{
	v1beta1.ProtocolLayer2: "--layer2=false",
	v1beta1.ProtocolBGP:    "--bgp=false",
}

// disabled returns the problem of an object of a protocol by which no speaker announces;
// its reason is "" if one does, or if no speaker is known.
func disabled(kind, name string, by v1beta1.Protocol, places []place) config.Problem {
	speaks := false
	for _, p := range places {
		if p.speaks && p.announces(by) {
			return config.Problem{}
		}
		speaks = speaks || p.speaks
	}
	if !speaks {
		return config.Problem{}
	}
	return config.Problem{
		Kind:   kind,
		Name:   name,
		Reason: v1beta1.ReasonProtocolDisabled,
		Message: fmt.Sprintf("No speaker announces by %s: all run with %s. "+
			"Run them without, or use objects of another protocol.", nameOf[by], settingOf[by]),
	}
}

// nameOf is what users call a protocol.
var nameOf = map[v1beta1.Protocol]string{
	v1beta1.ProtocolLayer2: "layer 2",
	v1beta1.ProtocolBGP:    "BGP",
}

// reach is what an advertisement asks of nodes.
type reach struct {
	kind, name string
	by         v1beta1.Protocol
	selects    func(labels.Set) bool
	// interfaces are those that it names, as they are written, and names reports which
	// are meant; none for any.
	interfaces []string
	names      func(string) bool
}

// judge says which nodes the advertisement reaches: the reason is ReasonAccepted when
// there are some, or when it is not known.
func (r reach) judge(places []place) config.Problem {
	if p := disabled(r.kind, r.name, r.by, places); p.Reason != "" {
		return p
	}
	accepted := r.problem(v1beta1.ReasonAccepted, state.InForce)
	selected := slices.DeleteFunc(slices.Clone(places), func(p place) bool { return !r.selects(p.labels) })
	if len(places) == 0 {
		return accepted // none are known
	}
	if len(selected) == 0 {
		return config.NoNodeSelected(r.kind, r.name)
	}
	// See marksOf in pkg/announcement, which decides the same.
	counts := slices.ContainsFunc(places, func(p place) bool { return !p.labelled() && p.worked })
	excluded := slices.DeleteFunc(slices.Clone(selected), func(p place) bool {
		return !p.labelled() || p.speaks && p.excludeLabel != v1beta1.MarkHeeded
	})
	switch {
	case counts && len(excluded) == len(selected):
		return r.excluded(excluded)
	case !counts && len(excluded) == len(selected):
		accepted.Message = state.InForce + " Every node with a speaker carries the label " +
			v1beta1.LabelExcludeNode + ", so the label keeps none of them from announcing."
	}
	if len(r.interfaces) > 0 {
		if missing := r.missing(selected); missing != "" {
			return r.problem(v1beta1.ReasonNoInterface, missing)
		}
	}
	return accepted
}

// excluded returns the problem of an advertisement all nodes of which have the exclude
// label, while others have not.
func (r reach) excluded(places []place) config.Problem {
	names := namesOf(places)
	return r.problem(v1beta1.ReasonNodesExcluded, fmt.Sprintf(
		"All nodes that it selects carry the label %[1]s, and other nodes do not: so no node announces by "+
			"it. On them: %[2]s. Take the label off: kubectl label node %[3]s %[1]s-. "+
			"Or have the speakers ignore it, with --ignore-exclude-label.",
		v1beta1.LabelExcludeNode, someOf(names), strings.Join(names[:min(len(names), mostNodes)], " ")))
}

// problem returns what is said of the advertisement.
func (r reach) problem(reason v1beta1.Reason, message string) config.Problem {
	return config.Problem{Kind: r.kind, Name: r.name, Reason: reason, Message: message}
}

// missing says that no node has an interface that is named; "" when one has, or when
// that is not known. A node without a speaker announces nothing anyway.
func (r reach) missing(selected []place) string {
	there := map[string]bool{}
	speak := false
	for _, p := range selected {
		if !p.speaks {
			continue
		}
		speak = true
		if p.links == nil || slices.ContainsFunc(p.links, r.names) {
			return ""
		}
		for _, link := range p.links {
			there[link] = true
		}
	}
	if !speak {
		return ""
	}
	return fmt.Sprintf("No node that it selects has an interface named %s that is up and can carry ARP or "+
		"NDP. Correct spec.interfaces or spec.interfacePatterns, or spec.nodeSelectors. The nodes have: %s.",
		strings.Join(r.interfaces, ", "), someOf(slices.Collect(maps.Keys(there))))
}

func namesOf(places []place) []string {
	var out []string
	for _, p := range places {
		out = append(out, p.name)
	}
	slices.Sort(out)
	return out
}

// InterfaceGracePeriod is how long no node must have an interface before that is
// reported. Speakers list links that are excluded by their name only once an
// advertisement names them, and those that start do not know yet which do.
const InterfaceGracePeriod = 10 * time.Second

// missingSince remembers since when advertisements name interfaces that no node has.
type missingSince struct {
	mu    sync.Mutex
	since map[state.ObjectKey]missing
}

// missing is since when an advertisement, as it is written, names such interfaces.
type missing struct {
	generation int64
	at         time.Time
}

// wait takes in what was found of a generation of an advertisement just now, and
// returns how long it is to be waited before that is reported. Another generation may name
// other interfaces, which speakers have had no time to list.
func (m *missingSince) wait(key state.ObjectKey, generation int64, reason v1beta1.Reason,
	now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if reason != v1beta1.ReasonNoInterface {
		delete(m.since, key)
		return 0
	}
	if m.since == nil {
		m.since = map[state.ObjectKey]missing{}
	}
	if first, known := m.since[key]; !known || first.generation != generation {
		m.since[key] = missing{generation, now}
	}
	return max(m.since[key].at.Add(InterfaceGracePeriod).Sub(now), 0)
}

// forget drops what is remembered of an object that is gone.
func (m *missingSince) forget(key state.ObjectKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.since, key)
}

// reachOf returns what an advertisement in force asks of nodes.
func reachOf(c *config.Config, key state.ObjectKey) (r reach, found bool) {
	switch key.Kind {
	case config.KindL2Advertisement:
		for _, a := range c.L2Advertisements {
			if a.Name != key.Name {
				continue
			}
			named := slices.Clone(a.Interfaces)
			for _, p := range a.InterfacePatterns {
				named = append(named, p.String())
			}
			return reach{
				kind:       key.Kind,
				name:       key.Name,
				by:         v1beta1.ProtocolLayer2,
				selects:    func(l labels.Set) bool { return a.SelectsNode(l) },
				interfaces: named,
				names:      a.NamesInterface,
			}, true
		}
	case config.KindBGPAdvertisement:
		for _, a := range c.BGPAdvertisements {
			if a.Name == key.Name {
				return reach{
					kind:    key.Kind,
					name:    key.Name,
					by:      v1beta1.ProtocolBGP,
					selects: func(l labels.Set) bool { return a.SelectsNode(l) },
				}, true
			}
		}
	}
	return reach{}, false
}

// reaches returns what is wrong with an advertisement for want of nodes, by their labels
// and what their speakers say.
func (r *StatusReconciler) reaches(ctx context.Context, key state.ObjectKey) (config.Problem, error) {
	c, nodes := r.state.Configuration()
	asks, found := reachOf(c, key)
	if !found {
		return config.Problem{Reason: v1beta1.ReasonAccepted, Message: state.InForce}, nil
	}
	var speakers v1beta1.SpeakerList
	if err := r.cached.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
		return config.Problem{}, fmt.Errorf("list Speakers: %w", err)
	}
	return asks.judge(placesOf(nodes, speakers.Items)), nil
}

// placesOf puts nodes and speakers together.
func placesOf(nodes map[string]map[string]string, speakers []v1beta1.Speaker) []place {
	status := map[string]*v1beta1.SpeakerStatus{}
	for i := range speakers {
		status[speakers[i].Name] = &speakers[i].Status
	}
	var out []place
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		p := place{name: name, labels: nodes[name]}
		if s := status[name]; s != nil {
			p.speaks, p.worked, p.excludeLabel = true, s.Worked(), s.ExcludeLabel
			p.protocols = s.Protocols
			if len(s.Links) < v1beta1.MaxSpeakerAnnouncements { // else not all are listed
				p.links = linkNames(s.Links)
			}
		}
		out = append(out, p)
	}
	return out
}

func linkNames(links []v1beta1.SpeakerLink) []string {
	var out []string
	for _, l := range links {
		if l.Up {
			out = append(out, l.Name)
		}
	}
	return out
}
