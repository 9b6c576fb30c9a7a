package announcement

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// cordon and exclude change a node of lan: 0 is n1.
func cordon(i int) func(*Input)  { return func(in *Input) { in.Nodes[i].Cordoned = true } }
func exclude(i int) func(*Input) { return func(in *Input) { in.Nodes[i].Excluded = true } }

func advertise(spec v1beta1.L2AdvertisementSpec) func(*Input) {
	return func(in *Input) { in.Config = parsed(spec) }
}

func prefer(name string) func(*Input) {
	return advertise(v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{
		Weight:     1,
		Preference: selector("name", name)[0],
	}}})
}

// announcing is a node that announces already.
func announcing(in *Input) { in.Announcing = true }

// TestOwner tells who owns an address that may have an owner already. By
// hash, 192.0.2.1 goes to the node named byHash.
func TestOwner(t *testing.T) {
	in := lan()
	byHash := Decide(in).Owner
	others := []string{}
	for _, n := range in.Nodes {
		if n.Name != byHash {
			others = append(others, n.Name)
		}
	}
	first, second := others[0], others[1]
	next := Decide(func() Input { in := lan(); presence(byHash, Gone)(&in); return in }()).Owner
	immediate := advertise(v1beta1.L2AdvertisementSpec{Failback: v1beta1.FailbackImmediate})
	at := map[string]int{"n1": 0, "n2": 1, "n3": 2}
	for _, test := range []struct {
		story  string
		change func(*Input)
		owner  string
	}{
		{"without a claim the hash decides", all(), byHash},
		{"the present owner stays", claims(map[string]uint64{first: 1}), first},
		{"unless nodes take back what is theirs",
			all(immediate, claims(map[string]uint64{first: 1})), byHash},
		{"unless another is preferred", all(claims(map[string]uint64{first: 1}), prefer(second)), second},
		{"a preferred node stays against the hash",
			all(claims(map[string]uint64{first: 1}), prefer(first)), first},
		{"an owner that is gone is replaced by hash",
			all(claims(map[string]uint64{first: 1}), presence(first, Gone)), byHash},
		{"so is one that leaves", all(claims(map[string]uint64{first: 1}), presence(first, Leaving)), byHash},
		{"and one that is excluded", all(claims(map[string]uint64{first: 1}), exclude(at[first])), byHash},
		{"and one that is cordoned", all(claims(map[string]uint64{first: 1}), cordon(at[first])), byHash},
		{"where all are cordoned, the owner stays",
			all(claims(map[string]uint64{first: 1}), cordon(0), cordon(1), cordon(2)), first},
		{"an owner whose speaker restarts stays",
			all(claims(map[string]uint64{first: 1}), presence(first, Held)), first},
		{"also where nodes take back what is theirs",
			all(immediate, claims(map[string]uint64{byHash: 1}), presence(byHash, Held)), byHash},
		{"a preferred node that crashed does not get the address back before its speaker does",
			all(prefer(byHash), claims(map[string]uint64{byHash: 1, second: 2}),
				presence(byHash, Held)), second},
		{"nor does one that takes back what is its own",
			all(immediate, claims(map[string]uint64{byHash: 1, next: 2}), presence(byHash, Held)), next},
		{"a restarting speaker gets nothing new", presence(byHash, Held), next},
		{"of two claims the later one wins", claims(map[string]uint64{first: 3, second: 2}), first},
		{"of two equal ones the hash decides", claims(map[string]uint64{first: 3, byHash: 3}), byHash},
		{"a claim of the minority loses to an older one of the majority", func(in *Input) {
			in.Claims[first], in.Claims[second] = Claim{Generation: 7, Minority: true}, Claim{Generation: 3}
		}, second},
		{"of two claims of the minority the later one wins", func(in *Input) {
			in.Claims[first] = Claim{Generation: 7, Minority: true}
			in.Claims[byHash] = Claim{Generation: 3, Minority: true}
		}, first},
		{"a speaker that comes back does not beat who took over in the minority",
			all(presence(second, Held), func(in *Input) {
				in.Claims[first] = Claim{Generation: 7, Minority: true}
				in.Claims[second] = Claim{Generation: 3}
			}), first},
		{"nor one that died before", all(presence(second, Gone), func(in *Input) {
			in.Claims[first], in.Claims[second] = Claim{Generation: 7, Minority: true}, Claim{Generation: 9}
		}), first},
		{"one that is not heard keeps what it took from one that was cut off and is back",
			all(claims(map[string]uint64{first: 1, second: 2}), presence(second, Held)), second},
	} {
		t.Run(test.story, func(t *testing.T) {
			for _, n := range lan().Nodes {
				in := lan()
				in.Node = n.Name
				test.change(&in)
				if d := Decide(in); d.Owner != test.owner {
					t.Errorf("%s says %q (%s), want %s", n.Name, d.Owner, d.Message, test.owner)
				}
			}
		})
	}
}

