package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/announcement"
)

func (c checker) controller() v1alpha1.Check {
	return c.judged("Controller", c.addController(&v1alpha1.Status{}), "Whether a controller works",
		"All replicas of the controller are ready, and one leads", snapshot.Deployments, snapshot.Leases)
}

// speakerPods looks at the DaemonSet, without what it says of versions and settings.
func (c checker) speakerPods() v1alpha1.Check {
	state := &v1alpha1.SpeakersState{}
	var found []v1alpha1.Problem
	for _, p := range c.rollout(state) {
		if p.Reason != reasonSettings {
			found = append(found, p)
		}
	}
	wanted := int32(0)
	if state.Wanted != nil {
		wanted = *state.Wanted
	}
	return c.judged("SpeakerPods", found, "Whether the speakers' pods are ready",
		fmt.Sprintf("Every speaker's pod (%d) is ready", wanted), snapshot.DaemonSets)
}

func (c checker) versions() v1alpha1.Check {
	const name = "Versions"
	if unknown, missing := c.unseen(name, "Which versions run", []snapshot.Kind{snapshot.Speakers}); missing {
		return unknown
	}
	versions := map[string]*v1alpha1.VersionCount{}
	for i := range c.Speakers {
		s := &c.Speakers[i]
		v := versions[s.Status.Version]
		if v == nil {
			v = &v1alpha1.VersionCount{Version: s.Status.Version}
			versions[s.Status.Version] = v
		}
		if v.Count++; len(v.Nodes) < mostNamed {
			v.Nodes = append(v.Nodes, s.Name)
		}
	}
	switch sorted := sortVersions(versions); len(sorted) {
	case 0:
		return newCheck(name, v1alpha1.CheckProblem, "No speaker has written a Speaker object")
	case 1:
		return newCheck(name, v1alpha1.CheckOK, "All speakers are of version "+
			cmp.Or(sorted[0].Version, "unknown"))
	default:
		return with(newCheck(name, v1alpha1.CheckWarning, fmt.Sprintf("%d versions of the speaker run: %s",
			len(sorted), tellVersions(sorted))), fmt.Sprintf(
			"kubectl -n %s rollout status daemonset/berth-speaker", c.Berth))
	}
}

// definitions looks whether the controller has found a definition of a kind that is older than it.
func (c checker) definitions() v1alpha1.Check {
	return c.judged("Definitions", c.definitionProblems(), "Whether CustomResourceDefinitions are outdated",
		"No CustomResourceDefinition is reported to be outdated", snapshot.ConfigKinds...)
}

func (c checker) settings() v1alpha1.Check {
	const name = "Settings"
	profiles, protocols := map[string]bool{}, map[string]bool{}
	for i := range c.Speakers {
		protocols[protocolsOf(&c.Speakers[i])] = true
		if p := c.Speakers[i].Status.MemberProfile; p != "" {
			profiles[p] = true
		}
	}
	switch {
	case c.Settings.SpeakerClass != "":
		return newCheck(name, v1alpha1.CheckProblem, fmt.Sprintf(
			"The speakers handle Services of loadBalancerClass %q, the controller those of %q",
			c.Settings.SpeakerClass, c.Settings.Class))
	case len(protocols) > 1:
		return newCheck(name, v1alpha1.CheckWarning, "Speakers announce by different protocols: "+
			strings.Join(sortedKeys(protocols), " and ")+". See that --layer2 and --bgp are the same on all")
	case len(profiles) > 1:
		return newCheck(name, v1alpha1.CheckWarning, "Speakers have different member profiles: "+
			strings.Join(sortedKeys(profiles), ", "))
	case c.Settings.ClassUnknown != "":
		return newCheck(name, v1alpha1.CheckUnknown,
			"Which Services Berth handles is not known: "+c.Settings.ClassUnknown)
	}
	if unknown, missing := c.unseen(name, "Whether settings agree", []snapshot.Kind{
		snapshot.Deployments, snapshot.DaemonSets, snapshot.Speakers,
	}); missing {
		return unknown
	}
	return newCheck(name, v1alpha1.CheckOK, "Controller and speakers handle the same Services")
}

// protocolsOf returns by which protocols a speaker announces, as its settings say.
func protocolsOf(s *v1beta1.Speaker) string {
	switch l2, bgp := s.Status.Announces(v1beta1.ProtocolLayer2), s.Status.Announces(v1beta1.ProtocolBGP); {
	case l2 && bgp:
		return "both"
	case bgp:
		return "BGP only"
	default:
		return "layer 2 only"
	}
}

