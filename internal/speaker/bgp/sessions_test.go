package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// TestSessionTransitionsAreReportedOnce: of what a session does, users see what matters,
// once.
func TestSessionTransitionsAreReportedOnce(t *testing.T) {
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
		{"an attempt is none of users' business", []bgp.Session{trying(bgp.SessionOpening, 1, "", 0)},
			"Connecting 0", false, nil},
		{"it fails", []bgp.Session{trying(bgp.SessionConnecting, 2, "no answer", 2)},
			"Connecting 0 no answer 2", true, []string{"tor Warning NoSession"}},
		{"and again", []bgp.Session{trying(bgp.SessionConnecting, 2, "no answer", 7)},
			"Connecting 0 no answer 2", false, nil},
		{"in another way", []bgp.Session{trying(bgp.SessionConnecting, 2, "refused", 12)},
			"Connecting 0 refused 12", true, nil},
		{"it is up", []bgp.Session{up(15, "refused", 12)}, "Established 15", true,
			[]string{"tor Normal SessionUp"}},
		{"nothing happens", []bgp.Session{up(15, "refused", 12)}, "Established 15", false, nil},
		{"it is down", []bgp.Session{ended(trying(bgp.SessionConnecting, 20, "closed", 20), "closed", 20)},
			"Connecting 20 closed 20, ended 20 closed", true, []string{"tor Warning SessionDown"}},
		{"and does not come up",
			[]bgp.Session{ended(trying(bgp.SessionConnecting, 20, "refused", 25), "closed", 20)},
			"Connecting 20 refused 25, ended 20 closed", true, nil},
		{"up again", []bgp.Session{ended(up(30, "refused", 25), "closed", 20)},
			"Established 30, ended 20 closed", true, []string{"tor Normal SessionUp"}},
		{"down and up between two looks", []bgp.Session{ended(up(40, "closed", 39), "shut down", 38)},
			"Established 40, ended 38 shut down", true,
			[]string{"tor Warning SessionDown", "tor Normal SessionUp"}},
		{"the same once more", []bgp.Session{ended(up(50, "closed", 49), "closed", 49)},
			"Established 50, ended 49 closed", true,
			[]string{"tor Warning SessionDown", "tor Normal SessionUp"}},
		{"again, and it is damped", []bgp.Session{damped}, "Damped 58 closed 58, ended 58 closed, flaps 4",
			true,
			[]string{"tor Warning SessionDown", "tor Warning SessionDamped"}},
		{"it is still", []bgp.Session{damped}, "Damped 58 closed 58, ended 58 closed, flaps 4", false, nil},
		{"up once more", []bgp.Session{ended(up(59, "closed", 58), "closed", 58)},
			"Established 59, ended 58 closed", true,
			[]string{"tor Normal SessionUp"}},
		{"this side ends it",
			[]bgp.Session{ended(trying(bgp.SessionLeaving, 60, "closed", 58), "closed", 58)},
			"Leaving 60, ended 58 closed", true, []string{"tor Normal SessionDown"}},
		{"and it is gone", nil, "", true, nil},
	} {
		t.Run(step.story, func(t *testing.T) {
			w.events.Emitted = nil
			w.isStale()
			w.bgp.says(step.now...)
			w.routes.follow()
			got := ""
			for _, s := range w.sessions.object().Sessions {
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
			if got := w.isStale(); got != step.told {
				t.Errorf("the Speaker object is out of date: %t", got)
			}
			if !slices.Equal(w.events.Emitted, step.events) {
				t.Errorf("emitted %q, want %q", w.events.Emitted, step.events)
			}
		})
	}
	for _, note := range w.events.Notes {
		if !strings.Contains(note, "tor") || !strings.Contains(note, "node1") {
			t.Errorf("the Event %q does not say of which peer and node", note)
		}
	}
}

