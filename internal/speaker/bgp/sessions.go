package bgp

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// sessions reports what this node's sessions are doing: in the Speaker object, in
// Events and in metrics.
type sessions struct {
	node      string
	cluster   *cluster.Reader
	links     Links
	decisions *decisions
	events    events.EventRecorder
	status    notify.Signal // the Speaker object is out of date
	// bootID names the boot of this node, "" when it is not known.
	bootID string

	mu       sync.Mutex
	rows     map[string]*sessionRow // by peer
	wanted   map[string]bool        // peers that this node is to have a session with
	plans    map[string]sessionPlan // by peer
	problems map[string]sessionProblem
	// remembered is set while a session was up in this boot and has not ended
	// for good, over when all shall.
	remembered bool
	over       bool
}

// sessionProblem is what of a BGPPeer cannot be in force on this node.
type sessionProblem struct {
	reason  v1beta1.Reason
	message string
}

// sessionPlan is what of the plan for a peer explains what its session lacks.
type sessionPlan struct {
	source    netip.Addr   // the address to connect from, if one is given
	routes    bgp.Families // of routes that there are for it
	uncarried bgp.Families // of routes that no session carries
}

// sessionRow is what is reported of one session. What a failing session repeats
// every few seconds is left out.
type sessionRow struct {
	bgp.Session
	state   v1beta1.BGPSessionState
	since   time.Time
	error   string
	errorAt time.Time // when it first failed so
	failing bool      // error is of attempts since the last session
	ended   string    // why the last session ended
	endedAt time.Time
	// notification is what the router said last.
	notification   string
	notificationAt time.Time
	flaps          int // sessions in a row that were short, while damped
	// down is since when there is no session, zero while it is up. lost is set when
	// one has ended then that this side wanted to keep.
	down     time.Time
	lost     bool
	reported bool // an Event has reported that there is none
	ups      uint64
	downs    uint64
}

// lostPatience is after how long a session that was lost, or that waits for the
// other side, counts as one that does not come up.
const lostPatience = 10 * time.Second

func newSessions(c Config, d *decisions) *sessions {
	return &sessions{
		node:       c.Node,
		cluster:    c.Cluster,
		links:      c.Links,
		decisions:  d,
		events:     c.Events,
		status:     c.Status,
		bootID:     c.BootID,
		remembered: c.Restarting,
		rows:       map[string]*sessionRow{},
	}
}

// configure sets which peers this node has sessions with and what is announced to them, and
// what is wrong with these or with others, by name.
func (s *sessions) configure(desired []bgp.Desired, problems map[string]sessionProblem) {
	wanted, plans := map[string]bool{}, map[string]sessionPlan{}
	for _, d := range desired {
		wanted[d.Peer.Name] = true
		plans[d.Peer.Name] = sessionPlan{d.Peer.Source, d.Families(), d.Uncarried}
	}
	for name := range problems {
		wanted[name] = true
	}
	s.mu.Lock()
	differs := !maps.Equal(s.wanted, wanted) ||
		!maps.Equal(s.problems, problems) ||
		!maps.Equal(s.plans, plans)
	s.wanted, s.problems, s.plans = wanted, problems, plans
	if len(wanted) == 0 {
		s.remembered = false // nobody keeps a route of this node
	}
	s.mu.Unlock()
	if differs {
		s.status.Set()
	}
}

// leave says that all sessions end for good.
func (s *sessions) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remembered, s.over = false, true
}

// transition is a session that went up or down, or that does not come up.
type transition struct {
	peer  string
	up    bool
	never bool
	// damped is how many short sessions in a row made the next attempt wait.
	damped int
	why    string // "" when this side wanted it
	row    bgp.Session
}

// follow takes in what all sessions are doing. It returns when there is something
// to report although nothing changes; zero for never.
func (s *sessions) follow(now time.Time, state []bgp.Session) (again time.Time) {
	changes, differs, again := s.update(now, state)
	for _, c := range changes {
		s.emit(c)
	}
	if differs {
		s.status.Set()
	}
	return again
}

