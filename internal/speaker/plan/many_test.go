package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
)

// often draws true once in so many times.
func often(t *rapid.T, label string, once int) bool {
	return rapid.IntRange(1, once).Draw(t, label) == once
}

var racks = []string{"a", "b"}

func anyNodeSelectors(t *rapid.T, label string) []metav1.LabelSelector {
	if !often(t, label, 2) {
		return nil
	}
	return []metav1.LabelSelector{{
		MatchLabels: map[string]string{"rack": rapid.SampledFrom(racks).Draw(t, label)},
	}}
}

// anyNodes draws nodes with their Speakers, in one of two subnets or in both.
func anyNodes(t *rapid.T, in *Snapshot) {
	for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
		name := fmt.Sprint("node", i)
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			"rack": rapid.SampledFrom(racks).Draw(t, "rack"),
		}}}
		own := fmt.Sprintf("192.0.2.%d", i+1)
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: own}}
		n.Spec.Unschedulable = often(t, "cordoned", 4)
		if often(t, "excluded", 4) {
			n.Labels[v1beta1.LabelExcludeNode] = ""
		}
		if often(t, "no network", 8) {
			n.Status.Conditions = []corev1.NodeCondition{{
				Type:   corev1.NodeNetworkUnavailable,
				Status: corev1.ConditionTrue,
			}}
		}
		in.Nodes = append(in.Nodes, n)
		if often(t, "no speaker", 8) {
			continue
		}
		s := v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.Status.MemberAddress, s.Status.HasWorked = own+":7947", often(t, "worked", 2)
		stages := []v1beta1.SpeakerStage{v1beta1.StageReady, v1beta1.StageRestarting, v1beta1.StageLeaving}
		s.Status.Stage = stages[max(rapid.IntRange(-3, 2).Draw(t, "stage"), 0)]
		reason := v1beta1.ReasonAnnouncing
		if often(t, "stopped", 8) {
			reason = v1beta1.ReasonStopped
		}
		s.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionReady, Reason: string(reason)}}
		for j, subnet := range []string{"192.0.2.%d/24", "198.51.100.%d/24"} {
			if often(t, "is in the subnet", 2) {
				s.Status.Links = append(s.Status.Links, v1beta1.SpeakerLink{
					Name:       fmt.Sprint("eth", j),
					MACAddress: fmt.Sprintf("02:00:00:00:%02d:%02d", j, i),
					Up:         true,
					Prefixes:   []string{fmt.Sprintf(subnet, i+1)},
				})
			}
		}
		in.Speakers = append(in.Speakers, s)
	}
}

// anyClaims has Speakers claim addresses of Services.
func anyClaims(t *rapid.T, in *Snapshot) {
	for i := range in.Speakers {
		l2 := &in.Speakers[i].Status.Layer2
		for j := range in.Services {
			if often(t, "claims", 3) {
				l2.Announcements = append(l2.Announcements, v1beta1.Layer2Announcement{
					Address:    in.Services[j].Status.LoadBalancer.Ingress[0].IP,
					Generation: rapid.Int64Range(1, 4).Draw(t, "generation"),
				})
			}
		}
		l2.Count = int32(len(l2.Announcements))
	}
}

