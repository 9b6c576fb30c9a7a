package bgp

import (
	"flag"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Random runs leave no files behind: the seed that a failure prints is enough
// to repeat it.
func init() {
	for name, value := range map[string]string{"rapid.checks": "300", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func communities(texts ...string) []Community {
	var out []Community
	for _, text := range texts {
		c, err := ParseCommunity(text)
		if err != nil {
			panic(err)
		}
		out = append(out, c)
	}
	return out
}

// ad is an advertisement that was made so many hours after the others.
func ad(name string, age int, change func(*Advertisement)) *Advertisement {
	a := &Advertisement{
		Name:    name,
		Created: time.Unix(0, 0).Add(time.Duration(age) * time.Hour),
		Length4: 32,
		Length6: 128,
	}
	if change != nil {
		change(a)
	}
	return a
}

// written is a plan as lines: "peer prefix attributes".
func written(plan []Desired) []string {
	var out []string
	for _, d := range plan {
		for _, r := range d.Routes {
			out = append(out, d.Peer.Name+" "+writtenRoute(r))
		}
	}
	return out
}

func writtenRoute(r Route) string {
	text := r.Prefix.String()
	if r.LocalPref != 0 {
		text += fmt.Sprintf(" pref=%d", r.LocalPref)
	}
	if r.HasMED {
		text += fmt.Sprintf(" med=%d", r.MED)
	}
	if r.Prepend != 0 {
		text += fmt.Sprintf(" prepend=%d", r.Prepend)
	}
	for _, c := range r.Communities {
		text += " " + c.String()
	}
	return text
}

// TestUncarried: where no peer carries the family of an address, all that would be
// told of it have it among the uncarried; where one does, none has.
func TestUncarried(t *testing.T) {
	four, six := Peer{Name: "four", Families: IPv4}, Peer{Name: "six", Families: IPv6}
	both := Peer{Name: "both", Families: DualStack}
	all := ad("all", 0, nil)
	only := func(peers ...string) *Advertisement {
		return ad("only", 1, func(a *Advertisement) { a.Peers = peers })
	}
	address := func(text string, ads ...*Advertisement) Address {
		return Address{Address: ip(text), Advertisements: ads}
	}
	for _, test := range []struct {
		story     string
		peers     []Peer
		addresses []Address
		want      string
	}{
		{"nothing to announce", []Peer{four}, nil, ""},
		{"IPv4 over IPv4", []Peer{four}, []Address{address("192.0.2.1", all)}, ""},
		{"IPv6 over IPv4", []Peer{four}, []Address{address("192.0.2.1", all), address("2001:db8::1", all)},
			"four IPv6"},
		{"each by its own", []Peer{four, six}, []Address{address("192.0.2.1", all),
			address("2001:db8::1", all)}, ""},
		{"one for both beside", []Peer{four, both}, []Address{address("2001:db8::1", all)}, ""},
		{"the one for both is not asked", []Peer{both, four}, []Address{address("2001:db8::1", only("four"))},
			"four IPv6"},
		{"of two addresses one", []Peer{both, four},
			[]Address{address("2001:db8::1", only("four")), address("2001:db8::2", all)}, "four IPv6"},
		{"neither family", []Peer{four, six}, []Address{address("2001:db8::1", only("four")),
			address("192.0.2.1", only("six"))}, "four IPv6, six IPv4"},
		{"who is not asked has nothing to carry", []Peer{four, {Name: "other", Families: IPv4}},
			[]Address{address("2001:db8::1", only("four"))}, "four IPv6"},
	} {
		var got []string
		for _, d := range Plan(time.Unix(0, 0), test.peers, test.addresses).Desired {
			if d.Uncarried != 0 {
				got = append(got, d.Peer.Name+" "+d.Uncarried.String())
			}
			if d.Families()&^d.Peer.Families != 0 {
				t.Errorf("%s: %s has routes of %s", test.story, d.Peer.Name, d.Families())
			}
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%s: uncarried are %q, want %q", test.story, got, test.want)
		}
	}
}

func TestPlan(t *testing.T) {
	external := Peer{Name: "ext", LocalASN: 64512, PeerASN: 64513, Families: IPv4}
	internal := Peer{Name: "int", LocalASN: 64512, PeerASN: 64512, Families: DualStack}
	any4 := Peer{Name: "any", LocalASN: 4200000001, Families: IPv4}
	plain := ad("plain", 0, nil)
	wide := ad("wide", 1, func(a *Advertisement) { a.Length4, a.Length6 = 24, 64 })
	for _, test := range []struct {
		story     string
		peers     []Peer
		addresses []Address
		want      []string
		conflicts []string
	}{
		{"nothing to announce", []Peer{external}, nil, nil, nil},
		{"nobody selects the address", []Peer{external}, []Address{{Address: ip("192.0.2.1")}}, nil, nil},
		{"one prefix for each address, to each peer that carries the family",
			[]Peer{internal, external}, []Address{
				{Address: ip("2001:db8::1"), Advertisements: []*Advertisement{plain}},
				{Address: ip("192.0.2.1"), Advertisements: []*Advertisement{plain}},
			},
			[]string{"ext 192.0.2.1/32", "int 192.0.2.1/32", "int 2001:db8::1/128"}, nil},
		{"addresses of one aggregate make one route",
			[]Peer{internal}, []Address{
				{Address: ip("192.0.2.1"), Advertisements: []*Advertisement{wide}},
				{Address: ip("192.0.2.200"), Advertisements: []*Advertisement{wide}},
				{Address: ip("192.0.3.1"), Advertisements: []*Advertisement{wide}},
				{Address: ip("2001:db8::1"), Advertisements: []*Advertisement{wide}},
			},
			[]string{"int 192.0.2.0/24", "int 192.0.3.0/24", "int 2001:db8::/64"}, nil},
		{"an aggregate beside the address itself",
			[]Peer{external}, []Address{{Address: ip("192.0.2.0"),
				Advertisements: []*Advertisement{wide, plain}}},
			[]string{"ext 192.0.2.0/24", "ext 192.0.2.0/32"}, nil},
		{"only to the peers that are named",
			[]Peer{external, internal}, []Address{{Address: ip("192.0.2.1"), Advertisements: []*Advertisement{
				ad("a", 0, func(a *Advertisement) { a.Peers = []string{"int", "nobody"} })}}},
			[]string{"int 192.0.2.1/32"}, nil},
		{"localPref is for internal peers, prepending for external ones, med for all",
			[]Peer{any4, external, internal}, []Address{{Address: ip("192.0.2.1"),
				Advertisements: []*Advertisement{
					ad("a", 0, func(a *Advertisement) { a.LocalPref, a.Prepend, a.HasMED = 300, 2, true })}}},
			[]string{"any 192.0.2.1/32 med=0 prepend=2", "ext 192.0.2.1/32 med=0 prepend=2",
				"int 192.0.2.1/32 pref=300 med=0"}, nil},
		{"communities are united, sorted, each once",
			[]Peer{external}, []Address{{Address: ip("192.0.2.1"), Advertisements: []*Advertisement{
				ad("b", 1, func(a *Advertisement) {
					a.Communities = communities("large:1:2:3", "1:2", "rt:1:1")
				}),
				ad("a", 0, func(a *Advertisement) { a.Communities = communities("1:2", "0:9") })}}},
			[]string{"ext 192.0.2.1/32 0:9 1:2 rt:1:1 large:1:2:3"}, nil},
		{"of two values the older advertisement's counts, and the younger is told",
			[]Peer{internal, external}, []Address{{Address: ip("192.0.2.1"), Advertisements: []*Advertisement{
				ad("a", 2, func(a *Advertisement) {
					a.LocalPref = 100
					a.MED = 7
					a.HasMED = true
					a.Prepend = 1
				}),
				ad("b", 1, func(a *Advertisement) {
					a.LocalPref = 200
					a.MED = 7
					a.HasMED = true
					a.Prepend = 3
				})}}},
			[]string{"ext 192.0.2.1/32 med=7 prepend=3", "int 192.0.2.1/32 pref=200 med=7"},
			[]string{"ext 192.0.2.1/32 asPathPrepend b a", "int 192.0.2.1/32 localPref b a"}},
		{"of the same age the name decides; what one does not set is another's",
			[]Peer{internal}, []Address{{Address: ip("192.0.2.1"), Advertisements: []*Advertisement{
				ad("c", 0, func(a *Advertisement) { a.LocalPref = 3 }), ad("a", 0, nil),
				ad("b", 0, func(a *Advertisement) { a.LocalPref = 2 })}}},
			[]string{"int 192.0.2.1/32 pref=2"}, []string{"int 192.0.2.1/32 localPref b c"}},
		{"weights are in proportion to endpoints, and never nothing",
			[]Peer{external}, []Address{
				{
					Address:        ip("192.0.2.1"),
					Endpoints:      1,
					Advertisements: []*Advertisement{ad("a", 0, func(a *Advertisement) { a.Weight = true })},
				},
				{
					Address:        ip("192.0.2.2"),
					Endpoints:      3,
					Advertisements: []*Advertisement{ad("a", 0, func(a *Advertisement) { a.Weight = true })},
				},
				{
					Address:        ip("192.0.2.3"),
					Endpoints:      0,
					Advertisements: []*Advertisement{ad("a", 0, func(a *Advertisement) { a.Weight = true })},
				},
			},
			[]string{
				"ext 192.0.2.1/32 " + LinkBandwidth(64512, 10e6).String(),
				"ext 192.0.2.2/32 " + LinkBandwidth(64512, 30e6).String(),
				"ext 192.0.2.3/32 " + LinkBandwidth(64512, 1e6).String(),
			}, nil},
		{"an aggregate has the weight of all its addresses, each counted once; a large AS number is AS_TRANS",
			[]Peer{any4}, []Address{
				{
					Address:   ip("192.0.2.1"),
					Endpoints: 1,
					Advertisements: []*Advertisement{wide,
						ad("w", 2, func(a *Advertisement) { a.Weight, a.Length4 = true, 24 })},
				},
				{Address: ip("192.0.2.2"), Endpoints: 2, Advertisements: []*Advertisement{wide}},
			},
			[]string{"any 192.0.2.0/24 " + LinkBandwidth(23456, 30e6).String()}, nil},
		{"more endpoints than fit are as many as fit",
			[]Peer{external}, []Address{{
				Address:        ip("192.0.2.1"),
				Endpoints:      math.MaxInt32,
				Advertisements: []*Advertisement{ad("a", 0, func(a *Advertisement) { a.Weight = true })},
			}},
			[]string{"ext 192.0.2.1/32 " + LinkBandwidth(64512, 4e9).String()}, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			planned := Plan(time.Unix(0, 0), test.peers, test.addresses)
			plan, conflicts := planned.Desired, planned.Conflicts
			if diff := cmp.Diff(test.want, written(plan)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			var told []string
			for _, c := range conflicts {
				told = append(told, strings.Join([]string{c.Peer, c.Prefix.String(), c.Field, c.Kept,
					c.Ignored}, " "))
			}
			if diff := cmp.Diff(test.conflicts, told); diff != "" {
				t.Errorf("conflicts: -want +got:\n%s", diff)
			}
			if len(plan) != len(test.peers) {
				t.Errorf("%d peers of %d: a peer without routes has a session too", len(plan),
					len(test.peers))
			}
		})
	}
}

// world draws peers, advertisements and addresses that have much in common.
func world(t *rapid.T, label string) ([]Peer, []Address) {
	var peers []Peer
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"p", "q", "r"}), rapid.ID).Draw(t,
		label+" peers") {
		peers = append(peers, Peer{
			Name:     name,
			LocalASN: 1,
			PeerASN:  rapid.Uint32Range(0, 2).Draw(t, "asn"),
			Families: rapid.SampledFrom([]Families{IPv4, IPv6, DualStack}).Draw(t, "families"),
			Password: NewPassword(rapid.SampledFrom([]string{"", "x"}).Draw(t, "password")),
			Connect:  time.Duration(rapid.IntRange(1, 2).Draw(t, "connect")) * time.Second,
			NextHop6: rapid.SampledFrom([]netip.Addr{{}, ip("2001:db8::9")}).Draw(t, "next hop"),
		})
	}
	var ads []*Advertisement
	for i := range rapid.IntRange(1, 4).Draw(t, "ads") {
		ads = append(ads, ad(fmt.Sprint("a", i), rapid.IntRange(0, 2).Draw(t, "age"), func(a *Advertisement) {
			a.Length4, a.Length6 = rapid.IntRange(29, 32).Draw(t, "4"), rapid.IntRange(125, 128).Draw(t, "6")
			a.LocalPref, a.Prepend = rapid.Uint32Range(0, 2).Draw(t, "pref"), rapid.IntRange(0, 2).Draw(t,
				"prepend")
			a.HasMED, a.Weight = rapid.Bool().Draw(t, "has med"), rapid.Bool().Draw(t, "weight")
			a.Communities = rapid.SliceOfN(rapid.SampledFrom(communities("1:1", "1:2", "large:1:1:1")), 0,
				2).Draw(t, "communities")
			a.Peers = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"p", "q"}), 0, 2, rapid.ID).Draw(t,
				"to")
		}))
	}
	var addresses []Address
	all := []netip.Addr{ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.9"), ip("2001:db8::1"),
		ip("2001:db8::8")}
	for _, addr := range rapid.SliceOfDistinct(rapid.SampledFrom(all), rapid.ID).Draw(t, label+" addresses") {
		addresses = append(addresses, Address{
			Address:        addr,
			Endpoints:      rapid.IntRange(0, 3).Draw(t, "endpoints"),
			Advertisements: rapid.SliceOfDistinct(rapid.SampledFrom(ads), rapid.ID).Draw(t, "selected by"),
		})
	}
	return peers, addresses
}

