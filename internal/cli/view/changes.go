package view

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
)

// WatchKinds are the kinds whose changes tell decisions.
var WatchKinds = slices.Concat(snapshot.ConfigKinds, []snapshot.Kind{
	snapshot.Services, snapshot.Nodes, snapshot.Speakers, snapshot.Events,
})

// Decided is a change with what it is about, so that an Event and the change of an object
// that tell the same can be joined.
type Decided struct {
	v1alpha1.Change
	// Namespace is that of the Service concerned, "" for none.
	Namespace string
	// Same is equal for those that tell the same, "" for what nothing else tells.
	Same string
}

// Sources of changes.
const (
	FromEvent  = "Event"
	FromObject = "Object"
)

// changes collects what one change of an object tells.
type changes struct {
	at     metav1.Time
	object string
	space  string
	out    []Decided
}

func (c *changes) add(reason, same, format string, values ...any) {
	c.out = append(c.out, Decided{
		Change: v1alpha1.Change{
			TypeMeta: v1alpha1.TypeMeta("Change"),
			Time:     c.at,
			Object:   c.object,
			Reason:   reason,
			Message:  fmt.Sprintf(format, values...),
			From:     FromObject,
		},
		Namespace: c.space,
		Same:      same,
	})
}

// ChangesOf returns what a change of an object tells, seen at a time. before is nil if the
// object is new, after if it was deleted.
func ChangesOf(before, after runtime.Object, class string, at metav1.Time) []Decided {
	c := &changes{at: at}
	now := after
	if now == nil {
		now = before
	}
	switch now.(type) {
	case *corev1.Event:
		return eventChange(before, after)
	case *corev1.Service:
		was, is := orEmpty[corev1.Service](before), orEmpty[corev1.Service](after)
		c.service(was, is, class)
	case *corev1.Node:
		c.node(orEmpty[corev1.Node](before), orEmpty[corev1.Node](after), before != nil, after != nil)
	case *v1beta1.Speaker:
		c.speaker(orEmpty[v1beta1.Speaker](before), orEmpty[v1beta1.Speaker](after))
	default:
		c.config(before, after, now)
	}
	return c.out
}

// orEmpty returns an object, or an empty one for nil.
func orEmpty[T any](o runtime.Object) *T {
	if typed, ok := any(o).(*T); ok && typed != nil {
		return typed
	}
	return new(T)
}

// announcing finds node and address in the Events of speakers.
var announcing = regexp.MustCompile(`^Node (\S+) (?:announces|no longer announces) (\S+)`)

// eventChange returns what a new Event of Berth tells.
func eventChange(before, after runtime.Object) []Decided {
	e, ok := after.(*corev1.Event)
	if !ok || !strings.HasPrefix(e.ReportingController, "berth") &&
		!strings.HasPrefix(e.Source.Component, "berth") {
		return nil
	}
	if was, ok := before.(*corev1.Event); ok && eventCount(*was) == eventCount(*e) {
		return nil
	}
	object := v1alpha1.Ref{Kind: strings.ToLower(e.InvolvedObject.Kind), Name: e.InvolvedObject.Name}
	out := Decided{Change: v1alpha1.Change{
		TypeMeta: v1alpha1.TypeMeta("Change"),
		Time:     eventTime(*e),
		Reason:   e.Reason,
		Message:  e.Message,
		From:     FromEvent,
	}}
	if e.InvolvedObject.Kind == "Service" {
		object.Namespace, out.Namespace = e.InvolvedObject.Namespace, e.InvolvedObject.Namespace
	}
	out.Object = object.String()
	if m := announcing.FindStringSubmatch(e.Message); m != nil {
		out.Same = sameAs(e.Reason, m[1], m[2])
	}
	return []Decided{out}
}

func sameAs(reason, node, address string) string { return reason + " " + node + " " + address }

