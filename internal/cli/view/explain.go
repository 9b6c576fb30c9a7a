package view

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// ExplainKinds are the kinds that explanations need.
var ExplainKinds = NodeKinds

// explanation collects the steps of an Explanation.
type explanation struct{ v1alpha1.Explanation }

func (f *Facts) explain(subject string) *explanation {
	return &explanation{v1alpha1.Explanation{
		TypeMeta: v1alpha1.TypeMeta("Explanation"),
		Subject:  subject,
		Steps:    []v1alpha1.Step{},
		Unread:   f.Unread(),
	}}
}

func (e *explanation) add(step v1alpha1.Step) { e.Steps = append(e.Steps, step) }

// stateOf returns the state of what is right or wrong.
func stateOf(right bool) v1alpha1.StepState {
	if right {
		return v1alpha1.StepOK
	}
	return v1alpha1.StepProblem
}

// ExplainService explains what becomes of a Service; ok is false if there is no such
// Service among those that could be read.
func (f *Facts) ExplainService(namespace, name string) (out v1alpha1.Explanation, ok bool) {
	i := slices.IndexFunc(f.Services, func(s corev1.Service) bool {
		return s.Namespace == namespace && s.Name == name
	})
	if i < 0 {
		return out, false
	}
	e := f.explain("service " + namespace + "/" + name)
	object := &f.Services[i]
	at := slices.IndexFunc(f.services, func(s *service) bool { return s.Service == object })
	e.add(f.servedStep(object, at >= 0))
	if at < 0 {
		e.Summary = "Berth does not handle the Service."
		return e.Explanation, true
	}
	s := f.services[at]
	e.add(f.addressStep(s))
	e.add(f.endpointStep(s))
	for _, addr := range s.addresses {
		e.add(f.advertisedStep(s, addr))
		e.add(f.layer2Step(addr))
		e.add(f.bgpStep(s, addr))
		e.add(f.seenStep(addr))
	}
	none := 0
	row := f.serviceRow(s, &none)
	switch {
	case len(row.Problems) > 0:
		e.Summary = fmt.Sprintf("%s: %s", row.Problems[0].Reason, row.Problems[0].Message)
	default:
		e.Summary = fmt.Sprintf("The Service has %s, and %s announced.", tellAddresses(s.addresses),
			map[bool]string{true: "it is", false: "they are"}[len(s.addresses) == 1])
	}
	return e.Explanation, true
}

func tellAddresses(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

// servedStep says whether Berth handles a Service.
func (f *Facts) servedStep(s *corev1.Service, served bool) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Handled by Berth", State: v1alpha1.StepOK}
	class := "<none>"
	if s.Spec.LoadBalancerClass != nil {
		class = *s.Spec.LoadBalancerClass
	}
	ours := f.Settings.Class
	if ours == "" {
		ours = "<none>"
	}
	switch {
	case s.Spec.Type != corev1.ServiceTypeLoadBalancer:
		step.State = v1alpha1.StepInfo
		step.Text = fmt.Sprintf("no: its type is %s, and Berth handles LoadBalancer", s.Spec.Type)
	case !served:
		step.State = v1alpha1.StepInfo
		step.Text = fmt.Sprintf("no: its loadBalancerClass is %s, and Berth handles %s", class, ours)
	default:
		step.Text = fmt.Sprintf("yes: type LoadBalancer, loadBalancerClass %s", class)
	}
	if why := f.Settings.ClassUnknown; why != "" && step.State == v1alpha1.StepOK {
		step.State, step.Text = v1alpha1.StepUnknown, step.Text+"; which class Berth handles is not "+
			"known: "+why
	}
	return step
}

// addressStep says which addresses a Service has and from which pools, and why not from
// others.
func (f *Facts) addressStep(s *service) v1alpha1.Step {
	reason, message := f.assigned(s)
	step := v1alpha1.Step{
		Title:  "Addresses",
		State:  stateOf(reason == string(v1beta1.ReasonAssigned)),
		Reason: reason,
		Text:   message,
	}
	if reason == Unknown {
		step.State = v1alpha1.StepUnknown
	}
	for _, addr := range s.addresses {
		step.Details = append(step.Details, v1alpha1.Detail{
			Subject: addr.String(),
			State:   v1alpha1.StepOK,
			Text:    "from pool " + orNone(f.poolOf(s, addr)),
		})
	}
	if s.planned != nil {
		for _, r := range s.planned.Rejections {
			step.Details = append(step.Details, v1alpha1.Detail{
				Subject: r.Pool,
				State:   v1alpha1.StepInfo,
				Reason:  string(r.Reason),
				Text:    r.Message,
			})
		}
	}
	step.Details = append(step.Details, f.passedOver(s)...)
	return step
}

func orNone(text string) string {
	if text == "" {
		return "<none>"
	}
	return text
}