// TestWhatTheNodeDoes tells what node n1 does and says.
func TestWhatTheNodeDoes(t *testing.T) {
	mine := claims(map[string]uint64{"n1": 4})
	taken := func(in *Input) {
		in.Probe = Probe{State: ProbeTaken, Holder: net.HardwareAddr{2, 0, 0, 0, 0, 99}}
	}
	for _, test := range []struct {
		story  string
		change func(*Input)
		reason v1beta1.Reason
		says   *Claim
		cause  v1beta1.Cause
	}{
		{"an address that was never announced is probed first",
			all(only("n1"), func(in *Input) { in.Probe = Probe{} }), v1beta1.ReasonProbing, nil, ""},
		{"while it is, nothing is announced", all(only("n1"), func(in *Input) {
			in.Probe.State = ProbeAsking
		}), v1beta1.ReasonProbing, nil, ""},
		{"one that is taken is not announced", all(only("n1"), taken), v1beta1.ReasonConflict, nil, ""},
		{"one that is free is claimed",
			only("n1"), v1beta1.ReasonOwner, &Claim{Generation: 1}, v1beta1.CauseFirst},
		{"one that was announced before is not probed again", all(only("n1"), func(in *Input) {
			in.Highest = 6
			in.Probe = Probe{}
		}), v1beta1.ReasonOwner, &Claim{Generation: 7}, v1beta1.CauseReturn},
		{"nor in a takeover", all(only("n1"), claims(map[string]uint64{"n2": 4}), func(in *Input) {
			in.Probe = Probe{}
		}), v1beta1.ReasonOwner, &Claim{Generation: 5}, v1beta1.CauseNodeGone},
		{"nor when this speaker was away for a moment", all(mine, func(in *Input) { in.Probe = Probe{} }),
			v1beta1.ReasonOwner, &Claim{Generation: 4}, v1beta1.CauseRestart},
		{"who announces goes on with its claim",
			all(mine, announcing), v1beta1.ReasonOwner, &Claim{Generation: 4}, ""},
		{"a takeover with few speakers in sight is one of the minority",
			all(only("n1"), claims(map[string]uint64{"n2": 4}), func(in *Input) {
				in.Minority = true
			}), v1beta1.ReasonOwner, &Claim{Generation: 5, Minority: true}, v1beta1.CauseNodeGone},
		{"what was taken with most in sight stays a claim of the majority",
			all(only("n1"), mine, announcing, func(in *Input) {
				in.Minority = true
			}), v1beta1.ReasonOwner, &Claim{Generation: 4}, ""},
		{"a claim of the minority is one of the majority once most are in sight",
			all(announcing, func(in *Input) {
				in.Claims["n1"] = Claim{Generation: 4, Minority: true}
			}), v1beta1.ReasonOwner, &Claim{Generation: 4}, ""},
		{"who wins against another claim goes above it", all(announcing, mine, func(in *Input) {
			in.Claims["n2"] = Claim{Generation: 9, Minority: true}
		}), v1beta1.ReasonOwner, &Claim{Generation: 10}, ""},
		{"one that another host had before", all(only("n1"), func(in *Input) {
			in.Probe.Holder = net.HardwareAddr{2, 0, 0, 0, 0, 99}
		}), v1beta1.ReasonOwner, &Claim{Generation: 1}, v1beta1.CauseConflictOver},
		{"a preferred node takes over from the owner", all(claims(map[string]uint64{"n2": 4}), prefer("n1")),
			v1beta1.ReasonOwner, &Claim{Generation: 5}, v1beta1.CausePreferred},
		{"a node takes over from one that is cordoned",
			all(claims(map[string]uint64{"n2": 4}), cordon(1), cordon(2)),
			v1beta1.ReasonOwner, &Claim{Generation: 5}, v1beta1.CauseHandOver},
		{"who is cordoned announces until another does",
			all(mine, announcing, cordon(0)), v1beta1.ReasonHandingOver, &Claim{Generation: 4}, ""},
		{"also when its own speaker leaves",
			all(mine, announcing, presence("n1", Leaving)),
			v1beta1.ReasonHandingOver, &Claim{Generation: 4}, ""},
		{"the new owner's claim ends it", all(mine, announcing, cordon(0),
			claims(map[string]uint64{"n2": 5, "n3": 5})), v1beta1.ReasonNotOwner, nil, ""},
		{"an old claim of the new owner does not", all(mine, announcing, cordon(0),
			claims(map[string]uint64{"n2": 3, "n3": 3})),
			v1beta1.ReasonHandingOver, &Claim{Generation: 4}, ""},
		{"it goes on for so long and no longer", all(mine, announcing, cordon(0), func(in *Input) {
			in.HandingOver = now.Add(-in.HandOver)
		}), v1beta1.ReasonNotOwner, nil, ""},
		{"without a link there is nothing to hand over", all(mine, announcing, func(in *Input) {
			s := in.Speakers["n1"]
			s.Links = nil
			in.Speakers["n1"] = s
		}), v1beta1.ReasonNotOwner, nil, ""},
		{"who does not announce has nothing to hand over",
			all(mine, cordon(0)), v1beta1.ReasonNotOwner, nil, ""},
		{"a node that has a link again asks first",
			all(mine, func(in *Input) { in.Returning = true }), v1beta1.ReasonReturning, nil, ""},
		{"who hears nobody leaves the address to one that has taken it",
			all(mine, announcing, func(in *Input) { in.YieldedTo = "n2" }), v1beta1.ReasonIsolated, nil, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			test.change(&in)
			d := Decide(in)
			if d.Reason != test.reason || d.Cause != test.cause {
				t.Errorf("reason %s, cause %q (%s); want %s, %q",
					d.Reason, d.Cause, d.Message, test.reason, test.cause)
			}
			if (d.Claim == nil) != (test.says == nil) || d.Claim != nil && *d.Claim != *test.says {
				t.Errorf("it says %+v, want %+v", d.Claim, test.says)
			}
			announces := test.reason == v1beta1.ReasonOwner || test.reason == v1beta1.ReasonHandingOver
			if d.Announce != announces {
				t.Errorf("announce = %v with reason %s", d.Announce, d.Reason)
			}
			if d.HandingOver != (test.reason == v1beta1.ReasonHandingOver) ||
				d.HandingOver != !d.Recheck.IsZero() {
				t.Errorf("handing over = %v, again at %s", d.HandingOver, d.Recheck)
			}
			asks := test.reason == v1beta1.ReasonProbing && in.Probe.State == ProbeNone
			if (len(d.Ask) > 0) != asks {
				t.Errorf("ask = %v", d.Ask)
			}
			if test.reason == v1beta1.ReasonConflict && !strings.Contains(d.Message, "02:00:00:00:00:63") {
				t.Errorf("the message does not name who has the address: %s", d.Message)
			}
		})
	}
}

