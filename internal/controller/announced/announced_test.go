package announced

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// bgpObjects returns a configuration of two pools, lan and dual, and of peers: "tor" and
// "spine" over IPv4, "six" over IPv6.
func bgpObjects(peers []string, ads ...v1beta1.BGPAdvertisement) config.Objects {
	o := config.Objects{
		Pools: []v1beta1.IPAddressPool{
			*controllertest.Pool("lan", 0, "192.0.2.0/24"),
			*controllertest.Pool("dual", 1, "198.51.100.0/24", "2001:db8::/120"),
		},
		BGPAdvertisements: ads,
		NodeLabels: map[string]map[string]string{
			"n1": {"rack": "1"},
			"n2": {"rack": "2"},
			"n3": {"rack": "2"},
		},
	}
	for _, name := range peers {
		o.BGPPeers = append(o.BGPPeers, *controllertest.BGPPeer(name, func(s *v1beta1.BGPPeerSpec) {
			s.PeerAddress = map[string]string{
				"tor":   "10.0.0.1",
				"spine": "10.0.0.2",
				"six":   "2001:db8:1::1",
			}[name]
		}))
	}
	return o
}

// says is a speaker that announces ranges, separated by spaces, and has sessions,
// each as "peer" or "peer/IPv4".
func says(node, ranges string, sessions ...string) speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: node}}
	s.Status.BGP.Addresses, s.Status.BGP.AddressCount = strings.Fields(ranges), new(int32(0))
	for _, text := range sessions {
		peer, families, limited := strings.Cut(text, "/")
		session := v1beta1.BGPSession{
			Peer:     peer,
			State:    v1beta1.BGPEstablished,
			Families: []v1beta1.BGPFamily{"IPv4", "IPv6"},
		}
		if limited {
			session.Families = []v1beta1.BGPFamily{v1beta1.BGPFamily(families)}
		}
		s.Status.BGP.Sessions = append(s.Status.BGP.Sessions, session)
	}
	return parseSpeaker(s)
}

// full is a speaker whose object has no room for more.
func full(s speaker) speaker {
	s.complete = false
	return s
}