// speakerSelector returns the nodes on which the DaemonSet runs speakers, by their labels.
func (c checker) speakerSelector() labels.Selector {
	for i := range c.DaemonSets {
		if t := &c.DaemonSets[i].Spec.Template; t.Labels["app.kubernetes.io/component"] == "speaker" {
			return labels.SelectorFromSet(t.Spec.NodeSelector)
		}
	}
	return labels.Everything()
}

// speakersWork looks whether each node that is to have a speaker has one that says that it
// works.
func (c checker) speakersWork() v1alpha1.Check {
	var found []v1alpha1.Problem
	add := func(node, reason, message string) {
		found = append(found, problem(v1alpha1.Error, speakerRef(node), reason, message,
			"kubectl berth explain node/"+node))
	}
	selector := c.speakerSelector()
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if c.Has(snapshot.Speakers) && isLinux(n) && selector.Matches(labels.Set(n.Labels)) &&
			c.speaker(n.Name) == nil {
			add(n.Name, reasonNoSpeaker, "The node has no Speaker object")
		}
	}
	for i := range c.Speakers {
		s := &c.Speakers[i]
		ready := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionReady)
		switch {
		case ready == nil:
			add(s.Name, Unknown, "It has no condition Ready")
		case ready.Status != metav1.ConditionTrue:
			add(s.Name, ready.Reason, ready.Message)
		}
	}
	return c.judged("Speakers", found, "Whether the speakers work",
		fmt.Sprintf("Every speaker (%d) is ready", len(c.Speakers)), snapshot.Nodes, snapshot.Speakers)
}

// members looks whether all speakers hear each other.
func (c checker) members() v1alpha1.Check {
	var found []v1alpha1.Problem
	add := func(node, reason, message string) {
		found = append(found, problem(v1alpha1.Error, speakerRef(node), reason, message,
			"kubectl berth explain node/"+node))
	}
	members := 0
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if !s.Status.Announces(v1beta1.ProtocolLayer2) {
			continue
		}
		members++
		reachable := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionMembersReachable)
		switch r, absent := c.reports[s.Name]; {
		case reachable != nil && reachable.Status == metav1.ConditionFalse:
			add(s.Name, reachable.Reason, reachable.Message)
		case absent && r.Presence != announcement.Present:
			add(s.Name, string(r.Reason), seenBy(r))
		case s.Status.AbsentCount > 0:
			add(s.Name, "Misses", fmt.Sprintf("Speakers absent for it: %d", s.Status.AbsentCount))
		}
	}
	well := "All speakers hear each other"
	if members == 0 && len(c.Speakers) > 0 {
		well = "No speaker announces by layer 2, so none is to hear another"
	}
	return c.judged("Members", found, "Whether the speakers hear each other", well, snapshot.Speakers)
}

func (c checker) links() v1alpha1.Check {
	var found []v1alpha1.Problem
	for i := range c.Speakers {
		s := &c.Speakers[i]
		for _, l := range s.Status.Links {
			if l.Problem != "" {
				found = append(found, problem(v1alpha1.Warning, speakerRef(s.Name), "Link",
					l.Name+": "+l.Problem, "kubectl berth explain node/"+s.Name))
			}
		}
	}
	return c.judged("Links", found, "Which links have a problem",
		"No link of a node has a problem", snapshot.Speakers)
}

// mostAhead is how far a clock may be ahead of that of the user.
const mostAhead = 5 * time.Second

// clocks looks for times that have not come yet: those of the leader and of speakers, which
// each takes from its own clock. That a clock is behind cannot be told from a time that was
// written long ago.
func (c checker) clocks() v1alpha1.Check {
	var ahead []string
	look := func(who string, at metav1.MicroTime) {
		if d := at.Sub(c.Taken); d > mostAhead {
			ahead = append(ahead, fmt.Sprintf("%s: %s ahead", who, d.Round(time.Second)))
		}
	}
	for i := range c.Leases {
		if l := &c.Leases[i]; l.Name == leaseName && l.Spec.RenewTime != nil {
			look("the leader", *l.Spec.RenewTime)
		}
	}
	for i := range c.Speakers {
		if at := c.Speakers[i].Status.RenewTime; at != nil {
			look("speaker "+c.Speakers[i].Name, *at)
		}
	}
	const name = "Clocks"
	if len(ahead) > 0 {
		return newCheck(name, v1alpha1.CheckWarning,
			"Clocks are ahead of yours: theirs are wrong, or yours is", ahead...)
	}
	if unknown, missing := c.unseen(name, "How clocks differ",
		[]snapshot.Kind{snapshot.Leases, snapshot.Speakers}); missing {
		return unknown
	}
	return newCheck(name, v1alpha1.CheckOK, "No clock is seen to be ahead of yours")
}