// oracle says of one prefix and peer what Plan should, by looking at every
// address again and again.
func oracle(peer Peer, at netip.Prefix, addresses []Address) (Route, bool) {
	var ads []*Advertisement
	endpoints := 0
	for _, a := range addresses {
		counts := false
		for _, ad := range a.Advertisements {
			length := map[bool]int{true: ad.Length4, false: ad.Length6}[a.Address.Is4()]
			if p, _ := a.Address.Prefix(length); p != at {
				continue
			}
			counts = true
			if len(ad.Peers) == 0 || slices.Contains(ad.Peers, peer.Name) {
				ads = append(ads, ad)
			}
		}
		if counts {
			endpoints += a.Endpoints
		}
	}
	if len(ads) == 0 || at.Addr().Is4() && peer.Families == IPv6 || at.Addr().Is6() && peer.Families == IPv4 {
		return Route{}, false
	}
	oldest := func(sets func(*Advertisement) bool) *Advertisement {
		var best *Advertisement
		for _, a := range ads {
			if sets(a) && (best == nil || a.Created.Before(best.Created) || a.Created.Equal(best.Created) &&
				a.Name < best.Name) {
				best = a
			}
		}
		return best
	}
	r := Route{Prefix: at}
	has := map[Community]bool{}
	for _, a := range ads {
		for _, c := range a.Communities {
			has[c] = true
		}
		if a.Weight {
			per := float32(endpoints) * 10e6
			if endpoints == 0 {
				per = 1e6
			}
			has[LinkBandwidth(peer.LocalASN, per)] = true
		}
	}
	for c := range has {
		r.Communities = append(r.Communities, c)
	}
	slices.SortFunc(r.Communities, Community.Compare)
	a := oldest(func(a *Advertisement) bool { return a.LocalPref > 0 })
	if a != nil && peer.PeerASN == peer.LocalASN {
		r.LocalPref = a.LocalPref
	}
	a = oldest(func(a *Advertisement) bool { return a.Prepend > 0 })
	if a != nil && peer.PeerASN != peer.LocalASN {
		r.Prepend = a.Prepend
	}
	if a := oldest(func(a *Advertisement) bool { return a.HasMED }); a != nil {
		r.MED, r.HasMED = a.MED, true
	}
	return r, true
}

func TestPlanAgreesWithTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers, addresses := world(t, "")
		plan := Plan(time.Unix(0, 0), peers, addresses).Desired
		for _, d := range plan {
			var want []string
			seen := map[netip.Prefix]bool{}
			for _, a := range addresses {
				for bits := range 129 {
					at, err := a.Address.Prefix(bits)
					if err != nil || seen[at] {
						continue
					}
					seen[at] = true
					if r, announced := oracle(d.Peer, at, addresses); announced {
						want = append(want, writtenRoute(r))
					}
				}
			}
			var got []string
			for _, r := range d.Routes {
				got = append(got, writtenRoute(r))
			}
			if !slices.IsSortedFunc(d.Routes,
				func(a, b Route) int { return comparePrefix(a.Prefix, b.Prefix) }) {
				t.Fatalf("not sorted: %v", got)
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%+v: -want +got:\n%s", d.Peer, diff)
			}
		}
	})
}

// TestDiffLeadsThere: whoever does what Diff says has what Plan wants, and
// does nothing needless.
func TestDiffLeadsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fromPeers, fromAddresses := world(t, "from")
		from := Plan(time.Unix(0, 0), fromPeers, fromAddresses).Desired
		toPeers, toAddresses := world(t, "to")
		to := Plan(time.Unix(0, 0), toPeers, toAddresses).Desired
		type session struct {
			peer   Peer
			routes map[netip.Prefix]Route
		}
		have := map[string]session{}
		for _, d := range from {
			s := session{d.Peer, map[netip.Prefix]Route{}}
			for _, r := range d.Routes {
				s.routes[r.Prefix] = r
			}
			have[d.Peer.Name] = s
		}
		for _, c := range Diff(from, to) {
			s, existed := have[c.Peer.Name]
			switch {
			case c.Action == Start == existed:
				t.Fatalf("%s of %s, which existed: %v", c.Action, c.Peer.Name, existed)
			case c.Action == Stop:
				delete(have, c.Peer.Name)
				continue
			case c.Action != Keep:
				s.routes = map[netip.Prefix]Route{}
			case len(c.Announce)+len(c.Withdraw) == 0 && s.peer == c.Peer:
				t.Fatalf("nothing to do for %s", c.Peer.Name)
			}
			for _, p := range c.Withdraw {
				if _, there := s.routes[p]; c.Action == Keep && !there {
					t.Fatalf("withdraws %s, which was not announced", p)
				}
				delete(s.routes, p)
			}
			if s.routes == nil {
				s.routes = map[netip.Prefix]Route{}
			}
			for _, r := range c.Announce {
				if old, there := s.routes[r.Prefix]; there && old.Equal(r) && s.peer == c.Peer {
					t.Fatalf("announces %s again", r.Prefix)
				}
				s.routes[r.Prefix] = r
			}
			s.peer = c.Peer
			have[c.Peer.Name] = s
		}
		if len(have) != len(to) {
			t.Fatalf("%d peers instead of %d", len(have), len(to))
		}
		for _, d := range to {
			s := have[d.Peer.Name]
			if s.peer != d.Peer || len(s.routes) != len(d.Routes) {
				t.Fatalf("%s: %d routes instead of %d", d.Peer.Name, len(s.routes), len(d.Routes))
			}
			for _, r := range d.Routes {
				if !s.routes[r.Prefix].Equal(r) {
					t.Fatalf("%s: %v instead of %v", d.Peer.Name, s.routes[r.Prefix], r)
				}
			}
		}
		if again := Diff(to, to); len(again) != 0 {
			t.Fatalf("the same again needs %v", again)
		}
	})
}

