package gobgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-lb/berth/pkg/bgp"
)

func TestAttributesOnTheWire(t *testing.T) {
	external := bgp.Peer{LocalASN: 4200000001, PeerASN: 64513}
	internal := bgp.Peer{LocalASN: 64512, PeerASN: 64512}
	hop := netip.MustParseAddr("192.0.2.1")
	weight := bgp.LinkBandwidth(65001, 125e6)
	full := bgp.Attributes{
		LocalPref: 300,
		MED:       0,
		HasMED:    true,
		Prepend:   2,
		Communities: []bgp.Community{{Kind: bgp.Standard, A: 65000<<16 | 1}, weight,
			{Kind: bgp.Large, A: 1, B: 2, C: 3}},
	}
	plain := bgp.Attributes{}
	for _, test := range []struct {
		story string
		peer  bgp.Peer
		a     bgp.Attributes
		want  []string // flags, type, length and value of each, in hexadecimal
	}{
		{"to an external peer", external, full, []string{
			"40010100", "400304c0000201", "40020a0202fa56ea01fa56ea01", "80040400000000",
			"c00804fde80001", "c010084004fde94cee6b28", "c0200c000000010000000200000003"}},
		{"to an internal peer: a preference, and no longer path", internal, full, []string{
			"40010100", "400304c0000201", "80040400000000", "4005040000012c",
			"c00804fde80001", "c010084004fde94cee6b28", "c0200c000000010000000200000003"}},
		{"nothing is said", external, plain, []string{"40010100", "400304c0000201"}},
		{"nothing is said to an internal peer", internal, plain,
			[]string{"40010100", "400304c0000201", "40050400000064"}},
		{"leaving an internal peer", internal,
			withGracefulShutdown([]bgp.Route{{Attributes: full}})[0].Attributes, []string{
				"40010100", "400304c0000201", "80040400000000", "40050400000000",
				"c00808fde80001ffff0000", "c010084004fde94cee6b28", "c0200c000000010000000200000003"}},
		{"leaving an external peer", external, withGracefulShutdown([]bgp.Route{{}})[0].Attributes,
			[]string{"40010100", "400304c0000201", "c00804ffff0000"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			list, err := attributes(test.peer, test.a, hop)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range list {
				b, err := a.Serialize()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%x", b))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", strings.TrimSpace(diff))
			}
		})
	}
	if full.LocalPref != 300 || len(full.Communities) != 3 {
		t.Error("the route itself was changed")
	}
}
