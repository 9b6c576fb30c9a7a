package announcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

// mannered returns a station that answers for an address in this manner.
func mannered(manner Manner, addr netip.Addr) station {
	s := ourStation(addr)
	s.lookup = func(a netip.Addr) (answering, bool) { return answering{manner: manner}, a == addr }
	return s
}

// TestWhoLingersAnswersWhoKnowsIt: only what was sent to this link alone is answered, by ARP and by NDP;
// claims of strangers are noticed all the same.
func TestWhoLingersAnswersWhoKnowsIt(t *testing.T) {
	arp, ns := arpRequest(t, client4, vip4), solicit(t, solicitation{})
	for _, tt := range []struct {
		story         string
		addr          netip.Addr
		frame         []byte
		lingers, open Verdict
	}{
		{"a client asks all", vip4, arp, LeftToOwner, Answered},
		{"a client verifies what it knows", vip4, at(arp, 0, ourMAC...), Answered, Answered},
		{"a host probes", vip4, arpRequest(t, netip.IPv4Unspecified(), vip4), LeftToOwner, Answered},
		{"a stranger claims the address", vip4, arpRequest(t, vip4, vip4), ForeignClaim, ForeignClaim},
		{"the new owner announces it", vip4, at(arpRequest(t, vip4, vip4), 22, memberMAC...),
			MemberClaim, MemberClaim},
		{"an IPv6 client asks the group", vip6, ns, LeftToOwner, Answered},
		{"an IPv6 client verifies what it knows", vip6,
			solicit(t, solicitation{Destination: vip6, ToMAC: ourMAC, NoOption: true}), Answered, Answered},
		{"duplicate address detection", vip6,
			solicit(t, solicitation{Source: netip.IPv6Unspecified(), NoOption: true}), LeftToOwner, Answered},
		{"a stranger advertises the address", vip6, advertise(t, advertisement{}),
			ForeignClaim, ForeignClaim},
	} {
		t.Run(tt.story, func(t *testing.T) {
			for manner, want := range map[Manner]Verdict{
				Lingering: tt.lingers,
				Quietly:   tt.open,
				Openly:    tt.open,
			} {
				got := handle(tt.frame, mannered(manner, tt.addr))
				if got.verdict != want || (got.reply != nil) != (want == Answered) {
					t.Errorf("manner %d: %s with a reply of %d bytes, want %s",
						manner, got.verdict, len(got.reply), want)
				}
			}
		})
	}
}

// TestAnswersThatYield: an advertisement of a node that lingers replaces nothing; nor does one to all nodes
// of an owner that is quiet. A host that asks the group is told where the owner is.
func TestAnswersThatYield(t *testing.T) {
	verifies := solicit(t, solicitation{Destination: vip6, ToMAC: ourMAC, NoOption: true})
	asks := solicit(t, solicitation{})
	probes := solicit(t, solicitation{Source: netip.IPv6Unspecified(), NoOption: true})
	for _, tt := range []struct {
		story    string
		manner   Manner
		frame    []byte
		override bool
	}{
		{"lingering, to who verifies", Lingering, verifies, false},
		{"quietly, to who asks", Quietly, asks, true},
		{"quietly, to who verifies", Quietly, verifies, true},
		{"quietly, to all nodes", Quietly, probes, false},
		{"openly, to all nodes", Openly, probes, true},
	} {
		t.Run(tt.story, func(t *testing.T) {
			got := handle(tt.frame, mannered(tt.manner, vip6))
			parsed, err := ndp.ParseMessage(got.reply[14+40:])
			if err != nil {
				t.Fatal(err)
			}
			if na := parsed.(*ndp.NeighborAdvertisement); na.Override != tt.override {
				t.Errorf("override %v, want %v", na.Override, tt.override)
			}
		})
	}
}

// TestAQuietOwnerAnnouncesWhenTheOtherHasCeased: nothing is sent unasked for as long as it is quiet, also by
// a new generation or policy; then there is a burst.
func TestAQuietOwnerAnnouncesWhenTheOtherHasCeased(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, Request{Links: []string{"eth0"}, Manner: Quietly, Generation: 1})
		pause(10 * time.Minute)
		a.Set(vip4, Request{Links: []string{"eth0"}, Manner: Quietly, Generation: 2})
		pause(10 * time.Minute)
		a.Set(vip4, Request{
			Links:      []string{"eth0"},
			Manner:     Quietly,
			Generation: 2,
			Policy:     Policy{Refresh: time.Minute},
		})
		pause(10 * time.Minute)
		if got := s.frames(); len(got) > 0 {
			t.Fatalf("%d frames while it is quiet, the first after %s", len(got), got[0].after)
		}
		if !s.opened(t).ask(arpRequest(t, client4, vip4)) {
			t.Error("a client that asks is not answered")
		}
		if state := a.State(); len(state) != 1 || state[0].Since.IsZero() || !state[0].Announced.IsZero() ||
			state[0].Manner != Quietly {
			t.Errorf("state %+v", state)
		}
		s.frames()
		s.start = time.Now()
		a.Set(vip4, Request{Links: []string{"eth0"}, Generation: 2})
		pause(3 * time.Second)
		if got := s.times(); len(got) != 5 || got[0] > 10*ms {
			t.Errorf("announced at %v, want five times, the first at once", got)
		}
	})
}

// TestWhoLingersSendsNothingUnasked: nothing of the burst is left, and a stranger's claim is not defended
// against; the owner does that.
func TestWhoLingersSendsNothingUnasked(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(100 * ms)
		s.frames()
		a.Set(vip4, Request{Links: []string{"eth0"}, Manner: Lingering})
		socket := s.opened(t)
		if socket.ask(arpRequest(t, client4, vip4)) {
			t.Error("a client that asks all is answered")
		}
		if !socket.ask(at(arpRequest(t, client4, vip4), 0, socket.spec.Link.HardwareAddr...)) {
			t.Error("a client that verifies is not answered")
		}
		s.frames()
		socket.ask(arpRequest(t, vip4, vip4))
		if got := a.Conflicts(); len(got) != 1 || got[0].Member {
			t.Errorf("conflicts %+v, want the stranger's", got)
		}
		pause(time.Hour)
		if got := s.frames(); len(got) > 0 {
			t.Errorf("%d frames unasked", len(got))
		}
	})
}

// TestAQuietOwnerDefends: a stranger's claim is worse than what a defence does to connections.
func TestAQuietOwnerDefends(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, Request{Links: []string{"eth0"}, Manner: Quietly})
		pause(time.Second)
		s.opened(t).ask(arpRequest(t, vip4, vip4))
		pause(time.Minute)
		if got := s.times(); len(got) != 1 {
			t.Errorf("announced %d times, want once", len(got))
		}
	})
}
