package announcement

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

func selector(key, value string) []metav1.LabelSelector {
	return []metav1.LabelSelector{{MatchLabels: map[string]string{key: value}}}
}

func parsed(specs ...v1beta1.L2AdvertisementSpec) *config.Config {
	objects := config.Objects{Pools: []v1beta1.IPAddressPool{{
		ObjectMeta: metav1.ObjectMeta{Name: "lan"},
		Spec:       v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}},
	}}}
	for i, spec := range specs {
		objects.L2Advertisements = append(objects.L2Advertisements, v1beta1.L2Advertisement{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("ad", i), UID: "x"}, Spec: spec,
		})
	}
	c, _ := config.Parse(objects, config.Config{}, time.Time{})
	return &c
}

func node(name string) Node { return Node{Name: name, Labels: map[string]string{"name": name}} }

func link(name, prefix string) links.Link {
	l := links.Link{Name: name, Up: true, Broadcast: true, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	if prefix != "" {
		l.Prefixes = []netip.Prefix{netip.MustParsePrefix(prefix)}
	}
	return l
}

// linksOf returns those of one node; last is the last byte of its addresses.
func linksOf(last byte) []links.Link {
	out := []links.Link{
		link("eth0", fmt.Sprintf("192.0.2.%d/24", last)),
		link("eth1", fmt.Sprintf("198.51.100.%d/24", last)),
		link("cni0", "10.0.0.1/24"),
	}
	for i := range out {
		out[i].HardwareAddr = net.HardwareAddr{2, 0, 0, 0, byte(i), last}
		out[i].Excluded = out[i].Name == "cni0"
	}
	return out
}

func speaker(p Presence, last byte) Speaker {
	reason := map[Presence]v1beta1.Reason{
		Gone:    v1beta1.ReasonSpeakerNotAlive,
		Held:    v1beta1.ReasonNodeHeld,
		Leaving: v1beta1.ReasonNodeLeaving,
		Present: v1beta1.ReasonNodePresent,
	}
	return Speaker{
		Presence: p,
		Reason:   reason[p],
		Links:    linksOf(last),
		Heard:    p == Present || p == Leaving,
		Worked:   true,
	}
}

var now = time.Unix(1000, 0)

// lan is three nodes, of which n1 decides, and one Service with pods on n2
// and n3.
func lan() Input {
	return Input{
		Address:  netip.MustParseAddr("192.0.2.1"),
		Services: []Service{{Name: "default/web", Ready: true, Endpoints: map[string]int{"n2": 1, "n3": 1}}},
		Config:   parsed(v1beta1.L2AdvertisementSpec{}),
		Nodes:    []Node{node("n1"), node("n2"), node("n3")},
		Speakers: map[string]Speaker{
			"n1": speaker(Present, 11),
			"n2": speaker(Present, 12),
			"n3": speaker(Present, 13),
		},
		Claims:   map[string]Claim{},
		Probe:    Probe{State: ProbeFree},
		Node:     "n1",
		HandOver: 3 * time.Second,
		Now:      now,
	}
}

// only leaves some nodes to win the election.
func only(names ...string) func(*Input) {
	return func(in *Input) {
		for name, s := range in.Speakers {
			if !slices.Contains(names, name) {
				in.Speakers[name] = Speaker{
					Presence: Gone,
					Reason:   v1beta1.ReasonSpeakerNotAlive,
					Links:    s.Links,
					Worked:   s.Worked,
				}
			}
		}
	}
}

// claims says who claims the address, with which generation.
func claims(generations map[string]uint64) func(*Input) {
	return func(in *Input) {
		for name, g := range generations {
			in.Claims[name] = Claim{Generation: g}
		}
	}
}

// all makes several changes.
func all(changes ...func(*Input)) func(*Input) {
	return func(in *Input) {
		for _, change := range changes {
			change(in)
		}
	}
}

// silent says of a node that its kernel is silent on some links.
func silent(name string, links ...string) func(*Input) {
	return func(in *Input) {
		s := in.Speakers[name]
		s.SilentLinks = links
		in.Speakers[name] = s
	}
}

// ignoresCordon is a speaker to which a cordon means nothing.
func ignoresCordon(s Speaker) Speaker {
	s.IgnoresCordon = true
	return s
}

func presence(name string, p Presence) func(*Input) {
	return func(in *Input) {
		s := in.Speakers[name]
		in.Speakers[name] = Speaker{
			Presence: p,
			Reason:   v1beta1.ReasonNodeHeld,
			Links:    s.Links,
			Worked:   s.Worked,
		}
	}
}

func TestDecide(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*Input)
		reason v1beta1.Reason
		owner  string
		links  string
	}{
		{"this node is the only candidate", only("n1"), v1beta1.ReasonOwner, "n1", "eth0"},
		{"another node is", only("n2"), v1beta1.ReasonNotOwner, "n2", ""},
		{"nobody is alive", only(), v1beta1.ReasonNoCandidate, "", ""},
		{"no Service has the address",
			func(in *Input) { in.Services = nil }, v1beta1.ReasonNoService, "", ""},
		{"no pool has the address",
			func(in *Input) { in.Address = netip.MustParseAddr("10.0.0.9") }, v1beta1.ReasonNoPool, "", ""},
		{"nothing is advertised",
			func(in *Input) { in.Config = parsed() }, v1beta1.ReasonNoAdvertisement, "", ""},
		{"another pool is advertised", func(in *Input) {
			in.Config = parsed(v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"other"}})
		}, v1beta1.ReasonNoAdvertisement, "", ""},
		{"other Services are advertised", func(in *Input) {
			in.Config = parsed(v1beta1.L2AdvertisementSpec{ServiceSelectors: selector("tier", "gold")})
		}, v1beta1.ReasonNoAdvertisement, "", ""},
		{"no endpoint is ready",
			func(in *Input) { in.Services[0].Ready = false }, v1beta1.ReasonNoEndpoint, "", ""},
		{"an excluded node is no candidate", func(in *Input) {
			only("n1", "n2")(in)
			in.Nodes[0].Excluded = true
		}, v1beta1.ReasonNotOwner, "n2", ""},
		{"nor is one while those without the label are dead", func(in *Input) {
			only("n1")(in)
			in.Nodes[0].Excluded = true
		}, v1beta1.ReasonNoCandidate, "", ""},
		{"where all nodes have the label, as on a cluster of control planes, it tells none apart",
			func(in *Input) {
				only("n1")(in)
				in.Nodes[0].Excluded, in.Nodes[1].Excluded, in.Nodes[2].Excluded = true, true, true
			}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"a node without it counts when its speaker has worked: one that joins darkens nothing",
			func(in *Input) {
				only("n1", "n2")(in)
				in.Nodes[0].Excluded, in.Nodes[2].Excluded = true, true
				s := speaker(Held, 12)
				s.Worked = false
				in.Speakers["n2"] = s
			}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"a cordoned node is candidate where its own speaker ignores that", func(in *Input) {
			only("n1", "n2")(in)
			in.Nodes[0].Cordoned = true
			in.Speakers["n1"] = ignoresCordon(in.Speakers["n1"])
			prefer("n1")(in)
		}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"what this node's speaker ignores, another's may not", func(in *Input) {
			only("n1", "n2")(in)
			in.Nodes[1].Cordoned = true
			in.Speakers["n1"] = ignoresCordon(in.Speakers["n1"])
			prefer("n2")(in)
		}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"unless the label means nothing to its own speaker, whatever it means to this one", func(in *Input) {
			only("n1", "n2")(in)
			in.Nodes[0].Excluded, in.Nodes[1].Excluded = true, true
			s := in.Speakers["n1"]
			s.IgnoresExclude = true
			in.Speakers["n1"] = s
		}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"nor is one that is silent on the LAN of the address, where others answer",
			all(only("n1", "n2"), silent("n1", "eth0")),
			v1beta1.ReasonNotOwner, "n2", ""},
		{"silence on another LAN means nothing",
			all(only("n1"), silent("n1", "eth1")), v1beta1.ReasonOwner, "n1", "eth0"},
		{"where all are silent, all are alike",
			all(only("n1"), silent("n1", "eth0")), v1beta1.ReasonOwner, "n1", "eth0"},
		{"a node that is cordoned and answers is better than one that does not", func(in *Input) {
			all(only("n1", "n2"), silent("n2", "eth0"))(in)
			in.Nodes[0].Cordoned = true
		}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"nor is one without network", func(in *Input) {
			only("n1", "n2")(in)
			in.Nodes[0].NetworkUnavailable = true
		}, v1beta1.ReasonNotOwner, "n2", ""},
		{"nor is one that no advertisement selects", func(in *Input) {
			in.Config = parsed(v1beta1.L2AdvertisementSpec{NodeSelectors: selector("name", "n2")},
				v1beta1.L2AdvertisementSpec{NodeSelectors: selector("name", "n9")})
		}, v1beta1.ReasonNotOwner, "n2", ""},
		{"with traffic policy Local, nor is one without a pod", func(in *Input) {
			in.Services[0].Local = true
			in.Services[0].Endpoints = map[string]int{"n3": 1}
		}, v1beta1.ReasonNotOwner, "n3", ""},
		{"with traffic policy Local and a pod here", func(in *Input) {
			in.Services[0].Local = true
			in.Services[0].Endpoints = map[string]int{"n1": 1}
		}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"of two Local Services with one address, both need a pod here", func(in *Input) {
			in.Services = []Service{
				{Name: "default/tcp", Local: true, Ready: true, Endpoints: map[string]int{"n1": 1, "n3": 1}},
				{Name: "default/udp", Local: true, Ready: true, Endpoints: map[string]int{"n2": 1, "n3": 1}},
			}
		}, v1beta1.ReasonNotOwner, "n3", ""},
		{"a Local Service without any pod does not darken the other", func(in *Input) {
			in.Services = []Service{
				{Name: "default/dead", Local: true},
				{Name: "default/live", Local: true, Ready: true, Endpoints: map[string]int{"n1": 1}},
			}
		}, v1beta1.ReasonOwner, "n1", "eth0"},
		{"preference outweighs the hash", func(in *Input) {
			in.Config = parsed(v1beta1.L2AdvertisementSpec{
				PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{
					Weight:     1,
					Preference: selector("name", "n3")[0],
				}},
			})
		}, v1beta1.ReasonNotOwner, "n3", ""},
		{"weights add up over advertisements", func(in *Input) {
			prefer := func(name string, weight int32) v1beta1.L2AdvertisementSpec {
				return v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{
					Weight:     weight,
					Preference: selector("name", name)[0],
				}}}
			}
			in.Config = parsed(prefer("n2", 60), prefer("n3", 40), prefer("n3", 30))
		}, v1beta1.ReasonNotOwner, "n3", ""},
		{"no subnet holds the address: every link but the container runtime's", func(in *Input) {
			only("n1")(in)
			in.Speakers["n1"].Links[0] = link("eth0", "203.0.113.1/24")
		}, v1beta1.ReasonOwner, "n1", "eth0 eth1"},
		{"a named link, whatever its subnet", func(in *Input) {
			only("n1")(in)
			in.Config = parsed(v1beta1.L2AdvertisementSpec{Interfaces: []string{"cni0"}})
		}, v1beta1.ReasonOwner, "n1", "cni0"},
		{"named links of several advertisements add up, those of other nodes' do not", func(in *Input) {
			only("n1")(in)
			in.Config = parsed(v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth1"}},
				v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth0"}},
				v1beta1.L2AdvertisementSpec{
					Interfaces:    []string{"cni0"},
					NodeSelectors: selector("name", "n2"),
				})
		}, v1beta1.ReasonOwner, "n1", "eth0 eth1"},
		{"a named link that is not there", func(in *Input) {
			only("n1")(in)
			in.Config = parsed(v1beta1.L2AdvertisementSpec{Interfaces: []string{"bond0"}})
		}, v1beta1.ReasonNoCandidate, "", ""},
		{"a node without the named link is no candidate", func(in *Input) {
			in.Config = parsed(v1beta1.L2AdvertisementSpec{Interfaces: []string{"bond0"}})
			in.Speakers["n3"].Links[1].Name = "bond0"
		}, v1beta1.ReasonNotOwner, "n3", ""},
		{"links named by pattern", func(in *Input) {
			only("n1")(in)
			in.Config = parsed(v1beta1.L2AdvertisementSpec{InterfacePatterns: []string{"eth[0-9]"}})
		}, v1beta1.ReasonOwner, "n1", "eth0 eth1"},
		{"a node whose links are in no subnet of the address, where another node's are", func(in *Input) {
			in.Speakers["n1"].Links[0] = link("eth0", "203.0.113.1/24")
			only("n1", "n2")(in)
		}, v1beta1.ReasonNotOwner, "n2", ""},
		{"a node whose link is down is no candidate", func(in *Input) {
			only("n1", "n2")(in)
			for i := range in.Speakers["n1"].Links {
				in.Speakers["n1"].Links[i].Up = false
			}
		}, v1beta1.ReasonNotOwner, "n2", ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			test.change(&in)
			d := Decide(in)
			if d.Reason != test.reason || d.Owner != test.owner || strings.Join(d.Links, " ") != test.links {
				t.Errorf("got %s, owner %q, links %v (%s)\nwant %s, owner %q, links %s",
					d.Reason, d.Owner, d.Links, d.Message, test.reason, test.owner, test.links)
			}
			if d.Announce != (test.reason == v1beta1.ReasonOwner) {
				t.Errorf("announce = %v with reason %s", d.Announce, d.Reason)
			}
		})
	}
}

