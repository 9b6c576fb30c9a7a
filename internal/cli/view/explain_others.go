package view

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cluster"
	speakerplan "github.com/berth-lb/berth/internal/speaker/plan"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// ExplainAddress explains who has an address, or why nobody can have it.
func (f *Facts) ExplainAddress(addr netip.Addr) (v1alpha1.Explanation, error) {
	e := f.explain(addr.String())
	e.add(f.poolStep(addr))
	holders := f.holders[addr]
	if len(holders) > 0 {
		step := v1alpha1.Step{Title: "Held by", State: v1alpha1.StepOK}
		var names []string
		for _, s := range holders {
			names = append(names, s.key())
		}
		step.Text = strings.Join(names, ", ")
		if len(holders) > 1 {
			step.Text += " (they share it)"
		}
		e.add(step)
		e.add(f.layer2Step(addr))
		e.add(f.bgpStep(holders[0], addr))
		e.add(f.seenStep(addr))
		e.Summary = fmt.Sprintf("%s is held by %s.", addr, step.Text)
		return e.Explanation, nil
	}
	step, err := f.askStep(addr)
	if err != nil {
		return v1alpha1.Explanation{}, err
	}
	e.add(step)
	e.add(f.seenStep(addr))
	e.Summary = fmt.Sprintf("%s is held by nobody. %s", addr, step.Text)
	if pool := e.Steps[0]; pool.Reason == string(v1beta1.ReasonNodeAddress) {
		e.Summary = fmt.Sprintf("%s is a node's own: %s.", addr, pool.Text)
	}
	return e.Explanation, nil
}

// poolStep says in which pool an address is.
func (f *Facts) poolStep(addr netip.Addr) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Pool", State: v1alpha1.StepUnknown}
	if f.config == nil {
		step.Text = "not known: not all of " + f.missing(snapshot.ConfigKinds...) + " could be read"
		return step
	}
	if p := f.config.PoolOf(addr); p != nil {
		step.State, step.Text = v1alpha1.StepOK, p.Name
		return step
	}
	step.State, step.Reason = v1alpha1.StepInfo, string(v1beta1.ReasonNoPool)
	step.Text = "no pool contains it"
	if a, ok := f.config.OfNode(addr); ok {
		step.Reason, step.Text = string(v1beta1.ReasonNodeAddress), "no pool contains it, and "+a.String()
	}
	if pool, entry := f.excludedBy(addr); pool != "" {
		step.Text = fmt.Sprintf("pool %s lists it, and excludes it by entry %s of spec.exclude", pool, entry)
	}
	return step
}

// askStep says whether a Service could have an address that nobody has.
func (f *Facts) askStep(addr netip.Addr) (v1alpha1.Step, error) {
	step := v1alpha1.Step{Title: "Can be had", State: v1alpha1.StepUnknown}
	if f.planned == nil {
		step.Text = "not known: " + f.notPlanned
		return step, nil
	}
	for i := range f.Services {
		if s := &f.Services[i]; slices.Contains(assignment.StatusAddresses(s), addr) {
			step.State = v1alpha1.StepInfo
			step.Text = fmt.Sprintf("Service %s/%s has it, which Berth does not handle.", s.Namespace, s.Name)
			return step, nil
		}
	}
	d, err := f.planned.Ask(addr)
	if err != nil {
		return step, fmt.Errorf("ask for %s: %w", addr, err)
	}
	step.State, step.Reason = v1alpha1.StepInfo, string(d.Reason)
	step.Text = "A Service that asks for it is told: " + d.Message
	if d.Assigned() {
		step.State = v1alpha1.StepOK
		step.Text = "A Service that asks for it gets it, unless it was released less than reuseDelay ago: " +
			"that is not known from here."
	}
	return step, nil
}

// ExplainPool explains what becomes of a pool; ok is false if there is none of that name.
func (f *Facts) ExplainPool(name string) (out v1alpha1.Explanation, ok bool) {
	p := f.poolByName(name)
	if p == nil {
		return out, false
	}
	row := f.poolRow(p)
	row.Services = f.holdings()[name]
	e := f.explain("pool " + name)
	e.add(v1alpha1.Step{
		Title:  "In force",
		State:  stateOf(row.Reason == string(v1beta1.ReasonAccepted)),
		Reason: row.Reason,
		Text:   row.Message,
	})
	e.add(useStep(row))
	e.add(f.givenToStep(p, row))
	ads := v1alpha1.Step{Title: "Announced by", State: v1alpha1.StepOK, Text: tellAdvertisements(row)}
	if ads.Text == "" {
		ads.State, ads.Reason = v1alpha1.StepProblem, string(v1beta1.ReasonNoAdvertisement)
		ads.Text = "no L2Advertisement and no BGPAdvertisement selects it"
	}
	e.add(ads)
	e.Summary = fmt.Sprintf("Pool %s is %s; Services that hold addresses of it: "+
		"%d.", name, row.Reason, len(row.Services))
	return e.Explanation, true
}

