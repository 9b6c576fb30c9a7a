package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

// TestSessionsAreTold: of what a session does, users see what matters, once.
func TestSessionsAreTold(t *testing.T) {
	w := routedWorld(t, node("node1"), peer("tor", nil))
	w.planned()
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	trying := func(state bgp.SessionState, since int, why string, when int) bgp.Session {
		s := bgp.Session{Peer: "tor", State: state, Since: at(since), LastError: why}
		if why != "" {
			s.LastErrorAt = at(when)
		}
		return s
	}
	up := func(since int, why string, when int) bgp.Session {
		s := trying(bgp.SessionEstablished, since, why, when)
		s.Remote, s.PeerASN, s.Families = netip.MustParseAddr("192.0.2.254"), 64513, bgp.IPv4
		return s
	}
	// ended has a session end with what was the last error then.
	ended := func(s bgp.Session, why string, when int) bgp.Session {
		s.Ended, s.EndedAt = why, at(when)
		return s
	}
	damped := ended(trying(bgp.SessionDamped, 58, "closed", 58), "closed", 58)
	damped.Flaps = 4
	for _, step := range []struct {
		story  string
		now    []bgp.Session
		want   string // "state since error errorTime" in seconds
		told   bool
		events []string
	}{
		{"it begins", []bgp.Session{trying(bgp.SessionConnecting, 0, "", 0)}, "Connecting 0", true, nil},
		{"an attempt is none of users' business", []bgp.Session{trying(bgp.SessionOpening, 1, "", 0)}, "Connecting 0", false, nil},
		{"it fails", []bgp.Session{trying(bgp.SessionConnecting, 2, "no answer", 2)}, "Connecting 0 no answer 2", true, []string{"tor Warning NoSession"}},
		{"and again", []bgp.Session{trying(bgp.SessionConnecting, 2, "no answer", 7)}, "Connecting 0 no answer 2", false, nil},
		{"in another way", []bgp.Session{trying(bgp.SessionConnecting, 2, "refused", 12)}, "Connecting 0 refused 12", true, nil},
		{"it is up", []bgp.Session{up(15, "refused", 12)}, "Established 15 refused 12", true, []string{"tor Normal SessionUp"}},
		{"nothing happens", []bgp.Session{up(15, "refused", 12)}, "Established 15 refused 12", false, nil},
		{"it is down", []bgp.Session{ended(trying(bgp.SessionConnecting, 20, "closed", 20), "closed", 20)}, "Connecting 20 closed 20, ended 20 closed", true, []string{"tor Warning SessionDown"}},
		{"and does not come up", []bgp.Session{ended(trying(bgp.SessionConnecting, 20, "refused", 25), "closed", 20)},
			"Connecting 20 refused 25, ended 20 closed", true, nil},
		{"up again", []bgp.Session{ended(up(30, "refused", 25), "closed", 20)}, "Established 30 refused 25, ended 20 closed", true, []string{"tor Normal SessionUp"}},
		{"down and up between two looks", []bgp.Session{ended(up(40, "closed", 39), "shut down", 38)}, "Established 40 closed 39, ended 38 shut down", true,
			[]string{"tor Warning SessionDown", "tor Normal SessionUp"}},
		{"the same once more", []bgp.Session{ended(up(50, "closed", 49), "closed", 49)}, "Established 50 closed 49, ended 49 closed", true,
			[]string{"tor Warning SessionDown", "tor Normal SessionUp"}},
		{"again, and it is damped", []bgp.Session{damped}, "Damped 58 closed 58, ended 58 closed, flaps 4", true,
			[]string{"tor Warning SessionDown", "tor Warning SessionDamped"}},
		{"it is still", []bgp.Session{damped}, "Damped 58 closed 58, ended 58 closed, flaps 4", false, nil},
		{"up once more", []bgp.Session{ended(up(59, "closed", 58), "closed", 58)}, "Established 59 closed 58, ended 58 closed", true,
			[]string{"tor Normal SessionUp"}},
		{"this side ends it", []bgp.Session{ended(trying(bgp.SessionLeaving, 60, "closed", 58), "closed", 58)}, "Leaving 60 closed 58, ended 58 closed", true, []string{"tor Normal SessionDown"}},
		{"and it is gone", nil, "", true, nil},
	} {
		t.Run(step.story, func(t *testing.T) {
			w.events, w.told = nil, 0
			w.bgp.says(step.now...)
			w.routes.follow()
			got := ""
			for _, s := range w.sessions.status().Sessions {
				got = fmt.Sprintf("%s %d", s.State, s.Since.Unix()-1000)
				if s.LastError != "" {
					got += fmt.Sprintf(" %s %d", s.LastError, s.LastErrorTime.Unix()-1000)
				}
				if s.LastEnd != "" {
					got += fmt.Sprintf(", ended %d %s", s.LastEndTime.Unix()-1000, s.LastEnd)
				}
				if s.Flaps > 0 {
					got += fmt.Sprintf(", flaps %d", s.Flaps)
				}
			}
			if got != step.want {
				t.Errorf("users see %q, want %q", got, step.want)
			}
			if (w.told > 0) != step.told {
				t.Errorf("the Speaker object was told %d times", w.told)
			}
			if !slices.Equal(w.events, step.events) {
				t.Errorf("emitted %q, want %q", w.events, step.events)
			}
		})
	}
	for _, note := range w.notes {
		if !strings.Contains(note, "tor") || !strings.Contains(note, "node1") {
			t.Errorf("the Event %q does not say of which peer and node", note)
		}
	}
}