func TestEveryRejectedNodeIsTold(t *testing.T) {
	in := lan()
	in.Nodes[0].Excluded = true
	in.Nodes[1].NetworkUnavailable = true
	only("n1", "n2")(&in)
	d := Decide(in)
	want := "No node can announce the address: n1 (NodeExcluded), n2 (NetworkUnavailable), " +
		"n3 (SpeakerNotAlive)."
	if d.Message != want {
		t.Errorf("message = %q\nwant      %q", d.Message, want)
	}
}

// TestAllNodesAgree: speakers with the same view elect the same owner, and
// only the owner announces.
func TestAllNodesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := lan()
		in.Nodes, in.Speakers = nil, map[string]Speaker{}
		count := rapid.IntRange(1, 6).Draw(t, "nodes")
		for i := range count {
			n := node(fmt.Sprint("n", i))
			n.Excluded = rapid.Bool().Draw(t, "excluded")
			n.Cordoned = rapid.Bool().Draw(t, "cordoned")
			in.Nodes = append(in.Nodes, n)
			presences := []Presence{Gone, Held, Leaving, Present}
			s := speaker(rapid.SampledFrom(presences).Draw(t, "presence"), byte(i+1))
			s.Worked = s.Presence != Held || rapid.Bool().Draw(t, "worked")
			s.IgnoresExclude = rapid.Bool().Draw(t, "ignores the label")
			s.IgnoresCordon = rapid.Bool().Draw(t, "ignores a cordon")
			in.Speakers[n.Name] = s
			if rapid.Bool().Draw(t, "claims") {
				in.Claims[n.Name] = Claim{
					Generation: rapid.Uint64Range(1, 4).Draw(t, "generation"),
					Minority:   rapid.Bool().Draw(t, "minority"),
					Quiet:      rapid.Bool().Draw(t, "quiet"),
					Lingers:    rapid.Bool().Draw(t, "lingers"),
				}
			}
		}
		in.Address = netip.AddrFrom4([4]byte{192, 0, 2, rapid.Byte().Draw(t, "address")})
		owners := sets.New[string]()
		announcing := 0
		for _, n := range in.Nodes {
			in.Node = n.Name
			d := Decide(in)
			owners.Insert(d.Owner)
			if d.Announce && d.StandInFor == "" {
				announcing++
				if d.Owner != n.Name {
					t.Fatalf("%s announces although %s is the owner", n.Name, d.Owner)
				}
			}
		}
		if len(owners) != 1 || announcing > 1 {
			t.Fatalf("owners %v, %d announce", sets.List(owners), announcing)
		}
	})
}

