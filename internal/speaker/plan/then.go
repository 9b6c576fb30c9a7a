package plan

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// Fate is what becomes of nodes, besides what their objects say.
type Fate struct {
	// Failed are nodes that have died: neither their kernel nor their speaker answers.
	Failed []string
	// Added are new nodes with a speaker that works. Each has the links of another one, by
	// name.
	Added map[string]string
}

// Then returns the plan after the objects have become those of in, except for Speakers: what
// these say of themselves and claim stays what it was, but for the fate of nodes. A node
// that is no longer there has no speaker either. The former plan stays as it is.
func (p *Plan) Then(in Snapshot, fate Fate, now time.Time) *Plan {
	out := read(in, now)
	out.claims = p.claims
	out.speakers = maps.Clone(p.speakers)
	for name := range p.speakers {
		_, was := p.byName[name]
		if _, is := out.byName[name]; was && !is {
			delete(out.speakers, name)
		}
	}
	for _, name := range fate.Failed {
		s := out.speakers[name]
		s.Presence, s.Reason, s.Heard = announcement.Gone, v1beta1.ReasonNodeSilent, false
		out.speakers[name] = s
	}
	for name, like := range fate.Added {
		model := p.speakers[like]
		out.speakers[name] = announcement.Speaker{
			Presence:       announcement.Present,
			Reason:         v1beta1.ReasonNodePresent,
			Links:          model.Links,
			Heard:          true,
			Worked:         true,
			NoLayer2:       model.NoLayer2,
			NoBGP:          model.NoBGP,
			IgnoresExclude: model.IgnoresExclude,
			IgnoresCordon:  model.IgnoresCordon,
		}
	}
	out.unheard = announcement.Unheard{}.Next(out.nodes, out.speakers, now)
	return out
}

// Sessions returns Speakers that list the sessions which this plan gives their nodes, each
// with what the configuration says is wrong with it. That a password is missing only a
// speaker knows: where one says so, that stays.
func (p *Plan) Sessions(speakers []v1beta1.Speaker) []v1beta1.Speaker {
	out := slices.Clone(speakers)
	for i := range out {
		s := &out[i]
		listed := map[string]v1beta1.BGPSession{}
		for _, session := range s.Status.BGP.Sessions {
			listed[session.Peer] = session
		}
		s.Status.BGP.Sessions = nil
		node, known := p.byName[s.Name]
		if !known || p.speakers[s.Name].NoBGP {
			continue
		}
		for _, peer := range p.config.PeersOn(node) {
			session := v1beta1.BGPSession{Peer: peer.Name, State: v1beta1.BGPConnecting}
			had := listed[peer.Name]
			reason, message := peer.Lacking()
			if reason == "" && had.Reason == string(v1beta1.ReasonSecretNotFound) {
				reason, message = v1beta1.ReasonSecretNotFound, had.Problem
			}
			switch {
			case !peer.InForce():
				session.State = v1beta1.BGPNotConfigured
			case had.State != "":
				session.State, session.Families = had.State, had.Families
			}
			session.Reason, session.Problem = string(reason), message
			s.Status.BGP.Sessions = append(s.Status.BGP.Sessions, session)
		}
		slices.SortFunc(s.Status.BGP.Sessions, func(a, b v1beta1.BGPSession) int {
			return cmp.Compare(a.Peer, b.Peer)
		})
	}
	return out
}