func TestPassiveSessionListens(t *testing.T) {
	w := routedWorld(t, node("node1"), peer("tor", nil))
	for _, state := range []bgp.SessionState{bgp.SessionListening, bgp.SessionOpening, bgp.SessionListening} {
		w.bgp.says(bgp.Session{Peer: "tor", State: state})
		w.routes.follow()
		if got := w.sessions.status().Sessions[0].State; got != v1beta1.BGPListening {
			t.Errorf("%s is shown as %s", state, got)
		}
	}
}

func TestSessionStatus(t *testing.T) {
	w := routedWorld(t, node("node1"), peer("tor", nil), peer("spine", nil))
	w.planned()
	since := time.Unix(1000, 500)
	w.bgp.says(
		bgp.Session{Peer: "spine", State: bgp.SessionHeld, Since: since},
		bgp.Session{Peer: "tor", State: bgp.SessionEstablished, Since: since, Local: netip.MustParseAddr("192.0.2.1"),
			Remote: netip.MustParseAddr("192.0.2.254"), LocalASN: 64512, PeerASN: 4200000001, Families: bgp.DualStack, Hold: 9 * time.Second,
			Keepalive: 3 * time.Second, MD5: true, GracefulRestart: true, LongLived: time.Hour, Advertised4: 2, Advertised6: 1, Withheld: "some"})
	w.routes.follow()
	duration := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	second := metav1.NewTime(time.Unix(1000, 0))
	want := v1beta1.SpeakerBGP{Count: 2, Established: 1, BootID: "this boot", Sessions: []v1beta1.BGPSession{
		{Peer: "spine", State: v1beta1.BGPHeld, Since: second},
		{Peer: "tor", State: v1beta1.BGPEstablished, Since: second, LocalAddress: "192.0.2.1", RemoteAddress: "192.0.2.254", LocalASN: 64512,
			PeerASN: 4200000001, Families: []v1beta1.BGPFamily{"IPv4", "IPv6"}, HoldTime: duration(9 * time.Second), KeepaliveTime: duration(3 * time.Second),
			AdvertisedIPv4: 2, AdvertisedIPv6: 1, Withheld: "some", MD5: true, GracefulRestart: true, LongLivedStaleTime: duration(time.Hour)},
	}}
	if diff := cmp.Diff(want, w.object.status().BGP); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// Of many, those that are not up are listed.
	var many []bgp.Session
	for i := range 300 {
		s := bgp.Session{Peer: fmt.Sprintf("peer-%03d", i), State: bgp.SessionEstablished}
		if i == 299 {
			s.State = bgp.SessionConnecting
		}
		many = append(many, s)
	}
	w.bgp.says(many...)
	w.routes.follow()
	list := w.sessions.status().Sessions
	if len(list) != v1beta1.MaxSpeakerAnnouncements || list[len(list)-1].Peer != "peer-299" {
		t.Errorf("%d are listed, the last of them %s", len(list), list[len(list)-1].Peer)
	}
}
