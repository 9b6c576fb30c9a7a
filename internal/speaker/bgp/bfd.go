package bgp

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// bfdSessions has BFD watch the routers whose BGPPeers ask for it, and gives what it finds
// to the BGP sessions.
type bfdSessions struct {
	speaker  BFDSpeaker
	sessions Speaker
	links    Links
	status   notify.Signal // the Speaker object is out of date
	log      *slog.Logger

	mu     sync.Mutex
	wanted map[string]watchedPeer // by name
	// peers are all peers that this node is to have a session with.
	peers map[string]bool
	state []bgp.Session         // what the BGP sessions were last doing
	known map[string]bfdSession // by name of the peer
}

// watchedPeer is a peer whose BGPPeer names a BFDProfile.
type watchedPeer struct {
	bgp.Peer
	profile *config.BFDProfile
}

// bfdSession is the BFD session with the router of one peer.
type bfdSession struct {
	// key names it. It is the zero Key while the router is not known, or when there is a
	// problem.
	key     bfd.Key
	config  bfd.SessionConfig
	problem string
	// ending is set when the peer does without BFD now, and the router does not:
	// what BFD finds counts for nothing here any more.
	ending bool
}

// watchedPeers returns those of the peers, by name, whose BGPPeers name a BFDProfile.
func watchedPeers(c *config.Config, peers []bgp.Peer) map[string]watchedPeer {
	out := map[string]watchedPeer{}
	for _, p := range peers {
		if object := c.BGPPeer(p.Name); object != nil && object.BFD != nil {
			out[p.Name] = watchedPeer{p, object.BFD}
		}
	}
	return out
}

// configure sets which of the peers that there are is to be watched. state is what the BGP
// sessions are doing.
func (b *bfdSessions) configure(wanted map[string]watchedPeer, peers []bgp.Peer, state []bgp.Session) {
	b.mu.Lock()
	b.wanted, b.peers = wanted, map[string]bool{}
	for _, peer := range peers {
		b.peers[peer.Name] = true
	}
	b.mu.Unlock()
	b.update(state)
}

// update takes in what the BGP sessions are doing: where routers were found, and
// which sessions have ended.
func (b *bfdSessions) update(state []bgp.Session) {
	found := b.found()
	b.mu.Lock()
	before := b.known
	b.state, b.known = state, b.plan(state, found)
	same := maps.Equal(before, b.known)
	sessions := map[bfd.Key]bfd.SessionConfig{}
	for _, name := range slices.Sorted(maps.Keys(b.known)) {
		one := b.known[name]
		if _, taken := sessions[one.key]; one.key != (bfd.Key{}) && !taken {
			sessions[one.key] = one.config
		}
	}
	b.mu.Unlock()
	if same {
		return
	}
	if err := b.speaker.Set(sessions); err != nil {
		b.log.Error("cannot set the BFD sessions", "error", err) // each was found valid
	}
	b.follow()
	b.status.Set()
}

// plan returns how each router is watched. found is what BFD finds now.
//
// Routers take the end of BFD for a failure and end the BGP session, also when BFD says
// that it is on purpose (AdminDown): FRR 8.4 and BIRD 2.0 do. So a router whose peer is
// gone is watched as long as its BGP session lasts. Where the peer stays and does without
// BFD now, BFD only goes on to answer: until the router ends it, or the BGP session has
// ended for another reason, or the BFD session has failed.
func (b *bfdSessions) plan(state []bgp.Session, found map[bfd.Key]bfd.Status) map[string]bfdSession {
	out := map[string]bfdSession{}
	routers := map[string]netip.Addr{}
	for _, s := range state {
		routers[s.Peer] = s.Router
		last, watched := b.known[s.Peer]
		last.ending = b.peers[s.Peer]
		used := s.State == bgp.SessionEstablished && found[last.key].State == bfd.Up
		if watched && (!last.ending || used) {
			out[s.Peer] = last
		}
	}
	on := b.links.Links()
	for name, w := range b.wanted {
		out[name] = w.session(routers[name], on)
	}
	return out
}

// found returns what BFD finds, by session.
func (b *bfdSessions) found() map[bfd.Key]bfd.Status {
	out := map[bfd.Key]bfd.Status{}
	for _, s := range b.speaker.State() {
		out[s.Key] = s
	}
	return out
}

// session returns the BFD session with the router of a peer. found is where the router is
// if the peer names only a link.
func (w watchedPeer) session(found netip.Addr, on []links.Link) bfdSession {
	out := bfdSession{
		key: bfd.Key{Peer: w.Address, Local: w.Source, Multihop: w.several(on)},
		config: bfd.SessionConfig{
			ReceiveInterval:  w.profile.Receive,
			TransmitInterval: w.profile.Transmit,
			DetectMultiplier: uint8(w.profile.Multiplier),
			EchoMode:         w.profile.Echo > 0,
			EchoInterval:     w.profile.Echo,
			Passive:          w.profile.Passive,
			MinimumTTL:       uint8(w.profile.MinimumTTL),
		},
	}
	if w.Interface != "" {
		out.key = bfd.Key{Peer: found, Link: w.Interface}
	}
	out.config.EchoMode = out.config.EchoMode && !out.key.Multihop
	switch {
	case w.VRF != "":
		out.problem = "BFD does not work in a VRF: leave bfdProfile out of this BGPPeer."
	case !out.key.Peer.IsValid():
	default:
		if err := out.config.Validate(out.key); err != nil {
			out.problem = err.Error()
		}
	}
	if out.problem != "" || !out.key.Peer.IsValid() {
		out.key = bfd.Key{}
	}
	return out
}

