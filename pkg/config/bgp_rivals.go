package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

// A router has one session for each pair of addresses (RFC 4271, 6.8). Of several
// BGPPeers that would have the same one on a node, the oldest has it, of the same
// age the one whose name is first; also while its password is missing. The others
// are not in force on that node: each would end the session of the other for ever.

// PeerOn is what a BGPPeer is on one node that it selects.
type PeerOn struct {
	*BGPPeer
	// Peer is the peer as the node needs it. It is the zero Peer when Err says what the node
	// lacks, or that the password is missing.
	Peer bgp.Peer
	Err  error
	// Rival is the older BGPPeer that has the session, nil for none.
	Rival *BGPPeer
}

// InForce reports whether the node has a session with the peer, as far as the
// configuration says.
func (p PeerOn) InForce() bool { return p.Rival == nil && p.Err == nil }

// Lacking returns the reason and the message for which the peer is not in force as written
// on the node; the reason is "" if it is.
func (p PeerOn) Lacking() (v1beta1.Reason, string) {
	switch {
	case p.Rival != nil:
		return v1beta1.ReasonConflicting, p.Conflicting(p.Rival).Message
	case errors.Is(p.Err, ErrNoPassword):
		return v1beta1.ReasonSecretNotFound, p.Err.Error()
	case p.Err != nil:
		return v1beta1.ReasonNotConfigured, p.Err.Error()
	case p.Problem != "":
		return v1beta1.ReasonSecretNotFound, p.Problem
	}
	return "", ""
}

// PeersOn returns the BGPPeers that select a node, sorted by name.
func (c *Config) PeersOn(n Node) []PeerOn {
	byAge := slices.Clone(c.BGPPeers)
	slices.SortFunc(byAge, compareAge)
	var out []PeerOn
	sessions := map[ends]*BGPPeer{} // who has them
	for _, p := range byAge {
		if !p.SelectsNode(n.Labels) {
			continue
		}
		one := PeerOn{BGPPeer: p}
		peer, err := p.on(n)
		if err == nil {
			at := endsOf(peer)
			if one.Rival = sessions[at]; one.Rival == nil {
				sessions[at] = p
			}
		}
		one.Peer, one.Err = p.For(n)
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b PeerOn) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// compareAge orders peers, older first.
func compareAge(a, b *BGPPeer) int {
	return cmp.Or(
		a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time),
		cmp.Compare(a.Name, b.Name),
	)
}

// ends are the two ends of a session. A source that is not given is not known
// here: it is the routing table's.
type ends struct {
	address, source netip.Addr
	link, vrf       string
	port            uint16 // the router's; who waits for it to connect means the usual one
}

func endsOf(p bgp.Peer) ends {
	out := ends{p.Address, p.Source, p.Interface, p.VRF, p.Port}
	if p.Passive {
		out.port = DefaultPeerPort
	}
	return out
}

// findRivals finds for each peer the older one that certainly has its session on
// every node that it selects, whatever labels nodes have.
func (c *Config) findRivals() {
	byAge := slices.Clone(c.BGPPeers)
	slices.SortFunc(byAge, compareAge)
	for i, p := range byAge {
		for _, older := range byAge[:i] {
			if older.rival == nil && older.covers(p) {
				p.rival = older
				break
			}
		}
	}
}

// covers reports whether p certainly has the session of other wherever other would.
func (p *BGPPeer) covers(other *BGPPeer) bool {
	return endsOf(p.peer) == endsOf(other.peer) &&
		p.perNode["peerAddress"] == other.perNode["peerAddress"] &&
		p.perNode["sourceAddress"] == other.perNode["sourceAddress"] &&
		(len(p.Nodes) == 0 || slices.Equal(p.selectorTexts(), other.selectorTexts()))
}

func (p *BGPPeer) selectorTexts() []string {
	var out []string
	for _, s := range p.Nodes {
		out = append(out, s.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Conflicting returns the problem of a peer whose session an older one has.
func (p *BGPPeer) Conflicting(older *BGPPeer) Problem {
	return Problem{KindBGPPeer, p.Name, v1beta1.ReasonConflicting, fmt.Sprintf(
		"BGPPeer %s is older and has the session with this router, which has one for each pair of "+
			"addresses. This one is not in force. Delete one of them, have them select different nodes, "+
			"or give one of them another sourceAddress.", older.Name)}
}
