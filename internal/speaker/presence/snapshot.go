// Package presence decides which other speakers are there, as a pure function: [Next] makes
// the next snapshot from the previous one, what was observed since, and the time. Package
// members observes, and publishes what this node sees.
package presence

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Snapshot is what this node knows of the other speakers at one moment. It is replaced,
// never changed. The zero Snapshot knows nobody.
type Snapshot struct {
	// Members are the other speakers, by node.
	Members map[string]Member
	// Claims are the claims of the other speakers, by address and node.
	Claims map[netip.Addr]map[string]announcement.Claim
	// SilentLinks are the links of this node on which its kernel does not answer its
	// witnesses.
	SilentLinks []string
	// Alive counts the speakers that membership sees alive, this one included.
	Alive int
	// Absent are the members that this node reports as absent, by name. AbsentDue is when
	// there may be more; zero for never.
	Absent    []Absent
	AbsentDue time.Time
	// Minority is set when that is less than half of those there are.
	Minority bool
	// Recheck is when the snapshot may change by itself; zero for never.
	Recheck time.Time

	// ClaimsChanged are the addresses whose claims differ from the snapshot before,
	// sorted. MembersChanged is set when anything else differs that a decision for an
	// address may depend on.
	ClaimsChanged  []netip.Addr
	MembersChanged bool
	// AbsentChanged is set when Absent differs from that of the snapshot before.
	AbsentChanged bool

	// owned are the claims by node, stages what is known of the stages of members.
	owned  map[string]map[netip.Addr]announcement.Claim
	stages map[string]stageSince
	// witnesses are those of all nodes, this one included.
	witnesses witnesses
}

// Member is one other node's speaker.
type Member struct {
	announcement.Speaker
	// Since is when it came to its presence, LastSeen when its kernel last answered
	// this node's probes; zero when it never did.
	Since    time.Time
	LastSeen time.Time
	// Unread is set while it is alive and publishes in a format that this version does not
	// read.
	Unread bool
	// Expected is set if it has announced that it comes back.
	Expected bool
	// Peer is its member address according to its object; the zero Addr if there is none.
	Peer netip.Addr
}

// stageSince is a stage and since when it is known.
type stageSince struct {
	stage announcement.Stage
	since time.Time
}

// Observations are what this node learns about the others from membership, its own probes
// and pings, and the API. Next does not change them.
type Observations struct {
	// Node is this node. Grace has the grace periods of other nodes.
	Node  string
	Grace announcement.GracePeriods
	// OwnLinks are the links of this node, as it publishes them.
	OwnLinks []links.Link
	// Members are all that membership knows, this node included.
	Members []Observed
	// Objects are the Speaker objects of other nodes, by node.
	Objects map[string]Object
	// Reach and LinkReach are the results of this node's probes, Pings those of its pings,
	// by node.
	Reach     map[string]Reach
	LinkReach LinkReach
	Pings     map[string]Ping
	// DisconnectedUntil is when this node could see others again, after it could not.
	// Members that it missed meanwhile count as missing only from then on, so this node
	// takes nothing over because of its own blindness.
	DisconnectedUntil time.Time
	// API and Others are when this node last had complete news from the API server and from
	// other speakers.
	API, Others time.Time
}

// Observed is what membership knows of one member.
type Observed struct {
	Name string
	// Alive is set while membership sees it alive, Left if it sent a leave notice. Since is
	// when that became so.
	Alive, Left bool
	Since       time.Time
	// State is what it publishes, as far as it has arrived. Published is set if any of it
	// has, Incomplete if not all has.
	State      NodeState
	Published  bool
	Incomplete bool
	// Unread is set if it is alive and publishes in a format that this version does not
	// read. Its State is from before.
	Unread bool
}