// TestWhatBecomesOfAServiceByBGP: which nodes announce its addresses to how many
// sessions, or why none does.
func TestWhatBecomesOfAServiceByBGP(t *testing.T) {
	all := controllertest.BGPAdvertisement("all", nil)
	inRack := func(rack string) []metav1.LabelSelector {
		return []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": rack}}}
	}
	for _, test := range []struct {
		story     string
		peers     []string
		ads       []v1beta1.BGPAdvertisement
		addresses string
		speakers  []speaker
		reason    v1beta1.Reason // "" when BGP is not concerned
		says      []string
	}{
		{"announced from one node", []string{"tor"}, []v1beta1.BGPAdvertisement{all}, "192.0.2.7",
			[]speaker{says("n1", "192.0.2.7", "tor/IPv4")},
			v1beta1.ReasonAnnounced,
			[]string{"192.0.2.7: announced by BGP from 1 node (n1) to 1 session, by BGPAdvertisement all."}},
		{"from two, to two routers each",
			[]string{"tor", "spine"}, []v1beta1.BGPAdvertisement{all}, "192.0.2.7",
			[]speaker{
				says("n2", "192.0.2.0/28", "tor/IPv4", "spine/IPv4"),
				says("n1", "192.0.2.6-192.0.2.9", "tor/IPv4", "spine/IPv4"),
			},
			v1beta1.ReasonAnnounced, []string{"from 2 nodes (n1, n2) to 4 sessions"}},
		{"another node has no session", []string{"tor"}, []v1beta1.BGPAdvertisement{all}, "192.0.2.7",
			[]speaker{says("n1", "192.0.2.7", "tor/IPv4"), says("n3", "192.0.2.7")},
			v1beta1.ReasonAnnounced, []string{
				"from 1 node (n1) to 1 session", "Without an established session for it: 1 node (n3).",
			}},
		{"a session with a peer that is not asked does not count", []string{"tor", "spine"},
			[]v1beta1.BGPAdvertisement{controllertest.BGPAdvertisement(
				"some",
				func(s *v1beta1.BGPAdvertisementSpec) { s.Peers = []string{"tor"} },
			)}, "192.0.2.7",
			[]speaker{says("n1", "192.0.2.7", "tor/IPv4", "spine/IPv4")},
			v1beta1.ReasonAnnounced, []string{"to 1 session, by BGPAdvertisement some"}},
		{"nor one of a node that only another advertisement selects",
			[]string{"tor", "spine"}, []v1beta1.BGPAdvertisement{
				controllertest.BGPAdvertisement("one", func(s *v1beta1.BGPAdvertisementSpec) {
					s.Peers = []string{"tor"}
					s.NodeSelectors = inRack("1")
				}),
				controllertest.BGPAdvertisement("two", func(s *v1beta1.BGPAdvertisementSpec) {
					s.Peers = []string{"spine"}
					s.NodeSelectors = inRack("2")
				}),
			}, "192.0.2.7",
			[]speaker{
				says("n1", "192.0.2.7", "tor/IPv4", "spine/IPv4"),
				says("n2", "192.0.2.7", "tor/IPv4", "spine/IPv4"),
			},
			v1beta1.ReasonAnnounced,
			[]string{"from 2 nodes (n1, n2) to 2 sessions, by BGPAdvertisement one, two."}},
		{"both families alike",
			[]string{"tor", "six"}, []v1beta1.BGPAdvertisement{all}, "198.51.100.1 2001:db8::1",
			[]speaker{says("n1", "198.51.100.1 2001:db8::1", "tor/IPv4", "six/IPv6")},
			v1beta1.ReasonAnnounced,
			[]string{"198.51.100.1, 2001:db8::1: announced by BGP from 1 node (n1) to 1 session"}},
		{"an IPv6 address and sessions for IPv4",
			[]string{"tor"}, []v1beta1.BGPAdvertisement{all}, "198.51.100.1 2001:db8::1",
			[]speaker{says("n1", "198.51.100.1", "tor/IPv4")},
			v1beta1.ReasonNoPeerForFamily, []string{
				"198.51.100.1: announced by BGP",
				"2001:db8::1: no session for BGPAdvertisement all carries IPv6",
				"dualStackAddressFamily",
			}},
		{"the router does not take the family",
			[]string{"tor", "six"}, []v1beta1.BGPAdvertisement{all}, "2001:db8::1",
			[]speaker{says("n1", "2001:db8::1", "tor/IPv4", "six/IPv4")},
			v1beta1.ReasonNoSession,
			[]string{"no established session carries it; to be announced by BGP from 1 node (n1)"}},
		{"no session at all", []string{"tor"}, []v1beta1.BGPAdvertisement{all}, "192.0.2.7",
			[]speaker{says("n1", "192.0.2.7"), says("n2", "192.0.2.7")},
			v1beta1.ReasonNoSession, []string{"from 2 nodes (n1, n2)", "kubectl get bgppeers"}},
		{"no endpoint", []string{"tor"}, []v1beta1.BGPAdvertisement{all},
			"192.0.2.7", []speaker{says("n1", "", "tor/IPv4")},
			v1beta1.ReasonNoNodeAnnounces, []string{"ready endpoint"}},
		{"no peer", nil, []v1beta1.BGPAdvertisement{all},
			"192.0.2.7", []speaker{says("n1", "")}, v1beta1.ReasonPeerNotFound, []string{"all"}},
		{"BGP is not asked for",
			[]string{"tor"}, nil, "192.0.2.7", []speaker{says("n1", "", "tor/IPv4")}, "", nil},
		{"of no pool", []string{"tor"}, []v1beta1.BGPAdvertisement{all},
			"203.0.113.7", []speaker{says("n1", "", "tor/IPv4")}, "", nil},
		{"without an address", []string{"tor"}, []v1beta1.BGPAdvertisement{all}, "", nil, "", nil},
		{"other Services are asked for", []string{"tor"}, []v1beta1.BGPAdvertisement{
			controllertest.BGPAdvertisement("db", func(s *v1beta1.BGPAdvertisementSpec) {
				s.ServiceSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"app": "db"}}}
			}),
		}, "192.0.2.7", []speaker{says("n1", "", "tor/IPv4")}, "", nil},
		{"a node that is gone", []string{"tor"}, []v1beta1.BGPAdvertisement{all},
			"192.0.2.7", []speaker{says("n9", "192.0.2.7", "tor/IPv4")},
			v1beta1.ReasonNoNodeAnnounces, nil},
		{"some do not list all", []string{"tor"}, []v1beta1.BGPAdvertisement{all}, "192.0.2.7",
			[]speaker{says("n1", "192.0.2.7", "tor/IPv4"), full(says("n2", "192.0.2.9", "tor/IPv4"))},
			v1beta1.ReasonAnnounced, []string{
				"from 1 node (n1) to 1 session",
				"Perhaps from more: the Speaker objects of 1 node do not list all that they announce.",
			}},
		{"whether anybody does is not known", []string{"tor"}, []v1beta1.BGPAdvertisement{all}, "192.0.2.7",
			[]speaker{full(says("n2", "192.0.2.9", "tor/IPv4"))},
			v1beta1.ReasonNotListed, []string{"not known"}},
		{"trouble goes before what is not known",
			[]string{"tor"}, []v1beta1.BGPAdvertisement{all}, "192.0.2.7 2001:db8::1",
			[]speaker{full(says("n2", "192.0.2.9", "tor/IPv4"))},
			v1beta1.ReasonNoPeerForFamily, []string{"not known"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			objects := bgpObjects(test.peers, test.ads...)
			c, _ := config.Parse(objects, config.Config{}, controllertest.Birth)
			in := Input{config: &c, nodes: objects.NodeLabels, speakers: test.speakers}
			var addrs []netip.Addr
			for _, text := range strings.Fields(test.addresses) {
				addrs = append(addrs, netip.MustParseAddr(text))
			}
			in.services = []service{{key: controllertest.Key("web"), addresses: addrs}}
			got := Evaluate(in)[controllertest.Key("web")]
			if got.Reason != test.reason {
				t.Errorf("the reason is %q (%s), want %q", got.Reason, got.Message, test.reason)
			}
			for _, text := range test.says {
				if !strings.Contains(got.Message, text) {
					t.Errorf("the message is %q, want %q in it", got.Message, text)
				}
			}
		})
	}
}