// passedOver says of pools that have no part in the decision why that is so: whom they are
// for, as the pools' own code says.
func (f *Facts) passedOver(s *service) []v1alpha1.Detail {
	if f.config == nil || !f.Has(snapshot.Namespaces) {
		return nil
	}
	parsed, err := assignment.ParseService(s.Service, f.NamespaceLabels()[s.Namespace])
	if err != nil {
		return nil // the reason of the Service says so
	}
	var out []v1alpha1.Detail
	for _, p := range f.config.Pools {
		has := slices.ContainsFunc(s.addresses, func(a netip.Addr) bool { return f.poolOf(s, a) == p.Name })
		told := s.planned != nil && slices.ContainsFunc(s.planned.Rejections,
			func(r assignment.Rejection) bool { return r.Pool == p.Name })
		if has || told {
			continue
		}
		if reason, message := assignment.Eligible(p, parsed); reason != "" {
			out = append(out, v1alpha1.Detail{
				Subject: p.Name,
				State:   v1alpha1.StepInfo,
				Reason:  string(reason),
				Text:    message,
			})
		}
	}
	return out
}

// advertisedStep says which advertisements select an address, and whether they are in
// force.
func (f *Facts) advertisedStep(s *service, addr netip.Addr) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Advertisements, " + addr.String(), State: v1alpha1.StepUnknown}
	if f.config == nil {
		step.Text = "not known: not all of " + f.missing(snapshot.ConfigKinds...) + " could be read"
		return step
	}
	pool := f.config.PoolOf(addr)
	if pool == nil {
		step.State, step.Reason = v1alpha1.StepProblem, string(v1beta1.ReasonNoPool)
		step.Text = "no IPAddressPool contains the address"
		return step
	}
	add := func(kind, name string, o metav1.ObjectMeta, conditions []metav1.Condition) {
		reason, message := f.readiness(kind, o, conditions)
		detail := v1alpha1.Detail{
			Subject: kind + " " + name,
			State:   stateOf(reason == string(v1beta1.ReasonAccepted)),
			Reason:  reason,
			Text:    message,
		}
		step.Details = append(step.Details, detail)
	}
	for _, a := range f.config.L2Advertisements {
		named := func(o v1beta1.L2Advertisement) bool { return o.Name == a.Name }
		i := slices.IndexFunc(f.L2Advertisements, named)
		if i >= 0 && a.SelectsPool(pool) && a.SelectsService(s.Labels) {
			o := &f.L2Advertisements[i]
			add(config.KindL2Advertisement, a.Name, o.ObjectMeta, o.Status.Conditions)
		}
	}
	for _, a := range f.config.BGPAdvertisements {
		named := func(o v1beta1.BGPAdvertisement) bool { return o.Name == a.Name }
		i := slices.IndexFunc(f.BGPAdvertisements, named)
		if i >= 0 && a.SelectsPool(pool) && a.SelectsService(s.Labels) {
			o := &f.BGPAdvertisements[i]
			add(config.KindBGPAdvertisement, a.Name, o.ObjectMeta, o.Status.Conditions)
		}
	}
	step.State = stateOf(len(step.Details) > 0)
	step.Text = fmt.Sprintf("that select pool %s and the Service: %d", pool.Name, len(step.Details))
	if len(step.Details) == 0 {
		step.Reason = string(v1beta1.ReasonNoAdvertisement)
	}
	return step
}

// endpointStep says where a Service's traffic can go.
func (f *Facts) endpointStep(s *service) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Endpoints", State: v1alpha1.StepUnknown, Text: "could not be read"}
	e := f.endpoints(s)
	if e == nil {
		return step
	}
	step.State = stateOf(e.Usable > 0)
	step.Text = fmt.Sprintf("%d usable, externalTrafficPolicy %s", e.Usable, s.Spec.ExternalTrafficPolicy)
	if e.Usable == 0 {
		step.Reason = string(v1beta1.ReasonNoEndpoint)
	}
	for _, n := range e.Nodes {
		step.Details = append(step.Details, v1alpha1.Detail{
			Subject: n.Node,
			State:   v1alpha1.StepOK,
			Text:    fmt.Sprintf("%d", n.Count),
		})
	}
	return step
}