func (c checker) objects() v1alpha1.Check {
	total := len(c.Pools) + len(c.L2Advertisements) + len(c.BGPAdvertisements) + len(c.BGPPeers) +
		len(c.BFDProfiles) + len(c.Communities)
	return c.judged("Objects", c.configProblems(), "Whether the configuration is in force",
		fmt.Sprintf("Every object of the configuration (%d) is in force as written", total),
		snapshot.ConfigKinds...)
}

// servicesWork looks at the Services that Berth handles.
func (c checker) servicesWork() []v1alpha1.Check {
	if c.Settings.ClassUnknown != "" {
		return []v1alpha1.Check{newCheck("ServiceAddresses", v1alpha1.CheckUnknown,
			"Which Services Berth handles is not known: "+c.Settings.ClassUnknown)}
	}
	var assigned, announced []v1alpha1.Problem
	unknown, decided := 0, 0
	for _, s := range c.services {
		row := c.serviceRow(s, &decided)
		for _, p := range c.settled(s, row.Problems) {
			switch {
			case p.Reason == Unknown:
				unknown++
			case p.Reason == row.Reason:
				assigned = append(assigned, p)
			default:
				announced = append(announced, p)
			}
		}
	}
	second := c.judged("ServiceAnnounced", announced, "Whether addresses are announced", fmt.Sprintf(
		"Every address of Services (%d) is announced", len(c.holders)), snapshot.Services, snapshot.Speakers)
	if unknown > 0 && second.State == v1alpha1.CheckOK {
		second = newCheck("ServiceAnnounced", v1alpha1.CheckUnknown, fmt.Sprintf(
			"Whether %d Services have what they ask for is not known from what could be read", unknown))
	}
	return []v1alpha1.Check{
		c.judged("ServiceAddresses", assigned, "Which Services have their addresses", fmt.Sprintf(
			"Every Service of Berth (%d) has its addresses", len(c.services)), snapshot.Services),
		second,
	}
}

// conflicts looks for addresses for which another than the owner answers, or nobody.
func (c checker) conflicts() v1alpha1.Check {
	var found []v1alpha1.Problem
	for i := range c.Speakers {
		l2 := &c.Speakers[i].Status.Layer2
		add := func(reason, message string) {
			found = append(found, problem(v1alpha1.Error, speakerRef(c.Speakers[i].Name), reason, message,
				"kubectl get events -A --field-selector type=Warning"))
		}
		for _, conflict := range l2.Conflicts {
			add(string(conflict.Kind.Reason()), conflict.Message)
		}
		if more := int(l2.ConflictCount) - len(l2.Conflicts); more > 0 {
			add(string(v1beta1.ReasonConflicts), fmt.Sprintf("%d more are not listed", more))
		}
	}
	return c.judged("ForeignAnswers", found, "Who answers for addresses",
		"No speaker has seen another host answer for an address", snapshot.Speakers)
}

// sessions looks at BGP and BFD, if anything uses them.
func (c checker) sessions() []v1alpha1.Check {
	var found []v1alpha1.Problem
	total, up, unlisted := 0, 0, 0
	for i := range c.Speakers {
		s := &c.Speakers[i]
		total, up = total+int(s.Status.BGP.Count), up+int(s.Status.BGP.Established)
		unlisted += int(s.Status.BGP.Count) - len(s.Status.BGP.Sessions)
		for _, session := range c.sessionsOf(s) {
			found = append(found, session.Problems...)
		}
	}
	if c.Has(snapshot.BGPPeers, snapshot.Speakers) && len(c.BGPPeers) == 0 && total == 0 {
		return nil
	}
	if unlisted > 0 && up < total {
		found = append(found, problem(v1alpha1.Error, v1alpha1.Ref{Kind: "bgppeer", Name: "sessions"},
			string(v1beta1.ReasonNotListed), fmt.Sprintf("%d of %d are established; speakers do not list all",
				up, total), "kubectl get speakers"))
	}
	return []v1alpha1.Check{c.judged("Sessions", found, "Which sessions with routers are up",
		fmt.Sprintf("Every session with a router (%d) is established", total),
		snapshot.BGPPeers, snapshot.Speakers)}
}