// TestWithheldNamesWhatTheSessionCannotCarry: what an established session does not carry is withheld, and
// says what to do; a source that is not this node's is told while it is not.
func TestWithheldNamesWhatTheSessionCannotCarry(t *testing.T) {
	own := []links.Link{{Name: "lo", Loopback: true,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}}}
	here, away := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.8")
	for _, test := range []struct {
		story  string
		plan   sessionPlan
		state  bgp.Session
		links  []links.Link
		want   []string // in what is withheld; none for nothing
		source bool     // the source is told to be wrong
	}{
		{"nothing", sessionPlan{routes: bgp.IPv4}, bgp.Session{Families: bgp.IPv4}, own, nil, false},
		{"want of a next hop", sessionPlan{routes: bgp.DualStack},
			bgp.Session{Families: bgp.DualStack, Withheld: "IPv6 routes: no hop"}, own,
			[]string{"IPv6 routes: no hop"}, false},
		{"a family that no session carries", sessionPlan{routes: bgp.IPv4, uncarried: bgp.IPv6},
			bgp.Session{Families: bgp.IPv4}, own,
			[]string{"IPv6 routes: the session is for IPv4", "dualStackAddressFamily"}, false},
		{"a family that the router does not take", sessionPlan{routes: bgp.DualStack},
			bgp.Session{Families: bgp.IPv4}, own,
			[]string{"IPv6 routes: the router does not take this family"}, false},
		{"two reasons", sessionPlan{routes: bgp.DualStack},
			bgp.Session{Families: bgp.IPv6, Withheld: "IPv6 routes: no hop"}, own,
			[]string{"IPv6 routes: no hop; IPv4 routes: the router"}, false},
		{"a source that is here", sessionPlan{source: here}, bgp.Session{}, own, nil, false},
		{"a source that is elsewhere", sessionPlan{source: away}, bgp.Session{}, own, nil, true},
		{"the links are not known yet", sessionPlan{source: away}, bgp.Session{}, nil, nil, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := test.plan.withheld(test.state)
			if (got == "") != (len(test.want) == 0) {
				t.Errorf("withheld is %q, want %q", got, test.want)
			}
			for _, text := range test.want {
				if !strings.Contains(got, text) {
					t.Errorf("withheld is %q, want %q in it", got, text)
				}
			}
			p := test.plan.foreignSource(test.links)
			if (p.message != "") != test.source || test.source && p.reason != v1beta1.ReasonNotConfigured {
				t.Errorf("the source's problem is %+v", p)
			}
		})
	}
}

