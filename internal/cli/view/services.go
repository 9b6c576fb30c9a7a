package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// ServiceKinds are the kinds that Services needs.
var ServiceKinds = slices.Concat(snapshot.PlanKinds, []snapshot.Kind{
	snapshot.EndpointSlices, snapshot.Deployments, snapshot.DaemonSets,
})

// mostDecided is for how many addresses that nobody announces one list decides why: that
// takes a look at each node.
const mostDecided = 200

// mostBGPNodes is how many nodes that announce an address by BGP are named.
const mostBGPNodes = 5

// reasonNotAnnounced is the word for an address that no node announces, where why was not
// asked.
const reasonNotAnnounced = "NotAnnounced"

// ServiceRows returns the Services that Berth handles, those that a filter wants.
func (f *Facts) ServiceRows(want Filter) v1alpha1.ServiceList {
	out := v1alpha1.ServiceList{
		TypeMeta: v1alpha1.TypeMeta("ServiceList"),
		ListMeta: f.listMeta(),
		Items:    []v1alpha1.Service{},
	}
	decided := 0
	for _, s := range f.services {
		if !want.wantsService(s.Namespace, s.Name) || !want.labelled(s.Labels) ||
			want.Address.IsValid() && !slices.Contains(s.addresses, want.Address) {
			continue
		}
		row := f.serviceRow(s, &decided)
		if !f.serviceMatches(row, want) || want.Problems && len(row.Problems) == 0 {
			continue
		}
		out.Items = append(out.Items, row)
	}
	return out
}

// listMeta returns what every list says of what is missing in it.
func (f *Facts) listMeta() v1alpha1.ListMeta {
	out := v1alpha1.ListMeta{Unread: f.Unread()}
	if why := f.Settings.ClassUnknown; why != "" {
		out.Remarks = append(out.Remarks, "Services without a loadBalancerClass are taken for Berth's, "+
			"because "+why+"; --load-balancer-class names another.")
	}
	return out
}

// serviceMatches reports whether a Service has to do with the pool, node and peer wanted.
func (f *Facts) serviceMatches(row v1alpha1.Service, want Filter) bool {
	if want.Pool == "" && want.Node == "" && want.Peer == "" {
		return true
	}
	return slices.ContainsFunc(row.Addresses, func(a v1alpha1.ServiceAddress) bool {
		addr, err := netip.ParseAddr(a.Address)
		if err != nil || !is(want.Pool, a.Pool) {
			return false
		}
		if want.Node != "" && !f.announces(want.Node, addr) {
			return false
		}
		return want.Peer == "" || slices.ContainsFunc(f.bgpNodes(addr), func(node string) bool {
			return is(want.Node, node) && f.hasSession(node, want.Peer)
		})
	})
}

// hasSession reports whether a node lists a session with a peer.
func (f *Facts) hasSession(node, peer string) bool {
	s := f.speaker(node)
	return s != nil && slices.ContainsFunc(s.Status.BGP.Sessions, func(b v1beta1.BGPSession) bool {
		return b.Peer == peer
	})
}

// serviceRow returns what becomes of a Service. decided counts the addresses of which it was
// asked why nobody announces them.
func (f *Facts) serviceRow(s *service, decided *int) v1alpha1.Service {
	row := v1alpha1.Service{
		Namespace: s.Namespace,
		Name:      s.Name,
		Created:   s.CreationTimestamp,
		Policy:    string(s.Spec.ExternalTrafficPolicy),
	}
	row.Reason, row.Message = f.assigned(s)
	if row.Reason != string(v1beta1.ReasonAssigned) {
		severity := v1alpha1.Error
		if row.Reason == string(v1beta1.ReasonPartlyAssigned) || row.Reason == Unknown {
			severity = v1alpha1.Warning
		}
		row.Problems = append(row.Problems,
			problem(severity, serviceRef(s), row.Reason, row.Message, explainService(s)))
	}
	for _, addr := range s.addresses {
		a := f.addressRow(s, addr, decided)
		if !announcedWell(a.Reason) {
			severity := v1alpha1.Error
			if a.Reason == Unknown {
				severity = v1alpha1.Warning
			}
			row.Problems = append(row.Problems, problem(severity, serviceRef(s), a.Reason,
				addr.String()+": "+a.Message, explainService(s)))
		}
		row.Addresses = append(row.Addresses, a)
	}
	row.Endpoints = f.endpoints(s)
	return row
}

// announcedWell reports whether a reason says that an address is announced.
func announcedWell(reason string) bool {
	return reason == string(v1beta1.ReasonAnnouncing) || reason == string(v1beta1.ReasonAnnounced)
}

// assigned returns what the controller says of the addresses of a Service; if it has said
// nothing, what it would say.
func (f *Facts) assigned(s *service) (reason, message string) {
	said := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	switch {
	case said != nil:
		return said.Reason, said.Message
	case s.planned != nil && s.planned.Assigned() && len(s.addresses) == 0:
		return reasonNotJudged, "No controller has judged the Service. It would say: " + s.planned.Message
	case s.planned != nil:
		return string(s.planned.Reason), "The controller has not said so yet. " + s.planned.Message
	}
	return Unknown, "The controller has said nothing of the Service, and " + f.notPlanned + "."
}