// TestStandIn: while the owner's speaker is away, exactly one other answers,
// with the owner's hardware address on the link that they share.
func TestStandIn(t *testing.T) {
	answering := 0
	for _, name := range []string{"n1", "n3"} {
		in := lan()
		in.Node = name
		all(presence("n2", Held), claims(map[string]uint64{"n2": 4}))(&in)
		d := Decide(in)
		if d.Claim != nil || d.Owner != "n2" {
			t.Errorf("%s claims %+v, owner %s", name, d.Claim, d.Owner)
		}
		if !d.Announce {
			continue
		}
		answering++
		if d.Reason != v1beta1.ReasonStandIn || d.StandInFor != "n2" ||
			d.As["eth0"].String() != "02:00:00:00:00:0c" || strings.Join(d.Links, " ") != "eth0" {
			t.Errorf("%s answers with %+v", name, d)
		}
	}
	if answering != 1 {
		t.Errorf("%d nodes stand in", answering)
	}
	in := lan()
	all(presence("n2", Held), presence("n3", Gone), claims(map[string]uint64{"n2": 4}), func(in *Input) {
		for i := range in.Speakers["n1"].Links {
			in.Speakers["n1"].Links[i].Prefixes = nil
		}
		in.Speakers["n1"].Links[0] = link("eth0", "203.0.113.1/24")
	})(&in)
	if d := Decide(in); d.Announce {
		t.Errorf("a node on another LAN stands in: %+v", d)
	}
}