// layer2Step says who answers for an address by ARP and NDP, who may not and why, and who
// would be next.
func (f *Facts) layer2Step(addr netip.Addr) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Layer 2, " + addr.String(), State: v1alpha1.StepUnknown}
	answering := f.layer2[addr]
	var said []string
	for _, a := range answering {
		said = append(said, f.tellAnnouncer(a))
	}
	step.Text = strings.Join(said, "; ")
	if f.speakers == nil {
		if len(answering) > 0 {
			step.State = v1alpha1.StepOK
		}
		step.Text = strings.TrimPrefix(step.Text+"; the other nodes are not known: "+f.whyNoSpeakers(), "; ")
		return step
	}
	d, err := f.speakers.Layer2(addr)
	if err != nil {
		step.Text = err.Error()
		return step
	}
	switch {
	case d.Reason == v1beta1.ReasonNoAdvertisement || d.Reason == v1beta1.ReasonNodeAddress:
		step.State, step.Reason, step.Text = v1alpha1.StepInfo, string(d.Reason), d.Message
	case len(answering) > 0:
		step.State, step.Reason = v1alpha1.StepOK, string(v1beta1.ReasonAnnouncing)
	case !f.layer2Complete:
		step.Text = "some Speaker objects have no room to list all that their nodes answer for"
	default:
		step.State = v1alpha1.StepProblem
		step.Reason, step.Text = f.layer2Reason(addr, d)
	}
	step.Details = f.candidates(addr, d)
	return step
}

func (f *Facts) tellAnnouncer(a v1alpha1.Announcer) string {
	text := fmt.Sprintf("%s answers on %s", a.Node, strings.Join(a.Links, ", "))
	if a.StandInFor != "" {
		return text + " in the place of " + a.StandInFor + " (StandIn)"
	}
	if !a.Since.IsZero() {
		text += " since " + Ago(a.Since.Time, f.Taken)
	}
	return fmt.Sprintf("%s, generation %d", text, a.Generation)
}

// mostCandidates is how many nodes a step lists, of each kind.
const mostCandidates = 20

// candidates says of each node whether it may answer for an address, and which would if the
// owner died.
func (f *Facts) candidates(addr netip.Addr, d announcement.Decision) []v1alpha1.Detail {
	var out []v1alpha1.Detail
	if d.Owner == "" && len(d.Rejections) == 0 {
		return nil // it did not come to that
	}
	more := map[bool]int{}
	add := func(candidate bool, detail v1alpha1.Detail) {
		if more[candidate]++; more[candidate] <= mostCandidates {
			out = append(out, detail)
		}
	}
	for i := range f.Nodes {
		name := f.Nodes[i].Name
		detail := v1alpha1.Detail{Subject: name, State: v1alpha1.StepInfo}
		why := d.WhyNot(name)
		switch {
		case name == d.Owner:
			detail.State, detail.Text = v1alpha1.StepOK, "owner"
		case why != "":
			detail.Reason = string(why)
		default:
			detail.State, detail.Text = v1alpha1.StepOK, "candidate"
		}
		if r, absent := f.reports[name]; absent {
			detail.Text = strings.TrimPrefix(fmt.Sprintf("%s; seen as %s (%s) by %s",
				detail.Text, r.Presence, r.Reason, firstNamed(r.By)), "; ")
		}
		add(why == "", detail)
	}
	for _, candidate := range []bool{true, false} {
		if n := more[candidate] - mostCandidates; n > 0 {
			what := map[bool]string{true: "candidates", false: "nodes that are none"}[candidate]
			out = append(out, v1alpha1.Detail{
				Subject: "...",
				State:   v1alpha1.StepInfo,
				Text:    fmt.Sprintf("and %d more %s", n, what),
			})
		}
	}
	if d.Owner == "" {
		return out
	}
	return append(out, f.successor(addr, d.Owner))
}

// successor says who would answer for an address if its owner died.
func (f *Facts) successor(addr netip.Addr, owner string) v1alpha1.Detail {
	out := v1alpha1.Detail{Subject: "if " + owner + " died", State: v1alpha1.StepOK}
	next, err := f.speakers.Layer2Without(addr, owner)
	switch {
	case err != nil:
		out.State, out.Text = v1alpha1.StepUnknown, err.Error()
	case next.Owner == "":
		out.State, out.Reason, out.Text = v1alpha1.StepInfo, string(next.Reason), "nobody would take over"
	default:
		out.Text = next.Owner + " would take over"
	}
	return out
}