// TestAnAddressThatNoSessionCarries is withheld on the session and not announced,
// and a source that is not this node's is told until the session is up all the same.
func TestAnAddressThatNoSessionCarries(t *testing.T) {
	web := service("web")
	ingress := &web[0].(*corev1.Service).Status.LoadBalancer.Ingress
	*ingress = append(*ingress, corev1.LoadBalancerIngress{IP: "2001:db8::10"})
	six := web[1].DeepCopyObject().(*discoveryv1.EndpointSlice)
	six.Name, six.AddressType = "web-six", discoveryv1.AddressTypeIPv6
	web = append(web, six)
	w := routedWorld(t, append(web, node("node1"),
		peer("tor", func(s *v1beta1.BGPPeerSpec) { s.SourceAddress = "10.0.0.7" }))...)
	var pool v1beta1.IPAddressPool
	changes(w, clustertest.Pool().Name, &pool,
		func(p *v1beta1.IPAddressPool) { p.Spec.Addresses = append(p.Spec.Addresses, "2001:db8::/64") })
	w.configure()
	w.tells("tor 192.0.2.10/32")
	if d := w.c.decisions.get(netip.MustParseAddr("2001:db8::10")); d.Announce ||
		d.Reason != v1beta1.ReasonNoPeerForFamily {
		t.Errorf("the decision for the IPv6 address is %s (%s)", d.Reason, d.Message)
	}
	w.bgp.says(bgp.Session{Peer: "tor", State: bgp.SessionConnecting})
	w.routes.follow()
	status := w.sessions.object()
	if len(status.Addresses) != 1 || status.Addresses[0] != "192.0.2.10" || *status.AddressCount != 1 {
		t.Errorf("announced are %d: %q", *status.AddressCount, status.Addresses)
	}
	if s := status.Sessions[0]; s.Reason != string(v1beta1.ReasonNotConfigured) ||
		!strings.Contains(s.Problem, "10.0.0.7") || s.Withheld != "" {
		t.Errorf("while it connects, the session says %+v", s)
	}
	w.bgp.says(bgp.Session{Peer: "tor", State: bgp.SessionEstablished, Families: bgp.IPv4})
	w.routes.follow()
	if s := w.sessions.object().Sessions[0]; s.Problem != "" || !strings.Contains(s.Withheld, "IPv6 routes") {
		t.Errorf("while it is up, the session says %+v", s)
	}
	changes(w, "tor", &v1beta1.BGPPeer{}, func(p *v1beta1.BGPPeer) { p.Spec.DualStackAddressFamily = true })
	w.configure()
	w.isStale()
	w.tells("tor 192.0.2.10/32", "tor 2001:db8::10/128")
	if !w.isStale() {
		t.Error("the Speaker object is not told")
	}
	if s := w.sessions.object(); *s.AddressCount != 2 {
		t.Errorf("announced are %d: %q", *s.AddressCount, s.Addresses)
	}
}

func TestAnnouncedRanges(t *testing.T) {
	decided := map[netip.Addr]decision{}
	announce := func(text string) {
		decided[netip.MustParseAddr(text)] = decision{BGPDecision: announcement.BGPDecision{Announce: true}}
	}
	for _, text := range []string{
		"192.0.2.255", "192.0.3.0", "192.0.3.1", "192.0.2.7", "2001:db8::1", "255.255.255.255", "::",
	} {
		announce(text)
	}
	decided[netip.MustParseAddr("192.0.2.8")] = decision{}
	count, ranges := announcedRanges(decided)
	want := []string{"192.0.2.7", "192.0.2.255-192.0.3.1", "255.255.255.255", "::", "2001:db8::1"}
	if count != 7 || !slices.Equal(ranges, want) {
		t.Errorf("%d: %q, want 7: %q", count, ranges, want)
	}
	for i := range 600 {
		announce(fmt.Sprintf("198.51.%d.%d", i/100, 2*(i%100)))
	}
	if count, ranges = announcedRanges(decided); count != 607 ||
		len(ranges) != v1beta1.MaxSpeakerAnnouncements {
		t.Errorf("of %d addresses %d ranges are listed", count, len(ranges))
	}
}