// TestEachLinkOfTheOwnerHasAStandIn: nodes have a management LAN, which comes first,
// and a service LAN. Who stands in answers where the owner does, with its hardware
// address there, and nowhere else.
func TestEachLinkOfTheOwnerHasAStandIn(t *testing.T) {
	nics := func(n byte) []links.Link {
		out := []links.Link{
			link("mgmt0", fmt.Sprintf("203.0.113.%d/24", n)),
			link("svc0", fmt.Sprintf("192.0.2.%d/24", n)),
			link("trunk0", ""),
		}
		for i := range out {
			out[i].HardwareAddr = net.HardwareAddr{2, 0, 0, 0, byte(i), n}
		}
		return out
	}
	for _, test := range []struct {
		story      string
		interfaces []string
		change     func(*Input)
		want       string // link and hardware address, of all stand-ins together
		alone      string // on which nobody can answer
	}{
		{story: "the subnet says where", want: "svc0 02:00:00:00:01:02"},
		{story: "the advertisement says where", interfaces: []string{"svc0"}, want: "svc0 02:00:00:00:01:02"},
		{
			story:      "on two LANs",
			interfaces: []string{"svc0", "mgmt0"},
			want:       "mgmt0 02:00:00:00:00:02, svc0 02:00:00:00:01:02",
		},
		{
			story:      "a trunk has no subnet that tells who else is there",
			interfaces: []string{"trunk0", "svc0"},
			want:       "svc0 02:00:00:00:01:02",
			alone:      "trunk0",
		},
		{story: "and nothing but a trunk", interfaces: []string{"trunk0"}, alone: "trunk0"},
		{
			story:      "only n3 is on the service LAN",
			interfaces: []string{"svc0", "mgmt0"},
			change: func(in *Input) {
				s := in.Speakers["n1"]
				s.Links = s.Links[:1]
				in.Speakers["n1"] = s
			},
			want: "mgmt0 02:00:00:00:00:02, svc0 02:00:00:00:01:02",
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			var got []string
			alone := ""
			for _, name := range []string{"n1", "n3"} {
				in := lan()
				in.Node = name
				in.Config = parsed(v1beta1.L2AdvertisementSpec{Interfaces: test.interfaces})
				for n, node := range []string{"n1", "n2", "n3"} {
					s := in.Speakers[node]
					s.Links = nics(byte(n + 1))
					in.Speakers[node] = s
				}
				all(presence("n2", Held), claims(map[string]uint64{"n2": 4}))(&in)
				if test.change != nil {
					test.change(&in)
				}
				d := Decide(in)
				for _, l := range d.Links {
					got = append(got, l+" "+d.As[l].String())
				}
				if len(d.Links) != len(d.As) {
					t.Errorf("%s answers on %v as %v", name, d.Links, d.As)
				}
				if _, tail, found := strings.Cut(d.Message, "Nobody can answer in its place on "); found {
					alone, _, _ = strings.Cut(tail, ",")
				}
			}
			slices.Sort(got)
			if strings.Join(got, ", ") != test.want || alone != test.alone {
				t.Errorf("stand-ins answer on %q, nobody can on %q; want %q and %q",
					got, alone, test.want, test.alone)
			}
		})
	}
}