// Next returns the snapshot after prev, for what is observed now.
func Next(prev Snapshot, obs Observations, now time.Time) Snapshot {
	v := gather(prev, obs)
	out := Snapshot{
		Members: make(map[string]Member, len(v.all)),
		Alive:   len(v.alive),
		owned:   map[string]map[netip.Addr]announcement.Claim{},
		stages:  make(map[string]stageSince, len(v.all)),

		witnesses: v.witnesses,
	}

	for _, name := range v.all {
		known := v.believe(name, now)
		member, until := v.assess(name, known, now)
		out.Members[name] = member
		out.stages[name] = known.stage
		if len(known.Claims) > 0 {
			out.owned[name] = known.Claims
		}
		out.recheckAt(known.until)
		out.recheckAt(until)
	}
	out.SilentLinks = silentLinks(v.reports(obs.Node))
	objects := sets.KeySet(obs.Objects)
	out.Minority = 2*out.Alive < 1+len(objects.Delete(obs.Node))

	out.Absent, out.AbsentDue = v.absent(out.Members, now)
	out.AbsentChanged = !slices.Equal(prev.Absent, out.Absent)

	out.Claims, out.ClaimsChanged = changedClaims(prev, out.owned)
	out.MembersChanged = prev.Minority != out.Minority || prev.Alive != out.Alive ||
		!slices.Equal(prev.SilentLinks, out.SilentLinks) ||
		!maps.EqualFunc(prev.Members, out.Members, func(a, b Member) bool {
			return a.Speaker.Equal(b.Speaker)
		})
	return out
}

// view is what one call of Next sees.
type view struct {
	Observations
	prev    Snapshot
	all     []string // other nodes, sorted
	alive   []string // nodes whose speaker is alive, this one included, sorted
	members map[string]Observed

	witnesses witnesses
}

func gather(prev Snapshot, obs Observations) view {
	v := view{Observations: obs, prev: prev, members: make(map[string]Observed, len(obs.Members))}
	for _, m := range obs.Members {
		v.members[m.Name] = m
		if m.Alive {
			v.alive = append(v.alive, m.Name)
		}
	}
	slices.Sort(v.alive)
	v.all = sets.List(sets.KeySet(v.members).Union(sets.KeySet(obs.Objects)).Delete(obs.Node))
	v.witnesses = prev.witnesses.next(append(slices.Clip(v.all), obs.Node), v.alive)
	return v
}

// assess returns what to expect of a member, and when that may change by itself.
func (v view) assess(name string, known believed, now time.Time) (member Member, until time.Time) {
	m, met := v.members[name]
	object := v.Objects[name]
	// A speaker that announced that it comes back, or that it starts, counts as one that
	// sent a leave notice, also if this speaker was not there to receive it.
	expected := known.Stage == announcement.StageRestarting || known.Stage == announcement.StageStarting
	left := m.Left || !m.Alive && expected
	since := m.Since
	if !m.Left && since.Before(v.DisconnectedUntil) {
		since = v.DisconnectedUntil
	}
	reports := v.reports(name)

	verdict := announcement.Assess(announcement.Member{
		Alive:      m.Alive,
		Left:       left,
		Since:      since,
		Unmet:      !met,
		Stage:      known.Stage,
		StageSince: known.stage.since,
		Reports:    kernelReports(reports),
		Probeable:  v.probeable(known.Links),
		Renewed:    object.Renewed,
		SeenAPI:    v.API,
		Contact:    later(v.API, v.Others),
	}, v.Grace, now)

	member = Member{
		Speaker: announcement.Speaker{
			Presence:       verdict.Presence,
			Reason:         verdict.Reason,
			Links:          known.Links,
			SilentLinks:    silentLinks(reports),
			Heard:          m.Alive,
			Worked:         object.Worked || known.Stage != "" && known.Stage != announcement.StageStarting,
			NoLayer2:       object.NoLayer2,
			NoBGP:          object.NoBGP,
			IgnoresExclude: known.IgnoresExclude,
			IgnoresCordon:  known.IgnoresCordon,
			Full:           known.Full,
			ClaimsUnknown:  known.ClaimsUnknown,
		},
		Since:    now,
		LastSeen: v.Reach[name].LastAnswer,
		Unread:   m.Unread,
		Expected: left,
		Peer:     object.Peer.Addr(),
	}
	if member.Unread && member.Presence == announcement.Present {
		member.Reason = v1beta1.ReasonFormatUnknown
	}
	if before, known := v.prev.Members[name]; known && before.Presence == member.Presence {
		member.Since = before.Since
	}
	return member, verdict.Until
}