// TestSpeakersThatDoNotListAll: those of a version that lists nothing, and those
// with more than they can list. One that has stopped has nothing.
func TestSpeakersThatDoNotListAll(t *testing.T) {
	var many []string
	for i := range v1beta1.MaxSpeakerAnnouncements {
		many = append(many, fmt.Sprintf("192.0.2.%d", i))
	}
	for _, test := range []struct {
		story string
		said  v1beta1.SpeakerBGP
		want  bool // it lists all
	}{
		{"nothing announced", v1beta1.SpeakerBGP{Count: 1, AddressCount: new(int32(0))}, true},
		{"some", v1beta1.SpeakerBGP{
			Count:        1,
			AddressCount: new(int32(2)),
			Addresses:    []string{"192.0.2.0/31"},
		}, true},
		{"as many as can be listed",
			v1beta1.SpeakerBGP{Count: 1, AddressCount: new(int32(300)), Addresses: many}, false},
		{"of a version that does not list any", v1beta1.SpeakerBGP{Count: 1}, false},
		{"of a version that lists what cannot be read",
			v1beta1.SpeakerBGP{Count: 1, AddressCount: new(int32(1)), Addresses: []string{"all"}}, false},
		{"stopped", v1beta1.SpeakerBGP{BootID: "boot"}, true},
	} {
		got := parseSpeaker(&v1beta1.Speaker{Status: v1beta1.SpeakerStatus{BGP: test.said}}).complete
		if got != test.want {
			t.Errorf("%s: it lists all: %v", test.story, got)
		}
	}
}

