package presence

import (
	"maps"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// NodeState is all that a speaker publishes about itself and its node.
type NodeState struct {
	Stage announcement.Stage
	Links []links.Link // by name
	// Reports are its reports about other nodes.
	Reports map[string]ProbeReport
	// Claims are replaced, never changed.
	Claims map[netip.Addr]announcement.Claim
	// ClaimsUnknown is set if there may be claims that could not be read.
	ClaimsUnknown bool
	// Full is set if the node must get no address that it does not claim.
	Full bool
	// IgnoresExclude is set if the speaker ignores the exclude label, IgnoresCordon if it
	// ignores a cordon.
	IgnoresExclude bool
	IgnoresCordon  bool
}

// ProbeReport is a speaker's report about another node: about its kernel, and on which
// links that answers or is silent.
type ProbeReport struct {
	Kernel          announcement.Report
	Answers, Silent []string
}

// Object is what the Speaker object of another node says. It counts where the speaker
// itself is not heard.
type Object struct {
	// Peer is where the speaker listens.
	Peer  netip.AddrPort
	State NodeState
	// Complete is set if Claims has all that the node claims.
	Complete bool
	// Worked is set if a speaker of the node has been ready.
	Worked bool
	// NoLayer2 is set if its settings turn layer 2 off, NoBGP if they turn BGP off.
	NoLayer2, NoBGP bool
	// Suspicion is what it reports of this node while it does not hear it; else empty.
	Suspicion string
	// Renewal is the last renewal, by the clock of its writer. SeenAt is when it was first
	// seen, by this node's clock. Renewed is the latest time at which it can have been
	// made, by this node's clock; zero while that may be any time before this node read it.
	Renewal, SeenAt, Renewed time.Time
}

// UpdateObjects returns the objects in read, with the times of their renewals, which follow
// from those in before.
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

// madeBy returns the latest time at which a renewal that is seen now can have been made. If
// the watch was broken for a while, it may be an old one, of a node that has died since.
// The clock of its writer says how long after the previous renewal it was made; the speeds
// of the two clocks may differ by one in a thousand, and a clock that was set back says
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

// stateArrives is how long the entries of a speaker may take to arrive after the news that
// it is ready. Each entry travels by itself.
const stateArrives = 10 * time.Second

// believed is the state that is assumed of a member.
type believed struct {
	NodeState
	stage stageSince
	// until is when what comes from its object no longer counts; zero if nothing does, or
	// for as long as the speaker is not heard.
	until time.Time
}

// believe returns what a member publishes, completed from its Speaker object while it does
// not publish all yet: when it is not heard, when it starts, and for a moment after it has
// become ready. An entry that has not arrived is unknown, not empty.
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
	// While its links are not known yet, those of before count.
	if before, known := v.prev.Members[name]; known && silent && len(out.Links) == 0 {
		out.Links = before.Links
	}
	return out
}

// complete returns the state of a member, completed from its object where nothing is heard,
// and with ClaimsUnknown set if the member may own more than is known.
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

// withObject completes what a member publishes from its object. If the object was renewed
// after the member fell silent, the object wins where both say something, as far as it
// lists everything.
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

// HigherClaims returns the claims of a and b. For an address in both it returns the claim
// with the higher generation, and a's if they are equal. It changes neither.
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