// TestALabelOnAllNodesIsNone: what all nodes carry decides as if none did, for every
// address, and what some carry keeps just those out.
func TestALabelOnAllNodesIsNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := lan()
		in.Address = netip.AddrFrom4([4]byte{192, 0, 2, rapid.Byte().Draw(t, "address")})
		for _, n := range in.Nodes {
			presences := []Presence{Gone, Held, Present}
			s := speaker(rapid.SampledFrom(presences).Draw(t, "presence"), n.Name[1]-'0')
			s.Worked = rapid.Bool().Draw(t, "worked")
			in.Speakers[n.Name] = s
		}
		plain := Decide(in)
		labelled := 0
		for i := range in.Nodes {
			in.Nodes[i].Excluded = rapid.Bool().Draw(t, "excluded")
			if in.Nodes[i].Excluded || !in.Speakers[in.Nodes[i].Name].Worked {
				labelled++
			}
		}
		got := Decide(in)
		if labelled == len(in.Nodes) {
			if got.Owner != plain.Owner || got.Message != plain.Message {
				t.Fatalf("the label on all has %q own the address, without it %q: %s",
					got.Owner, plain.Owner, got.Message)
			}
			return
		}
		at := slices.IndexFunc(in.Nodes, func(n Node) bool { return n.Name == got.Owner })
		if at >= 0 && in.Nodes[at].Excluded {
			t.Fatalf("%s owns the address, which has the label that others have not", got.Owner)
		}
	})
}

