package speakers

import (
	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/announced"
)

// Trim keeps of a cached Speaker what its node does by BGP, what it says of
// BGPPeers that cannot be in force on it, the addresses of its links, and what
// advertisements ask of nodes. Counts of routes, which change with every Service, are
// not kept.
func Trim(in any) (any, error) {
	s, ok := in.(*v1beta1.Speaker)
	if !ok {
		return in, nil
	}
	s.ManagedFields, s.Annotations, s.Labels = nil, nil, nil
	said := s.Status.BGP
	kept := v1beta1.SpeakerBGP{Count: said.Count, AddressCount: said.AddressCount, Addresses: said.Addresses}
	for _, session := range s.Status.BGP.Sessions {
		short := v1beta1.BGPSession{Peer: session.Peer, Reason: session.Reason, Problem: session.Problem}
		if session.State == v1beta1.BGPEstablished {
			short.State = session.State
			short.Families = announced.FamilyNames(announced.FamiliesOf(session))
		}
		kept.Sessions = append(kept.Sessions, short)
	}
	var links []v1beta1.SpeakerLink
	for _, l := range s.Status.Links {
		links = append(links, v1beta1.SpeakerLink{Name: l.Name, Up: l.Up, Prefixes: l.Prefixes})
	}
	s.Status = v1beta1.SpeakerStatus{
		HasWorked:    s.Status.Worked(),
		ExcludeLabel: s.Status.ExcludeLabel,
		Protocols:    s.Status.Protocols,
		Links:        links,
		BGP:          kept,
	}
	return s, nil
}