// several reports whether the router may be several hops away. Both ends must
// think the same of it, so it is as FRR does it: by what the peer says, and an
// internal peer is several hops away when it is in no subnet of this node.
func (w watchedPeer) several(on []links.Link) bool {
	near := slices.ContainsFunc(on, func(l links.Link) bool {
		return slices.ContainsFunc(l.Prefixes, func(prefix netip.Prefix) bool {
			return prefix.Contains(w.Address)
		})
	})
	return w.Multihop || w.TTLSecurity > 1 || w.Internal() && !near
}

// run follows the BFD sessions until ctx ends.
func (b *bfdSessions) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.speaker.Changed():
			b.mu.Lock()
			state := b.state
			b.mu.Unlock()
			b.update(state) // BFD may have ended that only answered
			b.follow()
			b.status.Set()
		}
	}
}

// follow gives what BFD finds to the BGP sessions.
func (b *bfdSessions) follow() {
	found := map[string]bgp.Liveness{}
	for _, row := range b.all() {
		if !row.ending {
			found[row.peer] = row.liveness()
		}
	}
	b.sessions.SetLiveness(found)
}

// bfdRow is what is known of the BFD session with one router.
type bfdRow struct {
	bfdSession
	peer string
	now  bfd.Status // of the zero Key while there is no session
}

// liveness returns what BFD finds of the router.
func (r bfdRow) liveness() bgp.Liveness {
	silent := r.now.RemoteDiscriminator == 0
	switch {
	case r.now.State == bfd.Up:
		return bgp.LivenessUp
	case r.now.Failed() && silent:
		return bgp.LivenessLost
	case r.now.Failed():
		return bgp.LivenessFailed
	case silent:
		return bgp.LivenessSilent
	}
	return bgp.LivenessPending
}

// all returns all BFD sessions, by the names of the peers.
func (b *bfdSessions) all() []bfdRow {
	state := b.found()
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []bfdRow
	for name, one := range b.known {
		status, running := state[one.key]
		if !running {
			status.State = bfd.Down
		}
		out = append(out, bfdRow{one, name, status})
	}
	slices.SortFunc(out, func(a, b bfdRow) int { return cmp.Compare(a.peer, b.peer) })
	return out
}

// object returns what the Speaker object says of the BFD sessions.
func (b *bfdSessions) object() v1beta1.SpeakerBFD {
	var out v1beta1.SpeakerBFD
	for _, row := range b.all() {
		out.Count++
		if row.now.State == bfd.Up {
			out.Up++
		}
		out.Sessions = append(out.Sessions, row.status())
	}
	out.Sessions = kube.WorstFirst(out.Sessions, v1beta1.MaxSpeakerAnnouncements,
		func(s v1beta1.BFDSession) bool { return s.State == v1beta1.BFDUp },
		func(a, b v1beta1.BFDSession) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// status returns a row as the API has it.
func (r bfdRow) status() v1beta1.BFDSession {
	s := r.now
	out := v1beta1.BFDSession{
		Peer:             r.peer,
		State:            v1beta1.BFDState(s.State.String()),
		Since:            kube.Time(s.Since),
		Problem:          r.problem,
		MultiHop:         r.key.Multihop,
		Ups:              int64(s.Ups),
		Downs:            int64(s.Downs),
		LastDownTime:     kube.Time(s.LastDown.At),
		LastDownCause:    string(s.LastDown.Cause),
		LocalDiagnostic:  diagnostic(s.Diagnostic),
		RemoteDiagnostic: diagnostic(s.RemoteDiagnostic),
	}
	if r.ending {
		out.Problem = "The BGPPeer does without BFD now, but the router does not, and would end the BGP " +
			"session with it. What BFD finds counts for nothing here, and it ends when the router's " +
			"does, or with the BGP session. Take BFD out of the router's configuration."
	}
	if r.key.Peer.IsValid() {
		out.RemoteAddress = r.key.Peer.String()
	} else if r.problem == "" {
		out.Problem = "The router is not found yet."
	}
	if s.Problem == bfd.ProblemSocket {
		out.Problem = fmt.Sprintf("The kernel gives no socket for BFD (%s): does another BFD daemon run on "+
			"this node? The log has the error.", s.Problem)
	}
	if s.State == bfd.Up {
		out.TransmitInterval = kube.Duration(s.TransmitInterval)
		out.DetectionTime = kube.Duration(s.DetectionTime)
		out.RemoteDetectionTime = kube.Duration(s.RemoteDetectionTime)
	}
	return out
}

func diagnostic(d bfd.Diagnostic) string {
	if d == bfd.DiagNone {
		return ""
	}
	return d.String()
}