// TestCountsAgreeWithTheSlowWay: however speakers write down what they announce, an
// address counts once for each node that does, and each session of it that carries it.
func TestCountsAgreeWithTheSlowWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects := bgpObjects([]string{"tor", "six"}, controllertest.BGPAdvertisement("all", nil))
		c, _ := config.Parse(objects, config.Config{}, controllertest.Birth)
		in := Input{config: &c, nodes: objects.NodeLabels}
		address := rapid.Custom(func(t *rapid.T) netip.Addr {
			last := rapid.IntRange(1, 6).Draw(t, "host")
			if rapid.Bool().Draw(t, "IPv6") {
				return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", last))
			}
			return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", last))
		})
		for i := range rapid.IntRange(1, 4).Draw(t, "Services") {
			in.services = append(in.services, service{
				key:       controllertest.Key(fmt.Sprint("s", i)),
				addresses: []netip.Addr{address.Draw(t, "address")},
			})
		}
		announces := map[string][]netip.Addr{}
		sessions := map[string][]session{}
		for _, node := range []string{"n1", "n2", "n3"} {
			var set netipx.IPSetBuilder
			for _, addr := range rapid.SliceOf(address).Draw(t, "announced") {
				set.Add(addr)
				announces[node] = append(announces[node], addr)
			}
			ips, _ := set.IPSet()
			s := speaker{node: node, complete: true, announces: ips.Ranges()}
			for _, name := range []string{"tor", "six"} {
				if f := bgp.Families(rapid.IntRange(0, 3).Draw(t, "families")); f != 0 {
					s.sessions = append(s.sessions, session{name, f})
				}
			}
			sessions[node] = s.sessions
			in.speakers = append(in.speakers, s)
		}
		got := Evaluate(in)
		for _, s := range in.services {
			addr, nodes, count := s.addresses[0], 0, 0
			for node, list := range announces {
				n := 0
				for _, session := range sessions[node] {
					if session.families.Has(bgp.FamilyOf(addr)) {
						n++
					}
				}
				if slices.Contains(list, addr) && n > 0 {
					nodes, count = nodes+1, count+n
				}
			}
			if got := got[s.key]; got.announced() != (nodes > 0) {
				t.Fatalf("%s is said to be %s (%s), and %d nodes announce it",
					addr, got.Reason, got.Message, nodes)
			}
			want := fmt.Sprintf("from %s (", counted(nodes, "node"))
			if to := fmt.Sprintf("to %s,", counted(count, "session")); nodes > 0 &&
				(!strings.Contains(got[s.key].Message, want) || !strings.Contains(got[s.key].Message, to)) {
				t.Fatalf("%s says %q, want %q and %q", addr, got[s.key].Message, want, to)
			}
		}
	})
}