// bgpStep says who announces an address to routers.
func (f *Facts) bgpStep(s *service, addr netip.Addr) v1alpha1.Step {
	step := v1alpha1.Step{Title: "BGP, " + addr.String(), State: v1alpha1.StepInfo}
	nodes := f.bgpNodes(addr)
	if s.planned != nil {
		outcome := s.planned.Announced
		step.Reason, step.Text = string(outcome.Reason), outcome.Message
		switch outcome.Reason {
		case "":
			step.Text = "no BGPAdvertisement selects its pool and the Service"
			return step
		case v1beta1.ReasonNotListed:
			step.State = v1alpha1.StepUnknown
		default:
			step.State = stateOf(outcome.Reason == v1beta1.ReasonAnnounced)
		}
	} else {
		step.State, step.Text = v1alpha1.StepUnknown, "what is to be announced is not known: "+f.notPlanned
	}
	if f.speakers == nil {
		return step
	}
	more := 0
	for i := range f.Nodes {
		name := f.Nodes[i].Name
		if f.speaker(name) == nil {
			continue
		}
		if more++; more > mostCandidates {
			continue
		}
		d, err := f.speakers.BGP(addr, name)
		if err != nil {
			step.State, step.Text = v1alpha1.StepUnknown, err.Error()
			return step
		}
		detail := v1alpha1.Detail{Subject: name, State: v1alpha1.StepInfo, Reason: string(d.Reason)}
		switch says := slices.Contains(nodes, name); {
		case d.Announce && says:
			to := f.tellPeers(name, d)
			detail.State, detail.Text = v1alpha1.StepOK, "announces it to "+to
			if !strings.Contains(to, string(v1beta1.BGPEstablished)) {
				detail.State = v1alpha1.StepProblem
			}
		case d.Announce:
			detail.State = v1alpha1.StepUnknown
			detail.Text = "is to announce it to " + f.tellPeers(name, d) + ", and does not list it: " +
				"whether its service proxy is ready is not known from here"
		case says:
			detail.State, detail.Text = v1alpha1.StepUnknown, "lists it, and is not to: "+d.Message
		default:
			detail.Text = d.Message
		}
		step.Details = append(step.Details, detail)
	}
	if n := more - mostCandidates; n > 0 {
		step.Details = append(step.Details, v1alpha1.Detail{
			Subject: "...",
			State:   v1alpha1.StepInfo,
			Text:    fmt.Sprintf("and %d more nodes", n),
		})
	}
	return step
}

// tellPeers names the peers to which a node announces an address, with their states.
func (f *Facts) tellPeers(node string, d announcement.BGPDecision) string {
	var out []string
	for _, s := range f.sessionsOf(f.speaker(node)) {
		reaches := slices.ContainsFunc(f.config.BGPAdvertisements, func(a *config.BGPAdvertisement) bool {
			named := slices.ContainsFunc(d.Advertisements, func(one *bgp.Advertisement) bool {
				return one.Name == a.Name
			})
			return named && a.Reaches(s.Peer)
		})
		if reaches {
			out = append(out, s.Peer+" ("+s.State+")")
		}
	}
	if len(out) == 0 {
		return "no peer"
	}
	return strings.Join(out, ", ")
}

// seenStep says what speakers see of an address on the LAN.
func (f *Facts) seenStep(addr netip.Addr) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Seen on the LAN, " + addr.String(), State: v1alpha1.StepInfo}
	if !f.Has(snapshot.Speakers) {
		step.State, step.Text = v1alpha1.StepUnknown, "the Speaker objects could not be read"
		return step
	}
	for i := range f.Speakers {
		for _, c := range f.Speakers[i].Status.Layer2.Conflicts {
			if c.Address != addr.String() {
				continue
			}
			step.State = v1alpha1.StepProblem
			step.Reason = string(c.Kind.Reason())
			step.Details = append(step.Details, v1alpha1.Detail{
				Subject: f.Speakers[i].Name,
				State:   v1alpha1.StepProblem,
				Reason:  string(c.Kind.Reason()),
				Text:    c.Message,
			})
		}
	}
	step.Text = "no speaker reports another answer than the owner's"
	if len(step.Details) > 0 {
		step.Text = fmt.Sprintf("speakers that report a conflict: %d", len(step.Details))
	}
	return step
}

// AddEvents completes an explanation by the last Events of its subject, at most so many.
func AddEvents(e *v1alpha1.Explanation, events []corev1.Event, most int) {
	var rows []v1alpha1.Event
	for _, ev := range events {
		rows = append(rows, v1alpha1.Event{
			Time:    eventTime(ev),
			Type:    ev.Type,
			Reason:  ev.Reason,
			Object:  strings.ToLower(ev.InvolvedObject.Kind) + "/" + ev.InvolvedObject.Name,
			Message: ev.Message,
			Count:   eventCount(ev),
		})
	}
	slices.SortStableFunc(rows, func(a, b v1alpha1.Event) int { return a.Time.Compare(b.Time.Time) })
	e.Events = rows[max(0, len(rows)-most):]
}

// eventTime returns when an Event was seen last.
func eventTime(e corev1.Event) metav1.Time {
	switch {
	case e.Series != nil:
		return metav1.NewTime(e.Series.LastObservedTime.Time)
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp
	}
	return metav1.NewTime(e.EventTime.Time)
}

func eventCount(e corev1.Event) int32 {
	if e.Series != nil {
		return e.Series.Count
	}
	return e.Count
}

// Wrong reports whether an explanation has a step that is a problem.
func Wrong(e v1alpha1.Explanation) bool {
	return slices.ContainsFunc(e.Steps, func(s v1alpha1.Step) bool { return s.State == v1alpha1.StepProblem })
}