// update takes in a state, and returns the transitions since the one before,
// whether there is anything new to report, and when there will be if nothing changes.
func (s *sessions) update(
	at time.Time, state []bgp.Session,
) (changes []transition, differs bool, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := map[string]*sessionRow{}
	for _, now := range state {
		before := s.rows[now.Peer]
		if before == nil {
			before, differs = &sessionRow{down: at}, true
		}
		row := before.next(now)
		rows[now.Peer] = row
		was, is := before.State == bgp.SessionEstablished, now.State == bgp.SessionEstablished
		again := was && is && !before.Since.Equal(now.Since)
		if was && (!is || again) {
			row.downs++
			why := now.Ended // not LastError: attempts may have failed since
			if now.EndedAt.Equal(before.EndedAt) {
				why = ""
			}
			row.down, row.lost, row.reported = at, why != "", false
			changes = append(changes, transition{peer: now.Peer, why: why})
		}
		if is && (!was || again) {
			row.ups++
			row.down, row.lost, row.reported = time.Time{}, false, false
			s.remembered = !s.over
			changes = append(changes, transition{peer: now.Peer, up: true, row: now})
		}
		if now.State == bgp.SessionDamped && before.State != now.State {
			changes = append(changes, transition{peer: now.Peer, damped: now.Flaps, why: now.Ended})
		}
		switch why, from := row.missing(); {
		case why == "":
		case from.After(at):
			if next.IsZero() || from.Before(next) {
				next = from
			}
		default:
			row.reported = true
			changes = append(changes, transition{peer: now.Peer, never: true, why: why})
		}
		differs = differs || !row.same(before)
	}
	for name, before := range s.rows {
		if rows[name] == nil {
			differs = true
			if before.State == bgp.SessionEstablished {
				changes = append(changes, transition{peer: name})
			}
		}
	}
	s.rows = rows
	return changes, differs, next
}

// missing returns why there is no session, and from when on that is to be reported; "" if
// it is not, or was. A session that does not come up at all is reported when an attempt has
// failed. One that was lost may be back soon, and one that waits for the other side does
// not fail.
func (r *sessionRow) missing() (why string, from time.Time) {
	failed := r.LastError != "" && r.LastErrorAt.After(r.EndedAt) // an attempt since
	switch {
	case r.reported:
	case r.State == bgp.SessionEstablished, r.State == bgp.SessionLeaving, r.State == bgp.SessionHeld:
	case r.State == bgp.SessionDamped: // reported as such
	case r.State == bgp.SessionAwaitingBFD:
		if failed {
			why = r.LastError
		}
		return cmp.Or(why, "the BFD session with the router is not up"), r.down.Add(lostPatience)
	case failed && !r.lost:
		return r.LastError, r.down
	case failed:
		return r.LastError, r.down.Add(lostPatience)
	case r.State == bgp.SessionListening:
		return "the router has not connected", r.down.Add(lostPatience)
	}
	return "", time.Time{}
}

// next returns the row that follows with the state of now.
func (r *sessionRow) next(now bgp.Session) *sessionRow {
	out := *r
	out.Session = now
	out.state = shownState(now.State, r.state)
	if out.state != r.state || now.State == bgp.SessionEstablished {
		out.since = now.Since
	}
	another := now.LastError != r.error || !r.failing // not what the attempt before ended with
	if another && !now.LastErrorAt.Equal(r.LastErrorAt) {
		out.error, out.errorAt = now.LastError, now.LastErrorAt
	}
	if out.failing = now.State != bgp.SessionEstablished; !out.failing {
		out.error, out.errorAt = "", time.Time{} // over; ended is of the session before
	}
	out.ended, out.endedAt, out.flaps = now.Ended, now.EndedAt, 0
	out.notification, out.notificationAt = now.Notification, now.NotificationAt
	if now.State == bgp.SessionDamped {
		out.flaps = now.Flaps
	}
	return &out
}

// shownState returns a state as users see it. Attempts that come and go are one
// state.
func shownState(s bgp.SessionState, before v1beta1.BGPSessionState) v1beta1.BGPSessionState {
	if s != bgp.SessionOpening {
		return v1beta1.BGPSessionState(s)
	}
	if before == v1beta1.BGPListening {
		return before
	}
	return v1beta1.BGPConnecting
}