// service tells which addresses a Service gets and loses, and why it has none.
func (c *changes) service(was, is *corev1.Service, class string) {
	s := is
	if s.Name == "" {
		s = was
	}
	if !assignment.Serves(was, class) && !assignment.Serves(is, class) {
		return
	}
	c.object, c.space = "service "+s.Namespace+"/"+s.Name, s.Namespace
	had, has := addressesOf(was), addressesOf(is)
	if is.Name == "" {
		c.add("Deleted", "", "had %s", orNone(strings.Join(had, ", ")))
		return
	}
	reason, message := conditionOf(is.Status.Conditions, v1beta1.ConditionAddressAssigned)
	before, _ := conditionOf(was.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if !slices.Equal(had, has) || reason != before {
		c.add(reason, "", "%s → %s. %s",
			orNone(strings.Join(had, ", ")), orNone(strings.Join(has, ", ")), message)
	}
	reason, message = conditionOf(is.Status.Conditions, v1beta1.ConditionBGPAnnounced)
	if before, _ := conditionOf(was.Status.Conditions, v1beta1.ConditionBGPAnnounced); reason != before {
		c.add(reason, "", "%s", message)
	}
}

func addressesOf(s *corev1.Service) []string {
	var out []string
	for _, a := range assignment.StatusAddresses(s) {
		out = append(out, a.String())
	}
	return out
}

// conditionOf returns reason and message of a condition, "" for none.
func conditionOf(conditions []metav1.Condition, kind string) (reason, message string) {
	if c := meta.FindStatusCondition(conditions, kind); c != nil {
		return c.Reason, c.Message
	}
	return "", ""
}

// node tells which marks a node gets and loses.
func (c *changes) node(was, is *corev1.Node, known, exists bool) {
	c.object = "node " + is.Name
	switch {
	case !exists:
		c.object = "node " + was.Name
		c.add("Deleted", "", "the Node is gone")
		return
	case !known:
		c.add("Created", "", "there is a new Node")
		return
	}
	a, b := announcement.ParseNode(was), announcement.ParseNode(is)
	tell := func(before, after bool, reason, yes, no string) {
		switch {
		case after && !before:
			c.add(reason, "", "%s", yes)
		case before && !after:
			c.add("Not"+reason, "", "%s", no)
		}
	}
	tell(a.Ready, b.Ready, v1beta1.ConditionReady, "the node is ready", "the node is not ready")
	tell(a.Cordoned, b.Cordoned, "Cordoned", "the node is cordoned", "the node is no longer cordoned")
	tell(a.Excluded, b.Excluded, "Excluded", "the node has the label "+v1beta1.LabelExcludeNode,
		"the node has lost the label "+v1beta1.LabelExcludeNode)
	tell(a.NetworkUnavailable, b.NetworkUnavailable, string(v1beta1.ReasonNetworkUnavailable),
		"the network of the node is unavailable", "the network of the node is available")
}

// speaker tells what a speaker takes and gives up, whom it misses, and what becomes of its
// sessions.
func (c *changes) speaker(was, is *v1beta1.Speaker) {
	c.object = "speaker " + is.Name
	if is.Name == "" {
		c.object = "speaker " + was.Name
		c.add("Deleted", "", "the Speaker object is gone")
		return
	}
	a, b := was.Status, is.Status
	if a.Stage != b.Stage {
		c.add("Stage"+string(b.Stage), "", "%s → %s", orNone(string(a.Stage)), b.Stage)
	}
	for _, kind := range []string{
		v1beta1.ConditionReady, v1beta1.ConditionMembersReachable, v1beta1.ConditionAddressesClear,
	} {
		before, _ := conditionOf(a.Conditions, kind)
		if reason, message := conditionOf(b.Conditions, kind); reason != before {
			c.add(reason, "", "%s", message)
		}
	}
	c.announcements(is.Name, a.Layer2, b.Layer2)
	c.sessions(a, b)
	missed := map[string]v1beta1.AbsentMember{}
	for _, m := range a.AbsentMembers {
		missed[m.Name] = m
	}
	for _, m := range b.AbsentMembers {
		if before := missed[m.Name]; before.Presence != m.Presence || before.Reason != m.Reason {
			c.add(m.Reason, "", "sees node %s as %s", m.Name, m.Presence)
		}
		delete(missed, m.Name)
	}
	for _, name := range sortedKeys(missed) {
		c.add(string(v1beta1.ReasonNodePresent), "", "sees node %s as Present again", name)
	}
}

// announcements tells which addresses a node takes and gives up.
func (c *changes) announcements(node string, was, is v1beta1.SpeakerLayer2) {
	had := map[string]v1beta1.Layer2Announcement{}
	for _, a := range was.Announcements {
		had[a.Address] = a
	}
	for _, a := range is.Announcements {
		before, known := had[a.Address]
		delete(had, a.Address)
		on := strings.Join(a.Links, ", ")
		switch {
		case known && before.StandInFor == a.StandInFor && slices.Equal(before.Links, a.Links):
		case a.StandInFor != "":
			c.add(string(v1beta1.ReasonStandIn), "", "answers for %s on %s in the place of %s",
				a.Address, on, a.StandInFor)
		default:
			reason := string(v1beta1.ReasonAnnouncing)
			c.add(reason, sameAs(reason, node, a.Address), "answers for %s on %s, generation %d (%s)",
				a.Address, on, a.Generation, strings.Join(a.Services, ", "))
		}
	}
	complete := int(is.Count) <= len(is.Announcements)
	for _, address := range sortedKeys(had) {
		if _, err := netip.ParseAddr(address); err != nil || !complete {
			continue // it may have been pushed off the list
		}
		reason := string(v1beta1.ReasonWithdrawn)
		c.add(reason, sameAs(reason, node, address), "no longer answers for %s (%s)",
			address, strings.Join(had[address].Services, ", "))
	}
}

// sessions tells what becomes of sessions of BGP and BFD.
func (c *changes) sessions(was, is v1beta1.SpeakerStatus) {
	before := map[string]v1beta1.BGPSessionState{}
	for _, s := range was.BGP.Sessions {
		before[s.Peer] = s.State
	}
	for _, s := range is.BGP.Sessions {
		if s.State != before[s.Peer] {
			why := s.Problem
			if why == "" {
				why = s.LastError
			}
			c.add(string(s.State), "", "session with %s: %s → %s. %s", s.Peer,
				orNone(string(before[s.Peer])), s.State, why)
		}
	}
	bfd := map[string]v1beta1.BFDState{}
	for _, s := range was.BFD.Sessions {
		bfd[s.Peer] = s.State
	}
	for _, s := range is.BFD.Sessions {
		if s.State != bfd[s.Peer] {
			c.add("BFD"+string(s.State), "", "BFD with %s: %s → %s. %s", s.Peer,
				orNone(string(bfd[s.Peer])), s.State, s.LastDownCause)
		}
	}
}

// config tells which objects users write, and whether they are in force.
func (c *changes) config(before, after, now runtime.Object) {
	o, ok := now.(metav1.Object)
	if !ok {
		return
	}
	c.object = configKind(now) + " " + o.GetName()
	reason, message := readyOf(after)
	was, _ := readyOf(before)
	switch {
	case after == nil:
		c.add("Deleted", "", "it is gone")
	case reason != was:
		c.add(reason, "", "%s", message)
	case before == nil:
		c.add("Created", "", "it is new")
	case before.(metav1.Object).GetGeneration() != o.GetGeneration():
		c.add("Edited", "", "it was edited")
	}
}

// configKind returns the kind of a configuration object, as kubectl takes it.
func configKind(o runtime.Object) string {
	switch o.(type) {
	case *v1beta1.IPAddressPool:
		return "ipaddresspool"
	case *v1beta1.L2Advertisement:
		return "l2advertisement"
	case *v1beta1.BGPAdvertisement:
		return "bgpadvertisement"
	case *v1beta1.BGPPeer:
		return "bgppeer"
	case *v1beta1.BFDProfile:
		return "bfdprofile"
	}
	return "community"
}

// readyOf returns reason and message of the Ready condition of a configuration object.
func readyOf(o runtime.Object) (reason, message string) {
	switch o := o.(type) {
	case *v1beta1.IPAddressPool:
		return conditionOf(o.Status.Conditions, v1beta1.ConditionReady)
	case *v1beta1.L2Advertisement:
		return conditionOf(o.Status.Conditions, v1beta1.ConditionReady)
	case *v1beta1.BGPAdvertisement:
		return conditionOf(o.Status.Conditions, v1beta1.ConditionReady)
	case *v1beta1.BGPPeer:
		return conditionOf(o.Status.Conditions, v1beta1.ConditionReady)
	case *v1beta1.BFDProfile:
		return conditionOf(o.Status.Conditions, v1beta1.ConditionReady)
	case *v1beta1.Community:
		return conditionOf(o.Status.Conditions, v1beta1.ConditionReady)
	}
	return "", ""
}

// Join leaves out the changes of objects that an Event among them tells too.
func Join(list []Decided) []Decided {
	told := map[string]bool{}
	for _, d := range list {
		if d.From == FromEvent && d.Same != "" {
			told[d.Same] = true
		}
	}
	return slices.DeleteFunc(list, func(d Decided) bool { return d.From == FromObject && told[d.Same] })
}
