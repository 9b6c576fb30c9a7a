package presence

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// ParseObject reads what a Speaker object says about its own speaker, and about the given
// node.
func ParseObject(s *v1beta1.Speaker, node string) Object {
	o := Object{Suspicion: SuspicionOf(s, node), Worked: s.Status.Worked()}
	o.NoLayer2 = !s.Status.Announces(v1beta1.ProtocolLayer2)
	o.NoBGP = !s.Status.Announces(v1beta1.ProtocolBGP)
	o.State.Claims = claimsOf(s.Status.Layer2)
	if peer, err := netip.ParseAddrPort(s.Status.MemberAddress); err == nil {
		o.Peer = peer
	}
	o.State.Stage = announcement.Stage(strings.ToLower(string(s.Status.Stage)))
	o.State.IgnoresExclude = s.Status.ExcludeLabel == v1beta1.MarkIgnored
	o.State.IgnoresCordon = s.Status.Cordon == v1beta1.MarkIgnored
	if t := s.Status.RenewTime; t != nil {
		o.Renewal = t.Time
	}
	for _, l := range s.Status.Links {
		if link, err := DecodeLink(l.Name, fieldsOf(l)); err == nil && l.Up {
			o.State.Links = append(o.State.Links, link)
		}
	}
	l2 := s.Status.Layer2
	o.Complete = len(l2.Announcements) == int(l2.Count) && len(l2.Retained) < v1beta1.MaxSpeakerAnnouncements
	return o
}

// fieldsOf returns the published form of a link from its row in a Speaker object.
func fieldsOf(l v1beta1.SpeakerLink) []string {
	fields := []string{l.MACAddress}
	if l.Balances {
		fields = append(fields, MarkBalances)
	}
	if l.OnlyNamed {
		fields = append(fields, MarkOnlyNamed)
	}
	for _, subnet := range l.Shadowed {
		fields = append(fields, MarkShadowed+subnet)
	}
	return append(fields, l.Prefixes...)
}

// claimsOf returns the claims of a node according to its Speaker object.
func claimsOf(l v1beta1.SpeakerLayer2) map[netip.Addr]announcement.Claim {
	out := map[netip.Addr]announcement.Claim{}
	for _, c := range l.Claims() {
		if addr, err := netip.ParseAddr(c.Address); err == nil && c.Generation > 0 {
			out[addr] = announcement.Claim{Generation: uint64(c.Generation)}
		}
	}
	return out
}

// SuspicionOf returns what a speaker lists of a node that it does not hear, or does not
// understand, and that may prove by the API that it works; "" if it hears the node. Each
// new report differs from the one before. If the speaker had no room to list all such
// nodes, the node may be one of them.
func SuspicionOf(s *v1beta1.Speaker, node string) string {
	listed := s.Status.AbsentMembers
	complete := int(s.Status.AbsentCount) <= len(listed)
	for _, m := range listed {
		suspected := IsSuspicion(v1beta1.Reason(m.Reason))
		if m.Name == node && suspected {
			return string(m.Presence) + " since " + m.Since.UTC().Format(time.RFC3339)
		}
		complete = complete || !suspected // a full list leaves these out before any suspicion
	}
	if !complete {
		return "perhaps, beyond the list"
	}
	return ""
}

// IsSuspicion reports whether a member that is absent for this reason may prove by the API that
// it works.
func IsSuspicion(reason v1beta1.Reason) bool {
	switch reason {
	case v1beta1.ReasonNodeHeld, v1beta1.ReasonNodeRenewing, v1beta1.ReasonNodeAssumed,
		v1beta1.ReasonSpeakerNotAlive, v1beta1.ReasonFormatUnknown:
		return true
	}
	return false
}

// Marks in the published form of a link.
const (
	// MarkOnlyNamed: addresses are announced there only where an advertisement names
	// the link.
	MarkOnlyNamed = "only-named"
	// MarkBalances: the link is a bond that answers ARP with the addresses of its ports.
	MarkBalances = "balance-alb"
	// MarkShadowed comes before a subnet to which the node's route leads out of
	// another of its links.
	MarkShadowed = "~"
)

// DecodeLink reads the published form of a link. Speakers publish only links that are
// usable. It leaves out fields that this version does not know.
func DecodeLink(name string, fields []string) (links.Link, error) {
	if len(fields) == 0 {
		return links.Link{}, fmt.Errorf("link %s: nothing is published of it", name)
	}
	mac, err := net.ParseMAC(fields[0])
	if err != nil {
		return links.Link{}, fmt.Errorf("link %s: %w", name, err)
	}
	l := links.Link{Name: name, HardwareAddr: mac, Up: true, Broadcast: true}
	for _, field := range fields[1:] {
		text, isShadowed := strings.CutPrefix(field, MarkShadowed)
		p, err := netip.ParsePrefix(text)
		switch {
		case field == MarkOnlyNamed:
			l.Excluded = true
		case field == MarkBalances:
			l.Balances = true
		case err != nil || max(len(l.Prefixes), len(l.Shadowed)) == v1beta1.MaxLinkPrefixes:
		case isShadowed:
			l.Shadowed = append(l.Shadowed, p)
		default:
			l.Prefixes = append(l.Prefixes, p)
		}
	}
	return l, nil
}