// TestSessionsThatDoNotComeUp: that there is no session is told once, of one that
// worked as of a new one; of one that was lost not before it had time to return.
func TestSessionsThatDoNotComeUp(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	type look struct {
		at    int
		now   bgp.Session
		event string // "" for none
		again int    // when there is something to tell if nothing changes; 0 for never
	}
	session := func(state bgp.SessionState, why string, when int) bgp.Session {
		s := bgp.Session{Peer: "tor", State: state, LastError: why}
		if why != "" {
			s.LastErrorAt = at(when)
		}
		return s
	}
	lost := func(s bgp.Session, why string, when int) bgp.Session {
		s.Ended, s.EndedAt = why, at(when)
		if s.State == bgp.SessionDamped {
			s.Flaps = 4
		}
		if s.LastError == "" {
			s.LastError, s.LastErrorAt = s.Ended, s.EndedAt
		}
		return s
	}
	up := session(bgp.SessionEstablished, "", 0)
	for _, test := range []struct {
		story string
		looks []look
	}{
		{"a new one, told when its first attempt fails", []look{
			{1, session(bgp.SessionConnecting, "", 0), "", 0},
			{4, session(bgp.SessionConnecting, "no answer", 4), "NoSession no answer", 0},
			{30, session(bgp.SessionConnecting, "refused", 30), "", 0},
		}},
		{"an edited AS number: reset on purpose, and refused", []look{
			{1, up, "SessionUp", 0},
			{5, session(bgp.SessionConnecting, "", 0), "SessionDown on purpose", 0},
			{6, session(bgp.SessionConnecting, "bad peer AS", 6), "NoSession bad peer AS", 0},
			{40, session(bgp.SessionConnecting, "bad peer AS", 40), "", 0},
		}},
		{"reset on purpose, as one that was lost before", []look{
			{1, lost(up, "closed", 0), "SessionUp", 0},
			{5, session(bgp.SessionConnecting, "", 0), "SessionDown on purpose", 0},
			{9, session(bgp.SessionConnecting, "no answer", 9), "NoSession no answer", 0},
		}},
		{"a router that is back at once", []look{
			{1, up, "SessionUp", 0},
			{5, lost(session(bgp.SessionConnecting, "", 0), "closed", 5), "SessionDown closed", 0},
			{6, lost(session(bgp.SessionConnecting, "refused", 6), "closed", 5), "", 15},
			{7, lost(up, "closed", 5), "SessionUp", 0},
			{20, lost(up, "closed", 5), "", 0},
		}},
		{"a router that is back without its password", []look{
			{1, up, "SessionUp", 0},
			{5, lost(session(bgp.SessionConnecting, "", 0), "closed", 5), "SessionDown closed", 0},
			{6, lost(session(bgp.SessionConnecting, "refused", 6), "closed", 5), "", 15},
			{14, lost(session(bgp.SessionConnecting, "no answer", 14), "closed", 5), "", 15},
			{15, lost(session(bgp.SessionConnecting, "no answer", 14), "closed", 5), "NoSession no answer",
				0},
			{300, lost(session(bgp.SessionConnecting, "no answer", 300), "closed", 5), "", 0},
			{301, lost(up, "closed", 5), "SessionUp", 0},
			{400, lost(session(bgp.SessionConnecting, "", 0), "closed", 400), "SessionDown closed", 0},
			{411, lost(session(bgp.SessionConnecting, "no answer", 408), "closed", 400),
				"NoSession no answer", 0},
		}},
		{"one that listens has no failures", []look{
			{1, session(bgp.SessionListening, "", 0), "", 11},
			{11, session(bgp.SessionListening, "", 0), "NoSession has not connected", 0},
			{50, up, "SessionUp", 0},
			{60, lost(session(bgp.SessionListening, "", 0), "closed", 60), "SessionDown closed", 70},
			{71, lost(session(bgp.SessionListening, "", 0), "closed", 60), "NoSession has not connected", 0},
		}},
		{"one that waits for BFD", []look{
			{1, up, "SessionUp", 0},
			{5, lost(session(bgp.SessionAwaitingBFD, "", 0), "BFD", 5), "SessionDown BFD", 15},
			{15, lost(session(bgp.SessionAwaitingBFD, "", 0), "BFD", 5), "NoSession the BFD session", 0},
		}},
		{"a new one that waits for BFD", []look{
			{1, session(bgp.SessionAwaitingBFD, "BFD is down", 1), "", 11},
			{4, up, "SessionUp", 0},
		}},
		{"a new one that waits for BFD in vain", []look{
			{1, session(bgp.SessionAwaitingBFD, "BFD is down", 1), "", 11},
			{11, session(bgp.SessionAwaitingBFD, "BFD is down", 1), "NoSession BFD is down", 0},
		}},
		{"one that is damped was told", []look{
			{1, up, "SessionUp", 0},
			{5, lost(session(bgp.SessionDamped, "", 0), "closed", 5), "SessionDown closed", 0},
			{30, lost(session(bgp.SessionDamped, "", 0), "closed", 5), "", 0},
		}},
		{"one that is held back, and one that ends", []look{
			{1, session(bgp.SessionHeld, "", 0), "", 0},
			{60, session(bgp.SessionLeaving, "", 0), "", 0},
		}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := routedWorld(t, node("node1"), peer("tor", nil))
			w.planned()
			for _, look := range test.looks {
				w.events.Emitted, w.events.Notes = nil, nil
				again := w.sessions.follow(at(look.at), []bgp.Session{look.now})
				kind, words, _ := strings.Cut(look.event, " ")
				told := slices.DeleteFunc(w.events.Emitted, func(e string) bool {
					return strings.HasSuffix(e, "SessionDamped")
				})
				if (kind == "") != (len(told) == 0) || len(told) > 1 ||
					kind != "" && !strings.HasSuffix(told[0], " "+kind) {
					t.Errorf("at %d s %q is reported, want %q", look.at, told, look.event)
				}
				if kind != "" && !strings.Contains(strings.Join(w.events.Notes, " "), words) {
					t.Errorf("at %d s the notes are %q, want %q in one", look.at, w.events.Notes, words)
				}
				want := at(look.again)
				if look.again == 0 {
					want = time.Time{}
				}
				if !again.Equal(want) {
					t.Errorf("at %d s there is more to report at %s, want %d s", look.at, again, look.again)
				}
			}
		})
	}
}

