package bgp_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

// A plan needs no network and no cluster: it follows from peers and addresses as values,
// and so does what it changes.
func ExamplePlan() {
	tor := bgp.Peer{
		Name:     "tor",
		LocalASN: 64512,
		PeerASN:  64513,
		Address:  netip.MustParseAddr("192.0.2.254"),
		Families: bgp.IPv4,
	}
	all := &bgp.Advertisement{
		Name:        "all",
		Length4:     32,
		Length6:     128,
		Communities: []bgp.Community{{Kind: bgp.Standard, A: 64512<<16 | 100}},
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before := bgp.Plan(now, []bgp.Peer{tor}, nil)
	after := bgp.Plan(now, []bgp.Peer{tor}, []bgp.Address{{
		Address:        netip.MustParseAddr("198.51.100.7"),
		Advertisements: []*bgp.Advertisement{all},
		Endpoints:      1,
	}})

	for _, change := range bgp.Diff(before.Desired, after.Desired) {
		for _, route := range change.Announce {
			fmt.Println(change.Peer.Name, change.Action, route.Prefix, route.Communities)
		}
	}
	// Output: tor keep 198.51.100.7/32 [64512:100]
}