func TestParseService(t *testing.T) {
	yes, no := true, false
	at := func(node string, c discoveryv1.EndpointConditions) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{NodeName: &node, Conditions: c}
	}
	ready, unsaid := discoveryv1.EndpointConditions{Ready: &yes}, discoveryv1.EndpointConditions{}
	notReady := discoveryv1.EndpointConditions{Ready: &no}
	ending := discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	ended := discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes}
	for _, test := range []struct {
		story  string
		slices [][]discoveryv1.Endpoint
		ready  bool
		want   map[string]int
		not    map[string]int // NotReady
	}{
		{"nothing at all", nil, false, map[string]int{}, map[string]int{}},
		{"ready where it is said, or nothing is",
			[][]discoveryv1.Endpoint{{at("n1", ready), at("n2", notReady)}, {at("n3", unsaid)}},
			true, map[string]int{"n1": 1, "n3": 1}, nil},
		{"no node is named", [][]discoveryv1.Endpoint{{{Conditions: ready}}}, true, map[string]int{}, nil},
		{"a pod that ends does not count beside one that is ready",
			[][]discoveryv1.Endpoint{{at("n1", ready)}, {at("n1", ending), at("n2", ending)}},
			true, map[string]int{"n1": 1}, nil},
		{"when all end, those that still answer count",
			[][]discoveryv1.Endpoint{{at("n1", ending), at("n2", ended)}, {at("n3", notReady)}},
			true, map[string]int{"n1": 1}, nil},
		{"when none answers, none counts",
			[][]discoveryv1.Endpoint{{at("n1", ended), at("n2", notReady)}},
			false, map[string]int{}, map[string]int{"n2": 1}},
	} {
		t.Run(test.story, func(t *testing.T) {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			var slices []discoveryv1.EndpointSlice
			for _, endpoints := range test.slices {
				slices = append(slices, discoveryv1.EndpointSlice{
					AddressType: discoveryv1.AddressTypeIPv6,
					Endpoints:   endpoints,
				})
			}
			want := Service{
				Name:      "default/web",
				Local:     true,
				Ready:     test.ready,
				Endpoints: test.want,
				NotReady:  test.not,
			}
			diff := cmp.Diff(want, ParseService(s, slices, netip.MustParseAddr("2001:db8::1")))
			if diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			// To an address of the other family they are of no use.
			none := map[string]int{}
			want = Service{Name: "default/web", Local: true, Endpoints: none, NotReady: none}
			if diff := cmp.Diff(want, ParseService(s, slices, netip.MustParseAddr("192.0.2.1"))); diff != "" {
				t.Errorf("for the other family -want +got:\n%s", diff)
			}
		})
	}
}

func TestParseNode(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   "n",
		Labels: map[string]string{v1beta1.LabelExcludeNode: "false"},
	}}
	n.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionFalse},
		{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue},
	}
	if got := ParseNode(n); !got.Excluded || !got.NetworkUnavailable {
		t.Errorf("got %+v: the label counts with any value", got)
	}
}
