package announcement

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// TestOneBasisForAllAddresses: whatever the cluster is like, decisions that share a basis are those
// that each would be by itself.
func TestOneBasisForAllAddresses(t *testing.T) {
	const rounds, addresses = 60, 30
	r := rand.New(rand.NewPCG(3, 4))
	one := func(of int) bool { return r.IntN(of) == 0 }
	reasons := map[v1beta1.Reason]bool{}
	for round := range rounds {
		in := randomInput(r)
		in.Basis = BasisOf(in.Config, in.Nodes, in.Speakers)
		for n := range addresses {
			at := in
			at.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(n%2*64 + 1 + r.IntN(12))})
			at.Node = at.Nodes[r.IntN(len(at.Nodes))].Name
			at.Announcing = one(2)
			at.Claims = map[string]Claim{}
			for range r.IntN(3) {
				name := at.Nodes[r.IntN(len(at.Nodes))].Name
				at.Claims[name] = Claim{Generation: uint64(1 + r.IntN(3)), Minority: one(4)}
			}
			at.Services = []Service{{
				Name:      "default/web",
				Ready:     true,
				Local:     one(2),
				Endpoints: map[string]int{at.Nodes[0].Name: 1, at.Nodes[len(at.Nodes)-1].Name: 1},
			}}
			alone := at
			alone.Basis = nil
			got, want := Decide(at), Decide(alone)
			reasons[want.Reason] = true
			for _, rejected := range want.Rejections {
				reasons[rejected.Reason] = true
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d: %s at %s is\n%+v, by itself\n%+v", round, at.Address, at.Node, got, want)
			}
		}
	}
	for _, reason := range []v1beta1.Reason{
		v1beta1.ReasonOwner, v1beta1.ReasonNotOwner, v1beta1.ReasonNodeAddress, v1beta1.ReasonNoAdvertisement,
		v1beta1.ReasonNodeExcluded, v1beta1.ReasonNodeNotSelected, v1beta1.ReasonNoLinkForAddress,
		v1beta1.ReasonNoLocalEndpoint, v1beta1.ReasonNodeHeld, v1beta1.ReasonNodeFull,
		v1beta1.ReasonLinkSilent, v1beta1.ReasonClaimsUnknown, v1beta1.ReasonHandingOver,
	} {
		if !reasons[reason] {
			t.Errorf("nothing was decided for the reason %s", reason)
		}
	}
}

// randomInput is a cluster with all that decisions look at, but no address yet.
func randomInput(r *rand.Rand) Input {
	one := func(of int) bool { return r.IntN(of) == 0 }
	in := lan()
	in.Nodes, in.Speakers, in.Highest = nil, map[string]Speaker{}, 3
	for n := range 3 + r.IntN(6) {
		node := node(fmt.Sprintf("n%d", n+1))
		node.Labels["zone"] = fmt.Sprint(n % 2)
		node.Excluded, node.Cordoned, node.NetworkUnavailable = one(5), one(5), one(9)
		s := Speaker{
			Presence:       []Presence{Present, Present, Present, Held, Gone, Leaving}[r.IntN(6)],
			Worked:         !one(3),
			IgnoresExclude: one(4),
			IgnoresCordon:  one(4),
			Full:           one(5),
			ClaimsUnknown:  one(6),
		}
		for i, name := range []string{"eth0", "eth1"} {
			prefix := fmt.Sprintf([]string{
				"192.0.2.%d/24",
				"192.0.2.%d/26",
				"192.0.2.7%d/26",
				"198.51.100.%d/24",
			}[r.IntN(2)+2*i*r.IntN(2)], n+1)
			l := link(name, prefix)
			l.Excluded = one(6)
			s.Links = append(s.Links, l)
			node.Addresses = append(node.Addresses, netip.MustParsePrefix(prefix).Addr())
			if one(8) {
				s.SilentLinks = append(s.SilentLinks, name)
			}
		}
		if one(4) {
			s.Links = links.Clone(s.Links[:1])
		}
		in.Nodes = append(in.Nodes, node)
		in.Speakers[node.Name] = s
	}
	var specs []v1beta1.L2AdvertisementSpec
	for range r.IntN(3) {
		spec := v1beta1.L2AdvertisementSpec{}
		if one(2) {
			spec.NodeSelectors = selector("zone", "0")
		}
		if one(3) {
			spec.Interfaces = []string{"eth1"}
		}
		if one(3) {
			spec.PreferredNodeSelectors = []v1beta1.PreferredNodeSelector{{
				Weight:     1,
				Preference: selector("zone", "1")[0],
			}}
		}
		specs = append(specs, spec)
	}
	in.Config = parsed(specs...)
	return in
}

// TestABasisOfOtherInputsIsNotUsed: the decision is by what is given.
func TestABasisOfOtherInputsIsNotUsed(t *testing.T) {
	in := lan()
	in.Basis = BasisOf(in.Config, in.Nodes, in.Speakers)
	owner := Decide(in).Owner
	changed := lan()
	presence(owner, Gone)(&changed)
	in.Speakers = changed.Speakers
	if got := Decide(in).Owner; got == owner || got == "" {
		t.Errorf("%s owns the address, and is gone", got)
	}
}

// BenchmarkDecide decides for addresses that another node owns, with one basis for all.
func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{3, 100, 1000} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			in := lan()
			in.Nodes, in.Speakers = nil, map[string]Speaker{}
			for n := range nodes {
				self := fmt.Sprintf("node%d", n+1)
				s := Speaker{Presence: Present, Worked: true, Heard: true}
				for i, name := range []string{"eth0", "eth1"} {
					s.Links = append(s.Links, link(name, fmt.Sprintf("10.%d.%d.%d/16", i, n/250, n%250+1)))
				}
				in.Nodes, in.Speakers[self] = append(in.Nodes, node(self)), s
			}
			in.Node, in.Claims = "node1", map[string]Claim{"node2": {Generation: 1}}
			in.Basis = BasisOf(in.Config, in.Nodes, in.Speakers)
			addr := netip.MustParseAddr("192.0.2.1")
			b.ReportAllocs()
			for i := range b.N {
				in.Address = addr
				if i%100 == 0 {
					addr = netip.MustParseAddr("192.0.2.1")
				}
				addr = addr.Next()
				if d := Decide(in); d.Owner != "node2" {
					b.Fatal(d)
				}
			}
		})
	}
}
