package announcement

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// routed is a configuration with a pool, a peer of all nodes, and these
// advertisements.
func routed(specs ...v1beta1.BGPAdvertisementSpec) *config.Config {
	return routedTo(v1beta1.BGPPeerSpec{}, specs...)
}

// routedTo is the same with a peer that is not of all nodes.
func routedTo(peer v1beta1.BGPPeerSpec, specs ...v1beta1.BGPAdvertisementSpec) *config.Config {
	peer.MyASN, peer.PeerASN, peer.PeerAddress = 64512, 64513, "10.0.0.1"
	objects := config.Objects{
		Pools: []v1beta1.IPAddressPool{{
			ObjectMeta: metav1.ObjectMeta{Name: "lan"},
			Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{
				"192.0.2.0/24", "2001:db8::/64",
			}},
		}},
		BGPPeers: []v1beta1.BGPPeer{{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: peer}},
	}
	for i, spec := range specs {
		objects.BGPAdvertisements = append(objects.BGPAdvertisements, v1beta1.BGPAdvertisement{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("ad", i)}, Spec: spec,
		})
	}
	c, _ := config.Parse(objects, config.Config{}, time.Time{})
	return &c
}

// forBGP is what lan is, for BGP.
func forBGP() BGPInput {
	in := lan()
	return BGPInput{
		Address:  in.Address,
		Services: in.Services,
		Config:   routed(v1beta1.BGPAdvertisementSpec{}),
		Nodes:    in.Nodes,
		Speakers: in.Speakers,
		Node:     in.Node,
		Settled:  true,
		Now:      in.Now,
	}
}

