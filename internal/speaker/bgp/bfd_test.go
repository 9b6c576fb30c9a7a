package bgp

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp"
)

// fakeBFD keeps sessions without a network: a test says what they do.
type fakeBFD struct {
	mu       sync.Mutex
	sessions map[bfd.Key]bfd.SessionConfig
	state    map[bfd.Key]bfd.Status
	sets     int
	changed  chan struct{}
}

// Set remembers the sessions that are wanted.
func (f *fakeBFD) Set(sessions map[bfd.Key]bfd.SessionConfig) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for key, config := range sessions {
		errs = append(errs, config.Validate(key))
	}
	f.sessions = sessions
	f.sets++
	return errors.Join(errs...)
}

// State is what the test says.
func (f *fakeBFD) State() []bfd.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []bfd.Status
	for key := range f.sessions {
		s := f.state[key]
		s.Key = key
		if s.State == bfd.AdminDown {
			s.State = bfd.Down
		}
		out = append(out, s)
	}
	return out
}

// Changed tells what the test tells.
func (f *fakeBFD) Changed() <-chan struct{} { return f.changed }

// Run does nothing until ctx ends.
func (f *fakeBFD) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Stats are none.
func (f *fakeBFD) Stats() bfd.Stats { return bfd.Stats{} }

// says sets what a session does, and tells of it.
func (f *fakeBFD) says(key bfd.Key, s bfd.Status) {
	f.mu.Lock()
	if f.state == nil {
		f.state = map[bfd.Key]bfd.Status{}
	}
	f.state[key] = s
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func withProfile(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "fast" }

func profile(change func(*v1beta1.BFDProfileSpec)) *v1beta1.BFDProfile {
	p := &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast", UID: "fast"}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

var torKey = bfd.Key{Peer: netip.MustParseAddr("192.0.2.254")}

// TestBFDWatchesPeersThatNameAProfile: each BGPPeer that names a profile has its router watched, as
// far as that can be.
func TestBFDWatchesPeersThatNameAProfile(t *testing.T) {
	is := func(change ...func(*v1beta1.BGPPeerSpec)) func(*v1beta1.BGPPeerSpec) {
		return func(s *v1beta1.BGPPeerSpec) {
			withProfile(s)
			for _, f := range change {
				f(s)
			}
		}
	}
	internal := func(s *v1beta1.BGPPeerSpec) { s.PeerASN = s.MyASN }
	far := func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "198.51.100.7" }
	unnumbered := func(s *v1beta1.BGPPeerSpec) { s.PeerAddress, s.Interface = "", "eth0" }
	near, away := torKey, bfd.Key{Peer: netip.MustParseAddr("198.51.100.7"), Multihop: true}
	for _, test := range []struct {
		story   string
		peer    func(*v1beta1.BGPPeerSpec)
		profile func(*v1beta1.BFDProfileSpec)
		state   []bgp.Session
		want    []bfd.Key
		echo    bool
		problem string
	}{
		{story: "no profile is named", peer: func(*v1beta1.BGPPeerSpec) {}},
		{story: "a router on the link", peer: is(), want: []bfd.Key{near}},
		{story: "with echo", peer: is(), profile: func(s *v1beta1.BFDProfileSpec) { s.EchoMode = true },
			want: []bfd.Key{near}, echo: true},
		{story: "from an address", peer: is(func(s *v1beta1.BGPPeerSpec) { s.SourceAddress = "192.0.2.1" }),
			want: []bfd.Key{{Peer: near.Peer, Local: netip.MustParseAddr("192.0.2.1")}}},
		{story: "several hops away, as the peer says",
			peer: is(far, func(s *v1beta1.BGPPeerSpec) { s.EBGPMultiHop = true }), want: []bfd.Key{away}},
		{story: "several hops away by its TTL",
			peer: is(far, func(s *v1beta1.BGPPeerSpec) { s.TTLSecurity = 3 }), want: []bfd.Key{away}},
		{story: "an internal router on the link", peer: is(internal), want: []bfd.Key{near}},
		{story: "an internal router elsewhere, with echo", peer: is(internal, far),
			profile: func(s *v1beta1.BFDProfileSpec) { s.EchoMode = true }, want: []bfd.Key{away}},
		{story: "a link whose router is not found yet", peer: is(unnumbered), problem: "not found yet"},
		{story: "a link whose router is found", peer: is(unnumbered),
			state: []bgp.Session{{Peer: "tor", Router: netip.MustParseAddr("fe80::1")}},
			want:  []bfd.Key{{Peer: netip.MustParseAddr("fe80::1"), Link: "eth0"}}},
		{story: "in a VRF", peer: is(func(s *v1beta1.BGPPeerSpec) { s.VRF = "red" }),
			problem: "does not work in a VRF"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := routedWorld(t, append(service("web"), node("node1"), profile(test.profile),
				peer("tor", test.peer))...)
			w.bgp.sessions = test.state
			w.tells("tor 192.0.2.10/32")
			if got := slices.Collect(maps.Keys(w.bfd.sessions)); !slices.Equal(got, test.want) {
				t.Errorf("watched are %+v, want %+v", got, test.want)
			}
			for _, config := range w.bfd.sessions {
				if config.EchoMode != test.echo || config.ReceiveInterval != 300*time.Millisecond ||
					config.DetectMultiplier != 3 {
					t.Errorf("watched as %+v", config)
				}
			}
			status := w.watched.object()
			if len(test.want) == 0 && test.problem == "" {
				if status.Count != 0 {
					t.Errorf("status is %+v", status)
				}
				return
			}
			if status.Count != 1 || !strings.Contains(status.Sessions[0].Problem, test.problem) ||
				(status.Sessions[0].Problem == "") != (test.problem == "") {
				t.Errorf("status is %+v", status)
			}
		})
	}
}