// probeable reports whether this node shares a LAN with a member that has these links.
func (v view) probeable(theirs []links.Link) bool {
	for _, ours := range v.OwnLinks {
		for _, l := range theirs {
			if _, ok := announcement.SharedAddress(ours, l); ok {
				return true
			}
		}
	}
	return false
}

// recheckAt records that the snapshot may change by itself at this time; zero for never.
func (s *Snapshot) recheckAt(at time.Time) {
	s.Recheck = earlier(s.Recheck, at)
}

// earlier returns the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// changedClaims turns the claims by node into those by address, and returns the addresses
// whose claims have changed. It shares unchanged maps with the snapshot before: most
// snapshots have the same claims.
func changedClaims(before Snapshot, owned map[string]map[netip.Addr]announcement.Claim) (
	claims map[netip.Addr]map[string]announcement.Claim, changed []netip.Addr,
) {
	next := map[netip.Addr]map[string]announcement.Claim{} // of the addresses that differ
	of := func(addr netip.Addr) map[string]announcement.Claim {
		if next[addr] == nil {
			next[addr] = make(map[string]announcement.Claim, len(before.Claims[addr])+1)
			maps.Copy(next[addr], before.Claims[addr])
		}
		return next[addr]
	}
	for node, is := range owned {
		was := before.owned[node]
		if sameMap(was, is) {
			continue
		}
		for addr, claim := range is {
			if was[addr] != claim { // none has generation 0
				of(addr)[node] = claim
			}
		}
	}
	for node, was := range before.owned {
		is := owned[node]
		if sameMap(was, is) {
			continue
		}
		for addr := range was {
			if _, both := is[addr]; !both {
				delete(of(addr), node)
			}
		}
	}
	if len(next) == 0 && before.Claims != nil {
		return before.Claims, nil
	}

	claims = make(map[netip.Addr]map[string]announcement.Claim, len(before.Claims)+len(next))
	maps.Copy(claims, before.Claims)
	for addr, byNode := range next {
		if claims[addr] = byNode; len(byNode) == 0 {
			delete(claims, addr)
		}
	}
	return claims, slices.SortedFunc(maps.Keys(next), netip.Addr.Compare)
}

// sameMap reports whether a and b are the same map, which nobody changes: then nothing in it has
// to be looked at.
func sameMap(a, b map[netip.Addr]announcement.Claim) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// NodeOf returns the node that has a link with this hardware address, "" for none.
func (s Snapshot) NodeOf(mac net.HardwareAddr) string {
	for name, m := range s.Members {
		for _, l := range m.Links {
			if bytes.Equal(l.HardwareAddr, mac) {
				return name
			}
		}
	}
	return ""
}

// HardwareAddrs returns the hardware addresses of all other nodes.
func (s Snapshot) HardwareAddrs() []net.HardwareAddr {
	var out []net.HardwareAddr
	for _, m := range s.Members {
		for _, l := range m.Links {
			out = append(out, l.HardwareAddr)
		}
	}
	return out
}

// AnyPresent reports whether another speaker is present.
func (s Snapshot) AnyPresent() bool {
	for _, m := range s.Members {
		if m.Presence == announcement.Present {
			return true
		}
	}
	return false
}

// Unheard returns the nodes whose speaker works and is not heard, sorted: they renew their
// objects, or did so until the API server became unreachable.
func (s Snapshot) Unheard() []string {
	var out []string
	for name, m := range s.Members {
		if !m.Heard && m.Presence == announcement.Present {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