func TestDecideBGP(t *testing.T) {
	local := func(name string, endpoints map[string]int) Service {
		return Service{Name: name, Local: true, Ready: true, Endpoints: endpoints}
	}
	cordoned := func(names ...string) func(*BGPInput) {
		return func(in *BGPInput) {
			for i := range in.Nodes {
				in.Nodes[i].Cordoned = slices.Contains(names, in.Nodes[i].Name)
			}
		}
	}
	announced := BGPDecision{Announce: true}
	for _, test := range []struct {
		story  string
		change func(*BGPInput)
		want   string // "reason advertisements endpoints", and "leaving" with the seconds since
	}{
		{"every node announces, with endpoints or without", func(*BGPInput) {}, "Announced ad0 0"},
		{"its own endpoints count", func(in *BGPInput) { in.Node = "n2" }, "Announced ad0 1"},
		{"members do not matter: each node announces by itself",
			func(in *BGPInput) { in.Speakers = nil }, "Announced ad0 0"},
		{"of Services that share the address all endpoints count", func(in *BGPInput) {
			in.Node, in.Services = "n2", append(in.Services, Service{
				Name:      "default/dns",
				Ready:     true,
				Endpoints: map[string]int{"n2": 4},
			})
		}, "Announced ad0 5"},
		{"several advertisements", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{}, v1beta1.BGPAdvertisementSpec{LocalPref: 7})
		}, "Announced ad0,ad1 0"},

		{"no Service", func(in *BGPInput) { in.Services = nil }, "NoService"},
		{"no pool", func(in *BGPInput) { in.Config = &config.Config{} }, "NoPool"},
		{"a pool that no BGPAdvertisement selects is none of BGP's business", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{"other"}})
		}, ""},
		{"no Service is selected", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{ServiceSelectors: selector("public", "true")})
		}, "NoAdvertisement"},
		{"no endpoint anywhere", func(in *BGPInput) { in.Services[0].Ready = false }, "NoEndpoint"},
		{"only the Service that is not selected has endpoints", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{ServiceSelectors: selector("public", "true")})
			in.Services = append(in.Services, Service{
				Name:   "default/down",
				Labels: labels.Set{"public": "true"},
			})
		}, "NoEndpoint"},
		{"what only a Service without endpoints is selected by does not count", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{ServiceSelectors: selector("public", "true")},
				v1beta1.BGPAdvertisementSpec{NodeSelectors: selector("name", "n2")})
			in.Services = append(in.Services,
				Service{Name: "default/down", Labels: labels.Set{"public": "true"}})
		}, "NodeNotSelected"},
		{"no other speaker is heard",
			func(in *BGPInput) { in.Speakers, in.Settled = nil, false }, "Announced ad0 0"},
		{"the node is not known", func(in *BGPInput) { in.Node = "n9" }, "NodeUnknown"},
		{"the speaker of the node does not announce by BGP", func(in *BGPInput) {
			in.Speakers = map[string]Speaker{"n1": {Presence: Present, NoBGP: true}}
		}, "ProtocolDisabled"},
		{"one that does not takes nothing from a cordoned node", func(in *BGPInput) {
			cordoned("n1")(in)
			for name, s := range in.Speakers {
				s.NoBGP = name != in.Node
				in.Speakers[name] = s
			}
		}, "Announced ad0 0"},
		{"the node is not selected", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{NodeSelectors: selector("name", "n2")})
		}, "NodeNotSelected"},
		{"the network of the node is not there", func(in *BGPInput) {
			in.Nodes[0].NetworkUnavailable = true
		}, "NetworkUnavailable"},

		{"no peer selects the node", func(in *BGPInput) {
			in.Config = routedTo(v1beta1.BGPPeerSpec{NodeSelectors: selector("name", "n2")},
				v1beta1.BGPAdvertisementSpec{})
		}, "PeerNotFound"},
		{"the peer that does is not asked", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{Peers: []string{"spine"}})
		}, "PeerNotFound"},
		{"no session for its family",
			func(in *BGPInput) { in.Address = netip.MustParseAddr("2001:db8::7") }, "NoPeerForFamily"},
		{"a session for both families", func(in *BGPInput) {
			in.Address = netip.MustParseAddr("2001:db8::7")
			in.Config = routedTo(v1beta1.BGPPeerSpec{DualStackAddressFamily: true},
				v1beta1.BGPAdvertisementSpec{})
		}, "Announced ad0 0"},
		{"what was announced, too", func(in *BGPInput) {
			in.Address = netip.MustParseAddr("2001:db8::7")
			in.Before = announced
		}, "NoPeerForFamily"},

		{"Local, without an endpoint here", func(in *BGPInput) {
			in.Services = []Service{local("default/web", map[string]int{"n2": 1})}
		}, "NoLocalEndpoint"},
		{"Local, with endpoints here", func(in *BGPInput) {
			in.Services = []Service{local("default/web", map[string]int{"n1": 3})}
		}, "Announced ad0 3"},
		{"Local, and kube-proxy does not know of the endpoint yet", func(in *BGPInput) {
			in.Services = []Service{local("default/web", map[string]int{"n1": 3})}
			in.Unproxied = map[string]bool{"default/web": true}
		}, "ProxyNotReady"},
		{"what is announced already stays", func(in *BGPInput) {
			in.Services = []Service{local("default/web", map[string]int{"n1": 3})}
			in.Unproxied = map[string]bool{"default/web": true}
			in.Before = announced
		}, "Announced ad0 3"},
		{"kube-proxy does not know of an endpoint of another Service",
			func(in *BGPInput) { in.Unproxied = map[string]bool{"default/other": true} }, "Announced ad0 0"},
		{"Local is not enough for one of two that share", func(in *BGPInput) {
			in.Services = []Service{
				local("default/a", map[string]int{"n1": 3}),
				local("default/b", map[string]int{"n2": 1}),
			}
		}, "NoLocalEndpoint"},
		{"Local without any endpoint does not stop the other", func(in *BGPInput) {
			in.Services = []Service{
				local("default/a", map[string]int{"n1": 3}),
				{Name: "default/b", Local: true},
			}
		}, "Announced ad0 3"},
		{"Local that is not selected does not count", func(in *BGPInput) {
			in.Config = routed(v1beta1.BGPAdvertisementSpec{ServiceSelectors: selector("public", "true")})
			web := local("default/web", map[string]int{"n1": 2})
			web.Labels = labels.Set{"public": "true"}
			in.Services = []Service{web, local("default/inner", map[string]int{"n2": 1})}
		}, "Announced ad0 2"},

		{"cordoned, and others are not: it does not begin", cordoned("n1"), "NodeCordoned"},
		{"but leaves when it announces",
			func(in *BGPInput) { cordoned("n1")(in); in.Before = announced }, "NodeCordoned ad0 0 leaving 0"},
		{"and goes on leaving", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Before = BGPDecision{Announce: true, LeavingSince: now.Add(-time.Hour)}
		}, "NodeCordoned ad0 0 leaving 3600"},
		{"uncordoned it is back", func(in *BGPInput) {
			in.Before = BGPDecision{Announce: true, LeavingSince: now.Add(-time.Hour)}
		}, "Announced ad0 0"},
		{"all are cordoned: somebody has to", cordoned("n1", "n2", "n3"), "Announced ad0 0"},
		{"cordoned, and the others are not known yet", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Settled, in.Speakers = false, nil
		}, "Starting"},
		{"cordoned before the others are known", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Settled, in.Speakers, in.Before = false, nil, announced
		}, "Announced ad0 0"},
		{"excluded, and the others are not known yet", func(in *BGPInput) {
			in.Nodes[0].Excluded, in.Settled, in.Before = true, false, announced
		}, "NodeExcluded ad0 0 leaving 0"},
		{"the others' speakers are not there", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Speakers["n2"], in.Speakers["n3"] = speaker(Held, 12), speaker(Gone, 13)
		}, "Announced ad0 0"},
		{"the others have no endpoint", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Services = []Service{local("default/web", map[string]int{"n1": 1})}
		}, "Announced ad0 1"},
		{"the others are excluded or not selected", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Nodes[1].Excluded, in.Nodes[2].Labels = true, labels.Set{"name": "n4"}
			in.Config = routed(v1beta1.BGPAdvertisementSpec{
				NodeSelectors: append(selector("name", "n1"), selector("name", "n2")...),
			})
		}, "Announced ad0 0"},
		{"the others have no peer", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Config = routedTo(v1beta1.BGPPeerSpec{NodeSelectors: selector("name", "n1")},
				v1beta1.BGPAdvertisementSpec{})
		}, "Announced ad0 0"},
		{"excluded: it leaves whatever the others do", func(in *BGPInput) {
			in.Nodes[0].Excluded, in.Before = true, announced
			in.Speakers["n2"], in.Speakers["n3"] = speaker(Gone, 12), speaker(Gone, 13)
		}, "NodeExcluded ad0 0 leaving 0"},
		{"all nodes are excluded, as on a cluster of control planes: the label tells none apart",
			func(in *BGPInput) {
				for i := range in.Nodes {
					in.Nodes[i].Excluded = true
				}
			}, "Announced ad0 0"},
		{"so it is where no other speaker is known yet", func(in *BGPInput) {
			in.Nodes, in.Settled, in.Speakers = in.Nodes[:1], false, nil
			in.Nodes[0].Excluded = true
		}, "Announced ad0 0"},
		{"the only node without the label has no speaker yet", func(in *BGPInput) {
			in.Nodes[0].Excluded, in.Nodes[1].Excluded = true, true
			delete(in.Speakers, "n3")
		}, "Announced ad0 0"},
		{"or it is not known yet whether it has", func(in *BGPInput) {
			in.Nodes[0].Excluded, in.Nodes[1].Excluded = true, true
			in.Settled, in.Speakers = false, nil
		}, "NodeExcluded"},
		{"cordoned, where its own speaker ignores that", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Speakers["n1"] = ignoresCordon(in.Speakers["n1"])
		}, "Announced ad0 0"},
		{"cordoned, and so are the others, which ignore it", func(in *BGPInput) {
			cordoned("n1", "n2", "n3")(in)
			in.Speakers["n2"] = ignoresCordon(in.Speakers["n2"])
		}, "NodeCordoned"},
		{"and does not begin", func(in *BGPInput) { in.Nodes[0].Excluded = true }, "NodeExcluded"},
		{"who leaves and loses its last endpoint withdraws at once", func(in *BGPInput) {
			cordoned("n1")(in)
			in.Before = BGPDecision{Announce: true, LeavingSince: now}
			in.Services = []Service{local("default/web", map[string]int{"n2": 1})}
		}, "NoLocalEndpoint"},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := forBGP()
			test.change(&in)
			d := DecideBGP(in)
			got := string(d.Reason)
			if d.Announce {
				var ads []string
				for _, a := range d.Advertisements {
					ads = append(ads, a.Name)
				}
				got += fmt.Sprintf(" %s %d", strings.Join(ads, ","), d.Endpoints)
			}
			if !d.LeavingSince.IsZero() {
				got += fmt.Sprintf(" leaving %.0f", in.Now.Sub(d.LeavingSince).Seconds())
			}
			if got != test.want {
				t.Errorf("got %q, want %q (%s)", got, test.want, d.Message)
			}
			if (d.Announce || d.Reason == v1beta1.ReasonNoPeerForFamily) != (len(d.Advertisements) > 0) {
				t.Errorf("announced is %t with %d advertisements", d.Announce, len(d.Advertisements))
			}
			if (d.Reason == "") != (d.Message == "") {
				t.Errorf("reason %q, message %q", d.Reason, d.Message)
			}
		})
	}
}

func TestDualStackEndpointsCountOnce(t *testing.T) {
	on, other := "n1", "n2"
	slice := func(kind discoveryv1.AddressType, nodes ...*string) discoveryv1.EndpointSlice {
		s := discoveryv1.EndpointSlice{AddressType: kind}
		for _, n := range nodes {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: n})
		}
		return s
	}
	slices := []discoveryv1.EndpointSlice{
		slice(discoveryv1.AddressTypeIPv4, &on, &on), slice(discoveryv1.AddressTypeIPv4, &on, &other),
		slice(discoveryv1.AddressTypeIPv6, &on, &on, &on, &other),
		slice(discoveryv1.AddressTypeFQDN, &on),
	}
	s := ParseService(&corev1.Service{}, slices, netip.MustParseAddr("192.0.2.1"))
	if s.Endpoints["n1"] != 3 || s.Endpoints["n2"] != 1 {
		t.Errorf("endpoints are %v", s.Endpoints)
	}
	s = ParseService(&corev1.Service{}, slices, netip.MustParseAddr("2001:db8::1"))
	if s.Endpoints["n1"] != 3 || s.Endpoints["n2"] != 1 {
		t.Errorf("endpoints are %v", s.Endpoints)
	}
}