// TestPolicy: of several advertisements the most eager counts, and one that
// says nothing changes nothing.
func TestPolicy(t *testing.T) {
	said := func(count int32, interval, refresh time.Duration) v1beta1.L2AdvertisementSpec {
		return v1beta1.L2AdvertisementSpec{Announcement: &v1beta1.AnnouncementPolicy{
			Count:           count,
			Interval:        &metav1.Duration{Duration: interval},
			RefreshInterval: &metav1.Duration{Duration: refresh},
		}}
	}
	nothing := v1beta1.L2AdvertisementSpec{}
	for _, test := range []struct {
		story string
		ads   []v1beta1.L2AdvertisementSpec
		want  config.AnnouncementPolicy
	}{
		{"nothing is said", []v1beta1.L2AdvertisementSpec{nothing}, config.AnnouncementPolicy{}},
		{"one says something",
			[]v1beta1.L2AdvertisementSpec{nothing, said(3, time.Second, time.Hour), nothing},
			config.AnnouncementPolicy{Count: 3, Interval: time.Second, Refresh: time.Hour}},
		{"several do",
			[]v1beta1.L2AdvertisementSpec{
				said(3, time.Second, time.Minute),
				said(9, 2*time.Second, time.Hour),
			},
			config.AnnouncementPolicy{Count: 9, Interval: time.Second, Refresh: time.Minute}},
		{"never is the least eager",
			[]v1beta1.L2AdvertisementSpec{said(3, time.Second, 0), said(3, time.Second, time.Hour)},
			config.AnnouncementPolicy{Count: 3, Interval: time.Second, Refresh: time.Hour}},
		{"all say never", []v1beta1.L2AdvertisementSpec{said(3, time.Second, 0), nothing},
			config.AnnouncementPolicy{Count: 3, Interval: time.Second, Refresh: -1}},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			in.Config = parsed(test.ads...)
			if got := Decide(in).Policy; got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestPromiscuous: one of several advertisements is enough, for a stand-in too.
func TestPromiscuous(t *testing.T) {
	wants := v1beta1.L2AdvertisementSpec{Promiscuous: true}
	for _, test := range []struct {
		story string
		ads   []v1beta1.L2AdvertisementSpec
		want  bool
	}{
		{"nobody wants it", []v1beta1.L2AdvertisementSpec{{}}, false},
		{"one of two does", []v1beta1.L2AdvertisementSpec{{}, wants}, true},
		{"one for other pools does",
			[]v1beta1.L2AdvertisementSpec{{}, {Promiscuous: true, IPAddressPools: []string{"other"}}}, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			in.Config = parsed(test.ads...)
			all(only("n1", "n2"), claims(map[string]uint64{"n2": 4}), presence("n2", Held))(&in)
			if d := Decide(in); d.StandInFor != "n2" || d.Promiscuous != test.want {
				t.Errorf("stands in for %q, promiscuous: %t", d.StandInFor, d.Promiscuous)
			}
		})
	}
}

// TestWhoHasLostTheLANHandsNothingOver: what is left to n1 is a link on another LAN,
// where the address must not be seen.
func TestWhoHasLostTheLANHandsNothingOver(t *testing.T) {
	in := lan()
	all(only("n1", "n2"), claims(map[string]uint64{"n1": 4}))(&in)
	in.Announcing = true
	s := in.Speakers["n1"]
	s.Links = s.Links[1:]
	in.Speakers["n1"] = s
	if d := Decide(in); d.Announce || d.Owner != "n2" || d.Reason != v1beta1.ReasonNotOwner {
		t.Errorf("announces on %v: %s, %s", d.Links, d.Reason, d.Message)
	}
	in.Speakers["n2"] = Speaker{Presence: Present, Links: []links.Link{link("eth0", "203.0.113.2/24")}}
	if d := Decide(in); !d.Announce {
		t.Errorf("in nobody's subnet: %s, %s", d.Reason, d.Message)
	}
}