// same reports whether two rows are the same to users.
func (r *sessionRow) same(o *sessionRow) bool {
	a, b := *r, *o
	for _, row := range []*sessionRow{&a, &b} {
		if row.State != bgp.SessionEstablished {
			row.Session = bgp.Session{}
		}
		row.State, row.Since, row.LastError, row.LastErrorAt = "", time.Time{}, "", time.Time{}
		row.Ended, row.EndedAt, row.Flaps = "", time.Time{}, 0
		row.Notification, row.NotificationAt = "", time.Time{}
		row.Handed, row.HandedAt, row.Ignored, row.failing = 0, time.Time{}, 0, false
		row.down, row.lost, row.reported = time.Time{}, false, false
	}
	return a == b
}

// emit makes an Event of a transition, for the BGPPeer.
func (s *sessions) emit(c transition) {
	var peer v1beta1.BGPPeer
	if s.cluster.Get(context.Background(), types.NamespacedName{Name: c.peer}, &peer) != nil {
		return // it is gone, and nobody reads its Events
	}
	node, why := s.node, strings.TrimSuffix(c.why, ".")
	kind, reason := corev1.EventTypeWarning, v1beta1.ReasonSessionDown
	note := fmt.Sprintf("Node %s has lost its session with %s: %s.", node, c.peer, why)
	switch {
	case c.up:
		kind, reason = corev1.EventTypeNormal, v1beta1.ReasonSessionUp
		note = fmt.Sprintf("Node %s has a session with %s: %s, AS %d, %s.",
			node, c.peer, c.row.Remote, c.row.PeerASN, c.row.Families)
	case c.damped > 0:
		reason = v1beta1.ReasonSessionDamped
		note = fmt.Sprintf("Node %s waits longer before it tries %s again: %d sessions in a row have "+
			"ended soon, the last with: %s.", node, c.peer, c.damped, why)
	case c.never:
		reason = v1beta1.ReasonNoSession
		note = fmt.Sprintf("Node %s cannot establish a session with %s: %s.", node, c.peer, why)
	case c.why == "":
		kind = corev1.EventTypeNormal
		note = fmt.Sprintf("The session of node %s with %s has ended on purpose.", node, c.peer)
	}
	s.events.Eventf(&peer, nil, kind, string(reason), "Connect", "%s", kube.Note(note))
}

func (s *sessions) anyEstablished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.rows {
		if row.State == bgp.SessionEstablished {
			return true
		}
	}
	return false
}