// anyServices draws Services with an address and endpoints.
func anyServices(t *rapid.T, in *Snapshot) (addrs []netip.Addr) {
	for i := range rapid.IntRange(1, 5).Draw(t, "Services") {
		name := fmt.Sprint("s", i)
		hosts := []string{"192.0.2.10", "192.0.2.11", "192.0.2.1", "198.51.100.10", "203.0.113.10"}
		addr := rapid.SampledFrom(hosts).Draw(t, "address")
		s := corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default",
				Name:      name,
				Labels:    map[string]string{"tier": rapid.SampledFrom(racks).Draw(t, "tier")},
			},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
		}
		if often(t, "is Local", 2) {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr}}
		slice := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default",
			Name:      name,
			Labels:    map[string]string{discoveryv1.LabelServiceName: name},
		}}
		slice.AddressType = discoveryv1.AddressTypeIPv4
		for j := range in.Nodes {
			if often(t, "has an endpoint", 2) {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{NodeName: &in.Nodes[j].Name})
			}
		}
		in.Services, in.EndpointSlices = append(in.Services, s), append(in.EndpointSlices, slice)
		addrs = append(addrs, netip.MustParseAddr(addr))
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// anyConfig draws pools, advertisements and peers.
func anyConfig(t *rapid.T, nodes []corev1.Node) *config.Config {
	objects := config.Objects{NodeLabels: map[string]map[string]string{}}
	for i := range nodes {
		objects.NodeLabels[nodes[i].Name] = nodes[i].Labels
	}
	for _, pool := range [][2]string{
		{"one", "192.0.2.0/24"},
		{"two", "198.51.100.0/24"},
		{"three", "203.0.113.0/24"},
	} {
		p := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: pool[0]}}
		p.Spec.Addresses = []v1beta1.AddressRange{v1beta1.AddressRange(pool[1])}
		p.Spec.AllowNodeAddresses = often(t, "allows node addresses", 2)
		objects.Pools = append(objects.Pools, p)
	}
	pools := func(t *rapid.T) []string {
		if often(t, "of one pool", 2) {
			return []string{rapid.SampledFrom([]string{"one", "two"}).Draw(t, "pool")}
		}
		return nil
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "advertisements") {
		meta := metav1.ObjectMeta{Name: fmt.Sprint("ad", i)}
		l2 := v1beta1.L2Advertisement{ObjectMeta: meta}
		l2.Spec.IPAddressPools, l2.Spec.NodeSelectors = pools(t), anyNodeSelectors(t, "L2 nodes")
		if often(t, "failback", 3) {
			l2.Spec.Failback = v1beta1.FailbackImmediate
		}
		if often(t, "names a link", 4) {
			l2.Spec.Interfaces = []string{rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(t, "link")}
		}
		if often(t, "prefers", 3) {
			l2.Spec.PreferredNodeSelectors = []v1beta1.PreferredNodeSelector{{
				Weight:     7,
				Preference: metav1.LabelSelector{MatchLabels: map[string]string{"rack": "a"}},
			}}
		}
		objects.L2Advertisements = append(objects.L2Advertisements, l2)
		b := v1beta1.BGPAdvertisement{ObjectMeta: meta}
		b.Spec.IPAddressPools, b.Spec.NodeSelectors = pools(t), anyNodeSelectors(t, "BGP nodes")
		if often(t, "aggregates", 3) {
			b.Spec.AggregationLength = new(int32(24))
		}
		if often(t, "selects Services", 3) {
			b.Spec.ServiceSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "a"}}}
		}
		objects.BGPAdvertisements = append(objects.BGPAdvertisements, b)
		peer := v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("peer", i)}}
		peer.Spec = v1beta1.BGPPeerSpec{
			MyASN:         64512,
			PeerASN:       64513,
			PeerAddress:   fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 2).Draw(t, "router")),
			NodeSelectors: anyNodeSelectors(t, "peer nodes"),
		}
		objects.BGPPeers = append(objects.BGPPeers, peer)
	}
	c, _ := config.Parse(objects, config.Config{}, start)
	return &c
}

// TestWhatIsDecidedForManyAtOnce is what is decided for each address and each node, whatever
// the cluster is like.
func TestWhatIsDecidedForManyAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in Snapshot
		anyNodes(t, &in)
		addrs := anyServices(t, &in)
		anyClaims(t, &in)
		in.Config = anyConfig(t, in.Nodes)
		p := Of(in, start)
		for _, name := range slices.Sorted(maps.Keys(p.speakers)) {
			s := p.speakers[name]
			s.Full = often(t, "is full", 6)
			p.speakers[name] = s
		}

		for _, addr := range addrs {
			want, err := p.Layer2(addr)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.Owner(addr); err != nil || got != want.Owner {
				t.Fatalf("%s: the owner is %q (%v), want %q: %+v", addr, got, err, want.Owner, want)
			}
		}
		checkTold(t, p, in.Nodes, addrs)
	})
}

// checkTold compares what all nodes tell with what each of them does.
func checkTold(t *rapid.T, p *Plan, nodes []corev1.Node, addrs []netip.Addr) {
	nothing := Of(Snapshot{Config: p.config}, start)
	changes, err := RouteChanges(nothing, p, nil, addrs)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{} // nodes by route
	for _, c := range changes {
		got[c.Peer+" "+c.Prefix.String()] = c.Gained
		if len(c.Lost)+len(c.Changed)+c.Before > 0 || c.After != len(c.Gained) {
			t.Fatalf("what was not told before cannot change: %+v", c)
		}
	}
	want := map[string][]string{}
	for i := range nodes {
		name := nodes[i].Name
		s, known := p.speakers[name]
		if !known || s.Presence == announcement.Gone || s.Presence == announcement.Leaving {
			continue
		}
		routes, err := p.Routes(name, addrs)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range routes.Desired {
			for _, r := range d.Routes {
				key := d.Peer.Name + " " + r.Prefix.String()
				want[key] = append(want[key], name)
			}
		}
	}
	for key := range want {
		if !slices.Equal(got[key], want[key]) {
			t.Fatalf("%s is told by %v, want %v", key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("told are %v, want %v", got, want)
	}
	if same, err := RouteChanges(p, p, addrs, addrs); err != nil || len(same) > 0 {
		t.Fatalf("a plan differs from itself: %+v (%v)", same, err)
	}
}