// addressRow returns what becomes of an address of a Service.
func (f *Facts) addressRow(s *service, addr netip.Addr, decided *int) v1alpha1.ServiceAddress {
	bgp := f.bgpCounts[addr]
	out := v1alpha1.ServiceAddress{
		Address:  addr.String(),
		Pool:     f.poolOf(s, addr),
		Layer2:   f.layer2[addr],
		BGP:      bgp.first,
		BGPCount: bgp.count,
	}
	for _, other := range f.holders[addr] {
		if other != s {
			out.SharedWith = append(out.SharedWith, other.key())
		}
	}
	out.Reason, out.Message = f.announced(s, addr, bgp.count > 0, decided)
	return out
}

// announced says whether an address is announced, by layer 2 or by BGP, or why not.
func (f *Facts) announced(
	s *service, addr netip.Addr, byBGP bool, decided *int,
) (reason, message string) {
	var bgpReason, bgpMessage string
	if said := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionBGPAnnounced); said != nil {
		bgpReason, bgpMessage = said.Reason, said.Message
	}
	if s.planned != nil && s.planned.Announced.Reason != "" {
		bgpReason, bgpMessage = string(s.planned.Announced.Reason), s.planned.Announced.Message
	}
	switch {
	case len(f.layer2[addr]) > 0:
		return string(v1beta1.ReasonAnnouncing), ""
	case byBGP && bgpReason == string(v1beta1.ReasonAnnounced):
		return bgpReason, ""
	case bgpReason != "" && bgpReason != string(v1beta1.ReasonAnnounced):
		return bgpReason, bgpMessage
	case !f.Has(snapshot.Speakers):
		return Unknown, "The Speaker objects could not be read."
	case !f.layer2Complete || !f.bgpComplete:
		return Unknown, "Some Speaker objects have no room to list all that their nodes announce."
	case *decided >= mostDecided:
		return reasonNotAnnounced, "No node announces it."
	}
	*decided++
	if f.speakers == nil {
		return reasonNotAnnounced, "No node announces it, and why is not known: " + f.whyNoSpeakers() + "."
	}
	d, err := f.speakers.Layer2(addr)
	if err != nil {
		return Unknown, err.Error()
	}
	return f.layer2Reason(addr, d)
}

// whyNoSpeakers says why the speakers' decisions are not known.
func (f *Facts) whyNoSpeakers() string {
	needs := slices.Concat(snapshot.ConfigKinds, []snapshot.Kind{
		snapshot.Services, snapshot.EndpointSlices, snapshot.Nodes, snapshot.Speakers,
	})
	return fmt.Sprintf("not all of %s could be read", f.missing(needs...))
}

// layer2Reason says why an address with this decision is not announced by layer 2. The
// decision is one that no node says to have put into practice.
func (f *Facts) layer2Reason(addr netip.Addr, d announcement.Decision) (reason, message string) {
	if d.Owner == "" {
		return string(d.Reason), d.Message
	}
	for i := range f.Speakers {
		for _, c := range f.Speakers[i].Status.Layer2.Conflicts {
			if c.Address == addr.String() {
				return string(c.Kind.Reason()), c.Message
			}
		}
	}
	return reasonNotAnnounced, fmt.Sprintf("Node %s is to announce it and does not say so yet. "+
		"Whether it asks the network first whether the address is free is not known from here.", d.Owner)
}

// endpoints returns the usable endpoints of a Service, nil if they cannot be known.
func (f *Facts) endpoints(s *service) *v1alpha1.Endpoints {
	if f.endpointsOf == nil {
		return nil
	}
	family := netip.IPv4Unspecified()
	if len(s.addresses) > 0 {
		family = s.addresses[0]
	} else if len(s.Spec.IPFamilies) > 0 && s.Spec.IPFamilies[0] == "IPv6" {
		family = netip.IPv6Unspecified()
	}
	parsed := announcement.ParseService(s.Service, f.endpointsOf[s.key()], family)
	out := &v1alpha1.Endpoints{}
	for node, n := range parsed.Endpoints {
		out.Usable += n
		out.Nodes = append(out.Nodes, v1alpha1.NodeCount{Node: node, Count: n})
	}
	if out.Usable == 0 && parsed.Ready {
		out.Usable = 1 // of which no node is named
	}
	slices.SortFunc(out.Nodes, func(a, b v1alpha1.NodeCount) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// serviceCounts counts the Services, and returns what is wrong with them.
func (f *Facts) serviceCounts() (v1alpha1.ServicesState, []v1alpha1.Problem) {
	var out v1alpha1.ServicesState
	var problems []v1alpha1.Problem
	decided := 0
	for _, s := range f.services {
		row := f.serviceRow(s, &decided)
		out.Total++
		known := slices.DeleteFunc(slices.Clone(row.Problems), func(p v1alpha1.Problem) bool {
			return p.Reason == Unknown // status says what could not be read
		})
		if row.Reason == string(v1beta1.ReasonAssigned) {
			out.Assigned++
		}
		switch {
		case len(known) < len(row.Problems):
			out.Unknown++
		case len(known) == 0:
			out.Announced++
		}
		problems = append(problems, f.settled(s, known)...)
	}
	return out, problems
}

// settlePatience is how long what is new may take until it is announced.
const settlePatience = 5 * time.Second

// settled leaves out the problems of a Service that is so new that they are none yet.
func (f *Facts) settled(s *service, problems []v1alpha1.Problem) []v1alpha1.Problem {
	if f.Taken.Sub(s.CreationTimestamp.Time) < settlePatience {
		return nil
	}
	return problems
}