// TestSessionsHearOfTheirPaths: what BFD finds reaches BGP and the Speaker
// object.
func TestSessionsHearOfTheirPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := routedWorld(t, append(service("web"), node("node1"), profile(nil), peer("tor", withProfile),
			peer("spine", nil))...)
		w.tells("spine 192.0.2.10/32", "tor 192.0.2.10/32")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.watched.run(ctx) }()
		now := time.Now()
		down := bfd.Transition{At: now, From: bfd.Up, To: bfd.Down, Cause: bfd.CauseSilence}
		byHand := down
		byHand.Cause = bfd.CausePeerAdminDown
		for _, step := range []struct {
			story  string
			status bfd.Status
			want   bgp.Liveness
			state  v1beta1.BFDState
		}{
			{"nothing is heard", bfd.Status{State: bfd.Down}, bgp.LivenessSilent, v1beta1.BFDDown},
			{"half is", bfd.Status{State: bfd.Init, RemoteDiscriminator: 7}, bgp.LivenessPending, "Init"},
			{"it is up", bfd.Status{State: bfd.Up, Since: now, Ups: 1, DetectionTime: time.Second},
				bgp.LivenessUp, v1beta1.BFDUp},
			{"the router is silent", bfd.Status{State: bfd.Down, Since: now, Ups: 1, Downs: 1, LastDown: down,
				Diagnostic: bfd.DiagTimeExpired},
				bgp.LivenessLost, v1beta1.BFDDown},
			{"it is heard again", bfd.Status{State: bfd.Down, Since: now, Ups: 1, Downs: 1, LastDown: down,
				Diagnostic:          bfd.DiagTimeExpired,
				RemoteDiscriminator: 7}, bgp.LivenessFailed, v1beta1.BFDDown},
			{"it is back", bfd.Status{State: bfd.Up, Ups: 2, Downs: 1, LastDown: down}, bgp.LivenessUp,
				v1beta1.BFDUp},
			{"somebody shut it down there",
				bfd.Status{State: bfd.Down, Ups: 2, Downs: 2, LastDown: byHand, PeerAdminDown: true,
					RemoteDiscriminator: 7}, bgp.LivenessPending, v1beta1.BFDDown},
		} {
			w.isStale()
			w.bfd.says(torKey, step.status)
			synctest.Wait()
			if got := w.bgp.liveness; len(got) != 1 || got["tor"] != step.want {
				t.Errorf("%s: the sessions hear %v", step.story, got)
			}
			got := w.object().BFD
			if got.Count != 1 || got.Sessions[0].State != step.state ||
				(got.Up == 1) != (step.state == v1beta1.BFDUp) || !w.isStale() {
				t.Errorf("%s: status is %+v", step.story, got)
			}
			if failed := step.want.Failed(); failed &&
				(got.Sessions[0].LastDownCause != "DetectionTimeExpired" ||
					got.Sessions[0].LocalDiagnostic == "" || got.Sessions[0].DetectionTime != nil) {
				t.Errorf("%s: status is %+v", step.story, got.Sessions[0])
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPathOutlivesItsPeer: many routers take the end of BFD for a failure, so it
// lasts as long as the BGP session. Settings change without another session.
func TestPathOutlivesItsPeer(t *testing.T) {
	w := routedWorld(t, append(service("web"), node("node1"), profile(nil), peer("tor", withProfile))...)
	w.tells("tor 192.0.2.10/32")
	w.bgp.says(bgp.Session{Peer: "tor", State: bgp.SessionEstablished})
	w.routes.follow()
	sets := w.bfd.sets

	multiplier := int32(5)
	changes(w, "fast", &v1beta1.BFDProfile{},
		func(p *v1beta1.BFDProfile) { p.Spec.DetectMultiplier = &multiplier })
	w.configure()
	w.tells("tor 192.0.2.10/32")
	if got := w.bfd.sessions[torKey]; got.DetectMultiplier != 5 || w.bfd.sets != sets+1 {
		t.Errorf("set %d times, to %+v", w.bfd.sets-sets, got)
	}
	w.tells("tor 192.0.2.10/32")
	if w.bfd.sets != sets+1 {
		t.Error("sessions are set although nothing has changed")
	}

	if err := w.api.Delete(t.Context(), peer("tor", nil)); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.tells()
	if len(w.bfd.sessions) != 1 {
		t.Error("the router is not watched any more while the session leaves")
	}
	w.bgp.says()
	w.routes.follow()
	if len(w.bfd.sessions) != 0 || w.watched.object().Count != 0 {
		t.Errorf("watched is still %+v", w.bfd.sessions)
	}
}

// TestBFDIsTakenAway: the BGP session goes on, also at routers that take the end
// of BFD for a failure, and what BFD finds counts for nothing any more. BFD ends
// as soon as that harms nobody.
func TestBFDIsTakenAway(t *testing.T) {
	up := bfd.Status{State: bfd.Up, Ups: 1}
	now := time.Now()
	silent := bfd.Status{State: bfd.Down, Ups: 1, Downs: 1,
		LastDown: bfd.Transition{At: now, From: bfd.Up, To: bfd.Down, Cause: bfd.CauseSilence}}
	byHand := silent
	byHand.LastDown.Cause, byHand.PeerAdminDown = bfd.CausePeerAdminDown, true
	established := bgp.Session{Peer: "tor", State: bgp.SessionEstablished}
	for _, test := range []struct {
		story string
		found bfd.Status // when bfdProfile is taken away
		stays bool       // BFD, for a while
		then  bfd.Status
		bgp   bgp.SessionState
	}{
		{"the router does no BFD", bfd.Status{State: bfd.Down}, false, bfd.Status{}, bgp.SessionEstablished},
		{"BFD has failed, and the session is back without it", silent, false, bfd.Status{},
			bgp.SessionEstablished},
		{"the router goes on, until somebody shuts it down there", up, true, byHand, bgp.SessionEstablished},
		{"the router goes on, until it is silent", up, true, silent, bgp.SessionEstablished},
		{"the router goes on, until the BGP session ends", up, true, up, bgp.SessionConnecting},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := routedWorld(t, append(service("web"), node("node1"), profile(nil),
					peer("tor", withProfile))...)
				w.tells("tor 192.0.2.10/32")
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.watched.run(ctx) }()
				w.bgp.says(established)
				w.bfd.says(torKey, test.found)
				synctest.Wait()
				w.routes.follow()
				changes(w, "tor", &v1beta1.BGPPeer{}, func(p *v1beta1.BGPPeer) { p.Spec.BFDProfile = "" })
				w.configure()
				w.tells("tor 192.0.2.10/32")
				if stays := len(w.bfd.sessions) == 1; stays != test.stays {
					t.Fatalf("BFD stays: %v", stays)
				}
				if len(w.bgp.liveness) != 0 {
					t.Errorf("the session still hears of BFD: %v", w.bgp.liveness)
				}
				if test.stays {
					status := w.watched.object()
					if status.Count != 1 ||
						!strings.Contains(status.Sessions[0].Problem, "does without BFD now") {
						t.Errorf("status is %+v", status)
					}
					w.bfd.says(torKey, test.then)
					synctest.Wait()
					if len(w.bgp.liveness) != 0 {
						t.Errorf("the session hears of BFD: %v", w.bgp.liveness)
					}
					now := established
					now.State = test.bgp
					w.bgp.says(now)
					w.routes.follow()
				}
				if len(w.bfd.sessions) != 0 || w.watched.object().Count != 0 {
					t.Errorf("watched is still %+v", w.bfd.sessions)
				}
				// Who wants it again gets it.
				changes(w, "tor", &v1beta1.BGPPeer{}, func(p *v1beta1.BGPPeer) { p.Spec.BFDProfile = "fast" })
				w.configure()
				w.tells("tor 192.0.2.10/32")
				if len(w.bfd.sessions) != 1 || len(w.bgp.liveness) != 1 {
					t.Errorf("watched is %+v, and the session hears %v", w.bfd.sessions, w.bgp.liveness)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestStrictNeedsItsProfile: without it, the session runs as if nobody had asked
// for BFD, and the condition of the peer says so.
func TestStrictNeedsItsProfile(t *testing.T) {
	strict := func(s *v1beta1.BGPPeerSpec) { s.BFDProfile, s.StrictBFD = "fast", true }
	w := routedWorld(t, append(service("web"), node("node1"), peer("tor", strict))...)
	w.planned()
	if w.bgp.desired[0].Peer.Strict {
		t.Error("the session waits for what is not there")
	}
	if err := w.api.Create(t.Context(), profile(nil)); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.planned()
	if !w.bgp.desired[0].Peer.Strict {
		t.Error("the session does not wait for BFD")
	}
	// A profile that is deleted stays in force.
	if err := w.api.Delete(t.Context(), profile(nil)); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.planned()
	if !w.bgp.desired[0].Peer.Strict || len(w.bfd.sessions) != 1 {
		t.Errorf("without the profile: %+v, watched is %+v", w.bgp.desired[0].Peer, w.bfd.sessions)
	}
}
