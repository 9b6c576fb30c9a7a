package announced

import (
	"reflect"
	"slices"

	"go4.org/netipx"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// parseSpeaker reads what a Speaker says that its node does by BGP.
func parseSpeaker(s *v1beta1.Speaker) speaker {
	out := speaker{node: s.Name, complete: true}
	switch said := s.Status.BGP; {
	case said.AddressCount == nil && said.Count > 0: // of a version that lists none
		out.complete = false
	case max(len(said.Addresses), len(said.Sessions)) >= v1beta1.MaxSpeakerAnnouncements:
		out.complete = false
	}
	for _, text := range s.Status.BGP.Addresses {
		r, err := config.ParseExcluded(text)
		if err != nil {
			out.complete = false // of another version
			continue
		}
		out.announces = append(out.announces, r)
	}
	slices.SortFunc(out.announces, func(a, b netipx.IPRange) int { return a.From().Compare(b.From()) })
	for _, said := range s.Status.BGP.Sessions {
		if said.State == v1beta1.BGPEstablished {
			out.sessions = append(out.sessions, session{said.Peer, FamiliesOf(said)})
		}
	}
	return out
}

// FamiliesOf returns those of which a session announces routes: not those of which all
// routes are withheld.
func FamiliesOf(s v1beta1.BGPSession) (out bgp.Families) {
	for _, f := range s.Families {
		switch {
		case f == v1beta1.BGPFamilyIPv4 && (s.Withheld == "" || s.AdvertisedIPv4 > 0):
			out |= bgp.IPv4
		case f == v1beta1.BGPFamilyIPv6 && (s.Withheld == "" || s.AdvertisedIPv6 > 0):
			out |= bgp.IPv6
		}
	}
	return out
}

// FamilyNames returns families as the API writes them.
func FamilyNames(families bgp.Families) (out []v1beta1.BGPFamily) {
	for _, f := range families.List() {
		out = append(out, v1beta1.BGPFamily(f.String()))
	}
	return out
}

// Differs reports whether a Speaker says something else than before of what its
// node does by BGP.
func Differs(before, after *v1beta1.Speaker) bool {
	return !reflect.DeepEqual(parseSpeaker(before), parseSpeaker(after))
}