func tellAdvertisements(row v1alpha1.Pool) string {
	var out []string
	for _, name := range row.L2Advertisements {
		out = append(out, "L2Advertisement "+name)
	}
	for _, name := range row.BGPAdvertisements {
		out = append(out, "BGPAdvertisement "+name)
	}
	return strings.Join(out, ", ")
}

// useStep says how full a pool is.
func useStep(row v1alpha1.Pool) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Addresses", State: v1alpha1.StepOK, Text: strings.Join(row.Ranges, ", ")}
	if len(row.Exclude) > 0 {
		step.Text += " without " + strings.Join(row.Exclude, ", ")
	}
	for _, family := range []struct {
		name string
		size *v1alpha1.PoolSize
	}{{"IPv4", row.IPv4}, {"IPv6", row.IPv6}} {
		s := family.size
		if s == nil {
			continue
		}
		detail := v1alpha1.Detail{
			Subject: family.name,
			State:   v1alpha1.StepOK,
			Text: fmt.Sprintf("%d of %d assigned, %d free, %d resting, %d excluded",
				s.Assigned, s.Size, s.Free, s.Resting, s.Excluded),
		}
		if s.Free == 0 {
			detail.State, detail.Reason = v1alpha1.StepInfo, string(v1beta1.ReasonPoolFull)
		}
		step.Details = append(step.Details, detail)
	}
	if row.OutOfRange > 0 {
		step.Details = append(step.Details, v1alpha1.Detail{
			Subject: "out of range",
			State:   v1alpha1.StepInfo,
			Reason:  string(v1beta1.ReasonHeldOutside),
			Text:    fmt.Sprintf("%d held addresses that the pool no longer contains", row.OutOfRange),
		})
	}
	return step
}

// mostHoldings is how many Services an explanation of a pool names.
const mostHoldings = 20

// givenToStep says whom a pool is for, and who has what of it.
func (f *Facts) givenToStep(p *v1beta1.IPAddressPool, row v1alpha1.Pool) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Given to", State: v1alpha1.StepOK, Text: "every Service"}
	switch {
	case p.Spec.Drain:
		step.State, step.Reason = v1alpha1.StepInfo, string(v1beta1.ReasonPoolDraining)
		step.Text = "nobody any more: drain is true"
	case p.Spec.ServiceAllocation != nil:
		step.Text = "the Services that serviceAllocation selects"
	case p.Spec.AutoAssign != nil && !*p.Spec.AutoAssign:
		step.State, step.Reason = v1alpha1.StepInfo, string(v1beta1.ReasonAutoAssignFalse)
		step.Text = "Services that ask for it by name"
	}
	if row.Quota > 0 {
		step.Text += fmt.Sprintf(", %d addresses for each namespace at most", row.Quota)
	}
	for i, h := range row.Services {
		if i == mostHoldings {
			step.Details = append(step.Details, v1alpha1.Detail{
				Subject: "...",
				State:   v1alpha1.StepInfo,
				Text:    fmt.Sprintf("and %d more Services", len(row.Services)-i),
			})
			break
		}
		step.Details = append(step.Details, v1alpha1.Detail{
			Subject: h.Service,
			State:   v1alpha1.StepOK,
			Text:    strings.Join(h.Addresses, ", "),
		})
	}
	return step
}

// ExplainNode explains what becomes of a node; ok is false if there is neither a Node nor a
// Speaker of that name.
func (f *Facts) ExplainNode(name string) (out v1alpha1.Explanation, ok bool) {
	s, n := f.speaker(name), f.node(name)
	if s == nil && n == nil {
		return out, false
	}
	row := f.nodeRow(name)
	e := f.explain("node " + name)
	e.add(speakerStep(row, s))
	e.add(f.presenceStep(name))
	marks := v1alpha1.Step{Title: "Marks", State: v1alpha1.StepOK, Text: "neither cordoned nor excluded"}
	if len(row.Marks) > 0 {
		marks.State, marks.Text = v1alpha1.StepInfo, strings.Join(row.Marks, ", ")
	}
	e.add(marks)
	if s != nil {
		e.add(linkStep(row))
		e.add(f.ownedStep(s))
		e.add(f.sessionStep(f.sessionsOf(s), func(r v1alpha1.Session) string { return r.Peer }))
	}
	e.Summary = fmt.Sprintf("Node %s: speaker %s, addresses owned: %d, BGP sessions established: %d of %d.",
		name, row.Reason, row.Owned, row.BGP.Up, row.BGP.Sessions)
	return e.Explanation, true
}

