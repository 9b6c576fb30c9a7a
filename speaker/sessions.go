package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/bgp"
)

// sessions tells what this node's sessions are doing: in the Speaker object, in
// Events and in metrics.
type sessions struct {
	view   *view
	events events.EventRecorder
	told   func() // has the Speaker object written again
	// bootID names the boot of this node, "" when it is not known.
	bootID string

	mu       sync.Mutex
	rows     map[string]*sessionRow // by peer
	wanted   map[string]bool        // peers that this node is to have a session with
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

// sessionRow is what is told of one session. What a failing session repeats
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
	flaps   int  // sessions in a row that were short, while damped
	mourned bool // that there is none was told by an Event
	ups     uint64
	downs   uint64
}

func newSessions(v *view, bootID string, restarting bool) *sessions {
	return &sessions{view: v, bootID: bootID, remembered: restarting, rows: map[string]*sessionRow{}}
}

// configure says which peers this node has sessions with, and what is wrong
// with these or with others, by name.
func (s *sessions) configure(peers []bgp.Peer, problems map[string]sessionProblem) {
	wanted := map[string]bool{}
	for _, p := range peers {
		wanted[p.Name] = true
	}
	for name := range problems {
		wanted[name] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !maps.Equal(s.wanted, wanted) || !maps.Equal(s.problems, problems) {
		s.told()
	}
	s.wanted, s.problems = wanted, problems
	if len(wanted) == 0 {
		s.remembered = false // nobody keeps a route of this node
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

// follow takes in what all sessions are doing.
func (s *sessions) follow(state []bgp.Session) {
	changes, differs := s.update(state)
	for _, c := range changes {
		s.tell(c)
	}
	if differs {
		s.told()
	}
}

// update takes in a state, and returns the transitions since the one before,
// and whether there is anything new to tell.
func (s *sessions) update(state []bgp.Session) (changes []transition, differs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := map[string]*sessionRow{}
	for _, now := range state {
		before := s.rows[now.Peer]
		if before == nil {
			before, differs = &sessionRow{}, true
		}
		row := before.next(now)
		rows[now.Peer] = row
		was, is := before.State == bgp.SessionEstablished, now.State == bgp.SessionEstablished
		again := was && is && !before.Since.Equal(now.Since)
		if was && (!is || again) {
			row.downs++
			row.mourned = true
			why := now.Ended // not LastError: attempts may have failed since
			if now.EndedAt.Equal(before.EndedAt) {
				why = ""
			}
			changes = append(changes, transition{peer: now.Peer, why: why})
		}
		if is && (!was || again) {
			row.ups++
			row.mourned = false
			s.remembered = !s.over
			changes = append(changes, transition{peer: now.Peer, up: true, row: now})
		}
		if now.State == bgp.SessionDamped && before.State != now.State {
			changes = append(changes, transition{peer: now.Peer, damped: now.Flaps, why: now.Ended})
		}
		if !is && now.LastError != "" && !row.mourned {
			row.mourned = true
			changes = append(changes, transition{peer: now.Peer, never: true, why: now.LastError})
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
	return changes, differs
}

// next is the row that follows with the state of now.
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
	out.failing = now.State != bgp.SessionEstablished
	out.ended, out.endedAt, out.flaps = now.Ended, now.EndedAt, 0
	if now.State == bgp.SessionDamped {
		out.flaps = now.Flaps
	}
	return &out
}

// shownState is a state as users see it. Attempts that come and go are one
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

// same tells whether two rows look the same to users.
func (r *sessionRow) same(o *sessionRow) bool {
	a, b := *r, *o
	for _, row := range []*sessionRow{&a, &b} {
		if row.State != bgp.SessionEstablished {
			row.Session = bgp.Session{}
		}
		row.State, row.Since, row.LastError, row.LastErrorAt = "", time.Time{}, "", time.Time{}
		row.Ended, row.EndedAt, row.Flaps = "", time.Time{}, 0
		row.Handed, row.HandedAt, row.Ignored, row.failing, row.mourned = 0, time.Time{}, 0, false, false
	}
	return a == b
}

// tell makes an Event of a transition, for the BGPPeer.
func (s *sessions) tell(c transition) {
	var peer v1beta1.BGPPeer
	if s.view.cached.Get(context.Background(), types.NamespacedName{Name: c.peer}, &peer) != nil {
		return // it is gone, and nobody looks for its Events
	}
	node, why := s.view.node, strings.TrimSuffix(c.why, ".")
	kind, reason, note := corev1.EventTypeWarning, "SessionDown", fmt.Sprintf("Node %s has lost its session with %s: %s.", node, c.peer, why)
	switch {
	case c.up:
		kind, reason = corev1.EventTypeNormal, "SessionUp"
		note = fmt.Sprintf("Node %s has a session with %s: %s, AS %d, %s.", node, c.peer, c.row.Remote, c.row.PeerASN, c.row.Families)
	case c.damped > 0:
		reason = "SessionDamped"
		note = fmt.Sprintf("Node %s waits longer before it tries %s again: %d sessions in a row have ended soon, the last with: %s.",
			node, c.peer, c.damped, why)
	case c.never:
		reason, note = "NoSession", fmt.Sprintf("Node %s gets no session with %s: %s.", node, c.peer, why)
	case c.why == "":
		kind, note = corev1.EventTypeNormal, fmt.Sprintf("The session of node %s with %s has ended on purpose.", node, c.peer)
	}
	s.events.Eventf(&peer, nil, kind, reason, "Connect", "%s", kube.Note(note))
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

// all are the rows, by peer, also of sessions that cannot be.
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

// status is what the Speaker object says of the sessions.
func (s *sessions) status() v1beta1.SpeakerBGP {
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
		shown.Reason, shown.Problem = string(s.problems[name].reason), s.problems[name].message
		out.Sessions = append(out.Sessions, shown)
	}
	for name, problem := range s.problems {
		if s.rows[name] == nil {
			out.Sessions = append(out.Sessions, v1beta1.BGPSession{
				Peer: name, State: v1beta1.BGPNotConfigured, Reason: string(problem.reason), Problem: problem.message,
			})
		}
	}
	up := func(b v1beta1.BGPSession) int {
		if b.State == v1beta1.BGPEstablished {
			return 1
		}
		return 0
	}
	slices.SortFunc(out.Sessions, func(a, b v1beta1.BGPSession) int { return cmp.Or(up(a)-up(b), cmp.Compare(a.Peer, b.Peer)) })
	out.Sessions = capped(out.Sessions)
	slices.SortFunc(out.Sessions, func(a, b v1beta1.BGPSession) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// status is a row as the API writes it.
func (r *sessionRow) status() v1beta1.BGPSession {
	out := v1beta1.BGPSession{
		Peer: r.Peer, State: r.state, Since: whole(r.since), LastError: r.error, LastErrorTime: whole(r.errorAt),
		LastEnd: r.ended, LastEndTime: whole(r.endedAt), Flaps: int32(r.flaps),
	}
	if r.State != bgp.SessionEstablished {
		return out
	}
	out.LocalAddress, out.RemoteAddress = r.Local.String(), r.Remote.String()
	out.LocalASN, out.PeerASN = int64(r.LocalASN), int64(r.PeerASN)
	for _, f := range r.Families.List() {
		out.Families = append(out.Families, v1beta1.BGPFamily(f.String()))
	}
	out.HoldTime, out.KeepaliveTime, out.LongLivedStaleTime = longer(r.Hold), longer(r.Keepalive), longer(r.LongLived)
	out.AdvertisedIPv4, out.AdvertisedIPv6, out.Withheld = int32(r.Advertised4), int32(r.Advertised6), r.Withheld
	out.MD5, out.GracefulRestart = r.MD5, r.GracefulRestart
	return out
}

// whole is a time as the API keeps it.
func whole(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}

// longer is a time longer than none.
func longer(d time.Duration) *metav1.Duration {
	if d == 0 {
		return nil
	}
	return &metav1.Duration{Duration: d}
}