// all returns the rows, by peer, also of sessions that cannot be.
func (s *sessions) all() []sessionRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []sessionRow
	for _, row := range s.rows {
		out = append(out, *row)
	}
	for name := range s.problems {
		if s.rows[name] == nil {
			out = append(out, sessionRow{Session: bgp.Session{Peer: name}, state: v1beta1.BGPNotConfigured})
		}
	}
	slices.SortFunc(out, func(a, b sessionRow) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// object returns what the Speaker object says of the sessions.
func (s *sessions) object() v1beta1.SpeakerBGP {
	links, routes := s.links.Links(), s.decisions.all()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := v1beta1.SpeakerBGP{Count: int32(len(s.wanted))}
	if s.remembered {
		out.BootID = s.bootID
	}
	for name, row := range s.rows {
		if row.State == bgp.SessionEstablished {
			out.Established++
		}
		shown := row.status()
		problem := s.problems[name]
		if problem.message == "" && row.State != bgp.SessionEstablished {
			problem = s.plans[name].foreignSource(links)
		}
		if row.State == bgp.SessionEstablished {
			shown.Withheld = s.plans[name].withheld(row.Session)
		}
		shown.Reason, shown.Problem = string(problem.reason), problem.message
		out.Sessions = append(out.Sessions, shown)
	}
	for name, problem := range s.problems {
		if s.rows[name] == nil {
			out.Sessions = append(out.Sessions, v1beta1.BGPSession{
				Peer:    name,
				State:   v1beta1.BGPNotConfigured,
				Reason:  string(problem.reason),
				Problem: problem.message,
			})
		}
	}
	out.Sessions = kube.WorstFirst(out.Sessions, v1beta1.MaxSpeakerAnnouncements,
		func(b v1beta1.BGPSession) bool { return b.State == v1beta1.BGPEstablished },
		func(a, b v1beta1.BGPSession) int { return cmp.Compare(a.Peer, b.Peer) })
	count, ranges := announcedRanges(routes)
	out.AddressCount, out.Addresses = &count, ranges
	return out
}

// announcedRanges returns the addresses that decisions announce: how many, and as ranges,
// the first of many.
func announcedRanges(decided map[netip.Addr]decision) (count int32, ranges []string) {
	var addrs []netip.Addr
	for addr, d := range decided {
		if d.Announce {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for from := 0; from < len(addrs) && len(ranges) < v1beta1.MaxSpeakerAnnouncements; {
		to := from
		for to+1 < len(addrs) && addrs[to].Next() == addrs[to+1] {
			to++
		}
		ranges = append(ranges, config.RangeText(netipx.IPRangeFrom(addrs[from], addrs[to])))
		from = to + 1
	}
	return int32(len(addrs)), ranges
}

// withheld returns which routes an established session does not carry although no
// other does or the router should, "" for none.
func (p sessionPlan) withheld(s bgp.Session) string {
	var out []string
	if s.Withheld != "" {
		out = append(out, s.Withheld)
	}
	for _, f := range p.uncarried.List() {
		out = append(out, fmt.Sprintf("%s routes: the session is for %s, and no other of this node's "+
			"carries them: set dualStackAddressFamily, or create a BGPPeer with an %s peerAddress",
			f, s.Families, f))
	}
	for _, f := range (p.routes &^ s.Families).List() {
		out = append(out, fmt.Sprintf(
			"%s routes: the router does not take this family in the session: activate it there", f))
	}
	return strings.Join(out, "; ")
}

// foreignSource returns the problem of a session that is to come from an address that none
// of the node's links has. While the links are not known, nothing is wrong.
func (p sessionPlan) foreignSource(own []links.Link) sessionProblem {
	if !p.source.IsValid() || len(own) == 0 || slices.ContainsFunc(own, func(l links.Link) bool {
		return slices.ContainsFunc(l.Prefixes, func(has netip.Prefix) bool { return has.Addr() == p.source })
	}) {
		return sessionProblem{}
	}
	return sessionProblem{v1beta1.ReasonNotConfigured, fmt.Sprintf("sourceAddress: %s is not an address of "+
		"this node, so it cannot connect from there. Have nodeSelectors select only the node that has it, "+
		"or give each node its own with perNode.sourceAddress.", p.source)}
}

// status returns a row as the API has it.
func (r *sessionRow) status() v1beta1.BGPSession {
	out := v1beta1.BGPSession{
		Peer:                 r.Peer,
		State:                r.state,
		Since:                kube.Time(r.since),
		LastError:            r.error,
		LastErrorTime:        kube.Time(r.errorAt),
		LastEnd:              r.ended,
		LastEndTime:          kube.Time(r.endedAt),
		Flaps:                int32(r.flaps),
		LastNotification:     r.notification,
		LastNotificationTime: kube.Time(r.notificationAt),
	}
	if r.State != bgp.SessionEstablished {
		return out
	}
	out.LocalAddress, out.RemoteAddress = r.Local.String(), r.Remote.String()
	out.LocalASN, out.PeerASN = int64(r.LocalASN), int64(r.PeerASN)
	for _, f := range r.Families.List() {
		out.Families = append(out.Families, v1beta1.BGPFamily(f.String()))
	}
	out.HoldTime, out.KeepaliveTime = kube.Duration(r.Hold), kube.Duration(r.Keepalive)
	out.LongLivedStaleTime = kube.Duration(r.LongLived)
	out.AdvertisedIPv4, out.AdvertisedIPv6 = int32(r.Advertised4), int32(r.Advertised6)
	out.Withheld = r.Withheld
	if r.Omitted != "" {
		out.OmittedCapabilities = strings.Split(r.Omitted, ", ")
	}
	out.MD5, out.GracefulRestart = r.MD5, r.GracefulRestart
	return out
}