func speakerStep(row v1alpha1.Node, s *v1beta1.Speaker) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Speaker", State: v1alpha1.StepOK, Reason: row.Reason, Text: row.Message}
	if len(row.Problems) > 0 {
		step.State = v1alpha1.StepProblem
	}
	switch {
	case s == nil && row.Reason == Unknown:
		step.State, step.Text = v1alpha1.StepUnknown, "the Speaker objects could not be read"
	case s == nil:
		step.Text = "the node has no Speaker object"
	}
	for _, p := range row.Problems {
		step.Details = append(step.Details, v1alpha1.Detail{
			Subject: string(p.Severity),
			State:   v1alpha1.StepProblem,
			Reason:  p.Reason,
			Text:    p.Message,
		})
	}
	return step
}

// presenceStep says how the other speakers see a node.
func (f *Facts) presenceStep(name string) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Seen by the other speakers", State: v1alpha1.StepOK, Text: "as present"}
	if !f.Has(snapshot.Speakers) {
		step.State, step.Text = v1alpha1.StepUnknown, "the Speaker objects could not be read"
		return step
	}
	if r, absent := f.reports[name]; absent {
		step.State, step.Reason = v1alpha1.StepProblem, string(r.Reason)
		step.Text = fmt.Sprintf("as %s since %s by %s",
			r.Presence, Ago(r.Since.Time, f.Taken), firstNamed(r.By))
	}
	return step
}

func linkStep(row v1alpha1.Node) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Links", State: v1alpha1.StepOK}
	step.Text = fmt.Sprintf("that may carry announcements: %d", len(row.Links))
	for _, l := range row.Links {
		detail := v1alpha1.Detail{
			Subject: l.Name,
			State:   v1alpha1.StepOK,
			Text:    strings.Join(l.Prefixes, ", "),
		}
		switch {
		case !l.Up:
			detail.State, detail.Text = v1alpha1.StepInfo, "down"
		case l.Problem != "":
			detail.State, detail.Text = v1alpha1.StepProblem, l.Problem
		}
		step.Details = append(step.Details, detail)
	}
	return step
}

// ownedStep says what a node answers for, and who would if it died.
func (f *Facts) ownedStep(s *v1beta1.Speaker) v1alpha1.Step {
	l2 := s.Status.Layer2
	step := v1alpha1.Step{Title: "Layer 2", State: v1alpha1.StepOK}
	step.Text = fmt.Sprintf("addresses that it owns: %d, for which it stands in: "+
		"%d", l2.Owned, l2.Count-l2.Owned)
	for i, a := range l2.Announcements {
		addr, err := netip.ParseAddr(a.Address)
		if err != nil || i >= mostHoldings {
			continue
		}
		detail := v1alpha1.Detail{
			Subject: a.Address,
			State:   v1alpha1.StepOK,
			Text:    strings.Join(a.Services, ", ") + " on " + strings.Join(a.Links, ", "),
		}
		switch {
		case a.StandInFor != "":
			detail.Text += ", in the place of " + a.StandInFor
		case f.speakers != nil:
			detail.Text += "; if " + s.Name + " died: " + f.successor(addr, s.Name).Text
		}
		step.Details = append(step.Details, detail)
	}
	if more := int(l2.Count) - min(mostHoldings, len(l2.Announcements)); more > 0 {
		step.Details = append(step.Details, v1alpha1.Detail{
			Subject: "...",
			State:   v1alpha1.StepInfo,
			Text:    fmt.Sprintf("and %d more addresses", more),
		})
	}
	return step
}

// sessionStep says how sessions are; name says which node or peer each is with.
func (f *Facts) sessionStep(
	sessions []v1alpha1.Session, name func(v1alpha1.Session) string,
) v1alpha1.Step {
	step := v1alpha1.Step{Title: "BGP sessions", State: v1alpha1.StepOK}
	up := 0
	for _, s := range sessions {
		detail := v1alpha1.Detail{Subject: name(s), State: v1alpha1.StepOK, Reason: s.State}
		detail.Text = fmt.Sprintf("since %s, %d IPv4 and %d IPv6 prefixes",
			Ago(s.Since.Time, f.Taken), s.AdvertisedIPv4, s.AdvertisedIPv6)
		if s.State == string(v1beta1.BGPEstablished) {
			up++
		}
		if s.BFD != nil {
			detail.Text += ", BFD " + s.BFD.State
		}
		if len(s.Problems) > 0 {
			step.State, detail.State = v1alpha1.StepProblem, v1alpha1.StepProblem
			detail.Text = s.Problems[0].Message
		}
		step.Details = append(step.Details, detail)
	}
	step.Text = fmt.Sprintf("%d of %d established", up, len(sessions))
	return step
}

