package presence

import (
	"maps"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// NodeState is all that a speaker publishes of itself and its node.
type NodeState struct {
	Stage announcement.Stage
	Links []links.Link // by name
	// Reports are what it says of other nodes.
	Reports map[string]ProbeReport
	Claims  map[netip.Addr]announcement.Claim
	// ClaimsUnknown is set when there may be more claims than could be read.
	ClaimsUnknown bool
	// Full is set when the node must get no address that it does not claim.
	Full bool
	// IgnoresExclude is set where the exclude label means nothing to the speaker,
	// IgnoresCordon where a cordon means nothing.
	IgnoresExclude bool
	IgnoresCordon  bool
}

// ProbeReport is what a speaker says of another node: of its kernel, and on which of its
// links that answers and is silent.
type ProbeReport struct {
	Kernel          announcement.Report
	Answers, Silent []string
}

// Object is what the API tells of another node's speaker. It counts where the speaker
// itself is not heard.
type Object struct {
	// Peer is where the speaker listens.
	Peer  netip.AddrPort
	State NodeState
	// Complete is set when the claims are all that it has.
	Complete bool
	// Worked is set when a speaker of the node has been ready.
	Worked bool
	// Doubt is what it says of this node, when it does not hear it.
	Doubt string
	// Renewal is the last renewal, by the clock of its writer. SeenAt is when it was
	// first seen, by this node's clock. Renewed is the latest that it may have been
	// made, by this node's clock; zero while that may be any time before this node
	// looked.
	Renewal, SeenAt, Renewed time.Time
}

// UpdateObjects returns the objects that were read now, with what those read before tell
// of when each was renewed.
func UpdateObjects(before, read map[string]Object, now time.Time) map[string]Object {
	out := make(map[string]Object, len(read))
	for name, o := range read {
		last, known := before[name]
		switch {
		case o.Renewal.IsZero(): // it stopped in order, or misses nobody
		case known && last.Renewal.Equal(o.Renewal):
			o.SeenAt, o.Renewed = last.SeenAt, last.Renewed
		default:
			o.SeenAt = now
			if known { // one that was there before we looked proves nothing
				o.Renewed = madeBy(last, o.Renewal, now)
			}
		}
		out[name] = o
	}
	return out
}

// madeBy returns the latest that a renewal may have been made which is seen now. Where
// the API could not be watched for a while it may be an old one, of a node that has died
// since. The clock of its writer tells how long after the renewal before it was; both
// clocks may differ in their speed by one in a thousand, and one that was set back tells
// nothing.
func madeBy(before Object, renewal, now time.Time) time.Time {
	after := renewal.Sub(before.Renewal)
	if before.Renewal.IsZero() || after <= 0 {
		return now
	}
	if made := before.SeenAt.Add(after + after/1000); made.Before(now) {
		return made
	}
	return now
}

// stateArrives is how long what a speaker publishes may take to arrive after the news
// that it is ready. Each entry travels by itself.
const stateArrives = 10 * time.Second

// believed is what is taken for the state of a member.
type believed struct {
	NodeState
	stage stageSince
	// until is when what its object lends to it does not count any more; zero for
	// nothing lent, or for as long as the speaker is not heard.
	until time.Time
}

// believe returns what a member publishes, filled in with what its Speaker object tells
// where it does not publish all yet: when it is not heard, when it starts, and for a
// moment after it has become ready. What has not arrived is unknown, it is not nothing.
func (v view) believe(name string, now time.Time) believed {
	m, object := v.members[name], v.Objects[name]
	silent := !m.Alive || m.State.Stage == "" || m.State.Stage == announcement.StageStarting
	out := believed{NodeState: complete(m, object)}
	out.stage = v.prev.stages[name]
	if _, known := v.prev.stages[name]; !known || out.stage.stage != out.Stage {
		out.stage = stageSince{out.Stage, now}
	}

	if end := later(out.stage.since, m.Since).Add(stateArrives); !silent && end.After(now) {
		filled := withObject(out.NodeState, object, false)
		if len(filled.Claims) > len(out.Claims) || len(filled.Links) > len(out.Links) ||
			filled.IgnoresExclude != out.IgnoresExclude || filled.IgnoresCordon != out.IgnoresCordon {
			out.until = end
		}
		out.NodeState = filled
	}
	// Links that are not known yet are those of before.
	if before, known := v.prev.Members[name]; known && silent && len(out.Links) == 0 {
		out.Links = before.Links
	}
	return out
}

// complete fills in what a member cannot be heard to publish with what its object tells,
// and finds out whether it may own more than is known.
func complete(m Observed, o Object) NodeState {
	s := m.State
	renewed := o.Renewed.After(m.Since)
	switch {
	case m.Unread:
		s.Stage = "" // it published that before it spoke so
		s = withObject(s, o, true)
		if s.Stage == "" {
			s.Stage = "unknown"
		}
		s.ClaimsUnknown = true // the object may be some seconds old
	case !m.Alive && renewed:
		// It has worked since it was heard last.
		s = withObject(s, o, true)
		s.ClaimsUnknown = !o.Complete
	case !m.Alive:
		s = withObject(s, o, false)
		s.ClaimsUnknown = m.Published && (s.ClaimsUnknown || m.Incomplete) || !m.Published && !o.Complete
	default:
		// One that starts does not publish yet what it owns.
		if s.Stage == "" || s.Stage == announcement.StageStarting {
			s = withObject(s, o, renewed)
		}
		s.ClaimsUnknown = s.ClaimsUnknown || m.Incomplete
	}
	return s
}

// withObject fills in what a member does not publish with what its object tells. An
// object that was renewed since the member fell silent is right where both say
// something, as far as it lists everything.
func withObject(s NodeState, o Object, renewed bool) NodeState {
	if s.Stage == "" || renewed && o.State.Stage != "" {
		s.Stage = o.State.Stage
	}
	if len(s.Links) == 0 || renewed {
		s.Links = o.State.Links
	}
	s.IgnoresExclude = s.IgnoresExclude || o.State.IgnoresExclude
	s.IgnoresCordon = s.IgnoresCordon || o.State.IgnoresCordon
	if renewed && o.Complete {
		s.Claims = o.State.Claims
		return s
	}
	s.Claims = HigherClaims(s.Claims, o.State.Claims)
	return s
}

// HigherClaims returns the claims of both, and of an address that both claim that of a
// with its generation or a higher one, else that of b. It changes neither.
func HigherClaims(a, b map[netip.Addr]announcement.Claim) map[netip.Addr]announcement.Claim {
	if len(b) == 0 && a != nil {
		return a
	}
	out := maps.Clone(b)
	for addr, claim := range a {
		if out == nil {
			out = make(map[netip.Addr]announcement.Claim, len(a))
		}
		if claim.Generation >= out[addr].Generation {
			out[addr] = claim
		}
	}
	return out
}