// TestServicesAreToldAtAPace: news at once, trouble that lasts, other numbers when
// they have been so for a while, and a few at a time.
func TestServicesAreToldAtAPace(t *testing.T) {
	at := func(seconds int) time.Time {
		return controllertest.Birth.Add(time.Duration(seconds) * time.Second)
	}
	state := func(text string) *Outcome {
		reason, message, _ := strings.Cut(text, " ")
		if reason == "" {
			return nil
		}
		return &Outcome{v1beta1.Reason(reason), message}
	}
	type step struct {
		at         int
		want, have string
		due        bool
		again      int // 0 for never
	}
	for _, test := range []struct {
		story string
		steps []step
	}{
		{"new and announced: at once",
			[]step{{0, "Announced by 1", "", true, 0}, {1, "Announced by 1", "", false, 0}}},
		{"new, and not announced yet",
			[]step{{0, "NoNodeAnnounces", "", false, 5}, {2, "Announced by 1", "", true, 0}}},
		{"new, and it stays so",
			[]step{{0, "NoNodeAnnounces", "", false, 5}, {5, "NoNodeAnnounces", "", true, 0}}},
		{"sessions that are back soon cost nothing", []step{
			{0, "Announced by 2", "Announced by 2", false, 0}, {1, "NoSession", "Announced by 2", false, 6},
			{4, "Announced by 2", "Announced by 2", false, 0}, {8, "NoSession", "Announced by 2", false, 13},
		}},
		{"other numbers wait", []step{
			{0, "Announced by 2", "Announced by 3", false, 30},
			{20, "Announced by 1", "Announced by 3", false, 30},
			{30, "Announced by 2", "Announced by 3", true, 0},
			{31, "Announced by 2", "Announced by 3", false, 0},
			{32, "Announced by 2", "Announced by 2", false, 0},
		}},
		{"what is over is told at once", []step{{0, "Announced by 2", "NoSession", true, 0}}},
		{"BGP has no part in it any more", []step{{0, "", "Announced by 2", true, 0}}},
		{"it never had", []step{{0, "", "", false, 0}}},
		{"what is on its way counts as told, until it is to be another", []step{
			{0, "Announced by 1", "", true, 0},
			{1, "Announced by 1", "", false, 0}, {2, "Announced by 2", "Announced by 1", false, 32},
			{3, "Announced by 1", "Announced by 1", false, 0},
		}},
	} {
		t.Run(test.story, func(t *testing.T) {
			p := newPacer()
			for _, s := range test.steps {
				due, again := p.decide(at(s.at),
					map[types.NamespacedName]*Outcome{controllertest.Key("web"): state(s.want)},
					map[types.NamespacedName]*Outcome{controllertest.Key("web"): state(s.have)})
				if (len(due) > 0) != s.due || s.again == 0 && !again.IsZero() ||
					s.again != 0 && !again.Equal(at(s.again)) {
					t.Errorf("at %d s: due %v, again %s, want %v and %d s", s.at, due, again, s.due, s.again)
				}
			}
		})
	}
	t.Run("thousands", func(t *testing.T) {
		p, want, have := newPacer(), map[types.NamespacedName]*Outcome{}, map[types.NamespacedName]*Outcome{}
		for i := range 1000 {
			want[controllertest.Key(fmt.Sprintf("s%03d", i))] = state("Announced by 2")
			have[controllertest.Key(fmt.Sprintf("s%03d", i))] = state("Announced by 1")
		}
		written := 0
		for second := range 300 {
			due, _ := p.decide(at(second), want, have)
			if len(due) > troubleRate {
				t.Fatalf("%d Services are written within a second", len(due))
			}
			for _, k := range due {
				have[k] = want[k]
			}
			if written += len(due); second < 30 && written > 0 {
				t.Fatalf("%d Services are written after %d s", written, second)
			}
		}
		if written != 1000 {
			t.Errorf("%d Services are written, want all, each once", written)
		}
	})
}

// BenchmarkWhatBecomesOfServices is 10,000 Services that 1,000 nodes announce.
func BenchmarkWhatBecomesOfServices(b *testing.B) {
	objects := bgpObjects([]string{"tor", "spine"}, controllertest.BGPAdvertisement("all", nil))
	objects.Pools = []v1beta1.IPAddressPool{*controllertest.Pool("lan", 0, "10.1.0.0/16")}
	in := Input{nodes: map[string]map[string]string{}}
	first := netip.MustParseAddr("10.1.0.0")
	addr := first
	for i := range 10000 {
		in.services = append(in.services,
			service{key: controllertest.Key(fmt.Sprint("s", i)), addresses: []netip.Addr{addr}})
		addr = addr.Next()
	}
	for i := range 1000 {
		name := fmt.Sprint("n", i)
		in.nodes[name] = nil
		in.speakers = append(in.speakers, speaker{
			node:      name,
			complete:  true,
			announces: []netipx.IPRange{netipx.IPRangeFrom(first, addr.Prev())},
			sessions:  []session{{"tor", bgp.IPv4}, {"spine", bgp.IPv4}},
		})
	}
	objects.NodeLabels = in.nodes
	c, _ := config.Parse(objects, config.Config{}, controllertest.Birth)
	in.config = &c
	for b.Loop() {
		if n := len(Evaluate(in)); n != 10000 {
			b.Fatal(n)
		}
	}
}