func TestWhatNeedsAReset(t *testing.T) {
	base := Peer{
		Name:     "p",
		LocalASN: 1,
		PeerASN:  2,
		Address:  ip("192.0.2.1"),
		Families: IPv4,
		Hold:     9 * time.Second,
	}
	routes := []Route{{Prefix: netip.MustParsePrefix("192.0.2.9/32")}}
	for _, test := range []struct {
		story  string
		change func(*Peer)
		want   Action
		field  string
		routes int
	}{
		{"another AS number", func(p *Peer) { p.LocalASN = 3 }, Reset, "myASN", 1},
		{"another router", func(p *Peer) { p.Address = ip("192.0.2.2") }, Reset, "peerAddress", 1},
		{"another password", func(p *Peer) { p.Password = NewPassword("x") }, Reset, "password", 1},
		{"another hold time", func(p *Peer) { p.Hold = 0 }, Reset, "holdTime", 1},
		{"one more family", func(p *Peer) { p.Families = DualStack }, Reset, "dualStackAddressFamily", 1},
		{"capabilities", func(p *Peer) { p.Offer.FQDN = true }, Reset, "capabilities", 1},
		{"graceful restart",
			func(p *Peer) { p.GracefulRestart = time.Minute }, Reset, "enableGracefulRestart", 1},
		{"the pause between attempts", func(p *Peer) { p.Connect = time.Second }, Retry, "connectTime", 1},
		{"what is done in the end", func(p *Peer) { p.GracefulShutdown = time.Second }, Keep, "", 0},
		{"other next hops go with the routes", func(p *Peer) { p.NextHop6 = ip("2001:db8::1") }, Keep, "", 1},
	} {
		changed := base
		test.change(&changed)
		got := Diff([]Desired{{Peer: base, Routes: routes}}, []Desired{{Peer: changed, Routes: routes}})
		if len(got) != 1 || got[0].Action != test.want || got[0].Field != test.field ||
			len(got[0].Announce) != test.routes || got[0].Peer != changed {
			t.Errorf("%s: %+v, want %s because of %q with %d routes", test.story, got, test.want, test.field,
				test.routes)
		}
	}
}