// ExplainPeer explains what becomes of a BGPPeer; ok is false if there is none of that name.
func (f *Facts) ExplainPeer(name string) (out v1alpha1.Explanation, ok bool) {
	i := slices.IndexFunc(f.BGPPeers, func(p v1beta1.BGPPeer) bool { return p.Name == name })
	if i < 0 {
		return out, false
	}
	p := &f.BGPPeers[i]
	e := f.explain("bgppeer " + name)
	reason, message := f.readiness(config.KindBGPPeer, p.ObjectMeta, p.Status.Conditions)
	e.add(v1alpha1.Step{
		Title:  "In force",
		State:  stateOf(reason == string(v1beta1.ReasonAccepted)),
		Reason: reason,
		Text:   message,
	})
	e.add(f.selectedStep(name))
	sessions := f.SessionRows(Filter{Peer: name}).Items
	step := f.sessionStep(sessions, func(r v1alpha1.Session) string { return r.Node })
	if !f.Has(snapshot.Speakers) {
		step = v1alpha1.Step{
			Title: step.Title,
			State: v1alpha1.StepUnknown,
			Text:  "the Speaker objects could not be read",
		}
	}
	e.add(step)
	e.add(f.announcedToStep(name))
	e.Summary = fmt.Sprintf("BGPPeer %s: %s sessions.", name, step.Text)
	return e.Explanation, true
}

// selectedStep says which nodes a peer selects, and which of them cannot have a session.
func (f *Facts) selectedStep(peer string) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Nodes", State: v1alpha1.StepUnknown}
	if f.config == nil || !f.Has(snapshot.Nodes) {
		step.Text = "not known: not all of " +
			f.missing(append(slices.Clone(snapshot.ConfigKinds), snapshot.Nodes)...) + " could be read"
		return step
	}
	selected := 0
	for i := range f.Nodes {
		for _, p := range f.config.PeersOn(cluster.ParseNode(&f.Nodes[i])) {
			if p.Name != peer {
				continue
			}
			selected++
			if why := noSession(p); why != "" {
				step.Details = append(step.Details, v1alpha1.Detail{
					Subject: f.Nodes[i].Name,
					State:   v1alpha1.StepProblem,
					Text:    why,
				})
			}
		}
	}
	step.State = stateOf(selected > 0 && len(step.Details) == 0)
	step.Text = fmt.Sprintf("%d of %d nodes are selected", selected, len(f.Nodes))
	if selected == 0 {
		step.Reason = string(v1beta1.ReasonNoNodeSelected)
	}
	return step
}

// announcedToStep says which advertisements announce routes to a peer.
func (f *Facts) announcedToStep(peer string) v1alpha1.Step {
	step := v1alpha1.Step{Title: "Announced to it", State: v1alpha1.StepUnknown}
	if f.config == nil {
		step.Text = "not known: not all of " + f.missing(snapshot.ConfigKinds...) + " could be read"
		return step
	}
	var names []string
	for _, a := range f.config.BGPAdvertisements {
		if a.Reaches(peer) {
			names = append(names, a.Name)
		}
	}
	step.State = v1alpha1.StepOK
	step.Text = "by BGPAdvertisement " + strings.Join(names, ", ") + "; kubectl berth routes --peer " + peer
	if len(names) == 0 {
		step.State, step.Text = v1alpha1.StepInfo, "no BGPAdvertisement reaches it: it is announced nothing"
	}
	return step
}

// HolderOf returns the first Service that has an address; its name is "" if there is none.
func (f *Facts) HolderOf(addr netip.Addr) v1alpha1.Ref {
	if holders := f.holders[addr]; len(holders) > 0 {
		return serviceRef(holders[0])
	}
	return v1alpha1.Ref{}
}

// firstNamed names the first of many, and says how many more there are.
func firstNamed(names []string) string {
	if len(names) <= mostNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), len(names)-mostNamed)
}

// seenBy says how others see the speaker of a node.
func seenBy(r speakerplan.Report) string {
	return fmt.Sprintf("Speakers of other nodes see the node as %s: %s", r.Presence, firstNamed(r.By))
}