func TestPassiveSessionListens(t *testing.T) {
	w := routedWorld(t, node("node1"), peer("tor", nil))
	for _, state := range []bgp.SessionState{bgp.SessionListening, bgp.SessionOpening, bgp.SessionListening} {
		w.bgp.says(bgp.Session{Peer: "tor", State: state})
		w.routes.follow()
		if got := w.sessions.object().Sessions[0].State; got != v1beta1.BGPListening {
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
		bgp.Session{
			Peer:            "tor",
			State:           bgp.SessionEstablished,
			Since:           since,
			Local:           netip.MustParseAddr("192.0.2.1"),
			Remote:          netip.MustParseAddr("192.0.2.254"),
			LocalASN:        64512,
			PeerASN:         4200000001,
			Families:        bgp.DualStack,
			Hold:            9 * time.Second,
			Keepalive:       3 * time.Second,
			MD5:             true,
			GracefulRestart: true,
			LongLived:       time.Hour,
			Advertised4:     2,
			Advertised6:     1,
			Withheld:        "some",
		})
	w.routes.follow()
	duration := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	second := metav1.NewTime(time.Unix(1000, 0))
	want := v1beta1.SpeakerBGP{
		Count:        2,
		Established:  1,
		BootID:       "this boot",
		AddressCount: new(int32(0)),
		Sessions: []v1beta1.BGPSession{
			{Peer: "spine", State: v1beta1.BGPHeld, Since: second},
			{
				Peer:               "tor",
				State:              v1beta1.BGPEstablished,
				Since:              second,
				LocalAddress:       "192.0.2.1",
				RemoteAddress:      "192.0.2.254",
				LocalASN:           64512,
				PeerASN:            4200000001,
				Families:           []v1beta1.BGPFamily{"IPv4", "IPv6"},
				HoldTime:           duration(9 * time.Second),
				KeepaliveTime:      duration(3 * time.Second),
				AdvertisedIPv4:     2,
				AdvertisedIPv6:     1,
				Withheld:           "some",
				MD5:                true,
				GracefulRestart:    true,
				LongLivedStaleTime: duration(time.Hour),
			},
		},
	}
	if diff := cmp.Diff(want, w.object().BGP); diff != "" {
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
	list := w.sessions.object().Sessions
	if len(list) != v1beta1.MaxSpeakerAnnouncements || list[len(list)-1].Peer != "peer-299" {
		t.Errorf("%d are listed, the last of them %s", len(list), list[len(list)-1].Peer)
	}
}
