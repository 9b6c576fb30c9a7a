package suite

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestManyAddresses: however many addresses the nodes have on a link, they see each other in the subnet of a
// new address, one of them announces it, and nobody takes the others for strangers.
func TestManyAddresses(t *testing.T) {
	// As egress gateways, keepalived and IPv6 privacy leave them: they sort before the LAN's own.
	var secondaries, temporary [][]netip.Prefix
	for i := range cluster.NodeNames() {
		var of4, of6 []netip.Prefix
		for j := range 8 {
			of4 = append(of4, netip.MustParsePrefix(fmt.Sprintf("10.9.%d.%d/32", i+1, j+1)))
			of6 = append(of6, netip.MustParsePrefix(fmt.Sprintf("2001:db8:77:0:%x:%x:%x:%x/64",
				0x9a00+i, 0x5e1f+j*77, 0x1234, j+1)))
		}
		secondaries, temporary = append(secondaries, of4), append(temporary, of6)
	}
	for _, test := range []struct {
		name, addresses string
		of              family
		more            [][]netip.Prefix
	}{
		{"secondaries", spans(204, 204), ipv4, secondaries},
		{"privacy", spans(205, 205), ipv6, temporary},
	} {
		t.Run(test.name, func(t *testing.T) {
			needs(t, test.of, "hosts that do not have it have no such addresses")
			if test.of == ipv4 {
				fullOnly(t, "ten seconds; there are as many addresses of IPv6, in one subnet")
			}
			for i, node := range cluster.NodeNames() {
				if err := cluster.Node(node).AddAddresses(t.Context(), "eth0", test.more[i]...); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					err := cluster.Node(node).RemoveAddresses(
						context.WithoutCancel(t.Context()),
						"eth0",
						test.more[i]...,
					)
					if err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(2 * time.Second) // until all have told each other
			before := time.Now()
			addresses := aDualStack(t, "many-"+test.name, test.addresses)
			assigned := time.Now()
			for _, addr := range addresses {
				served(t, addr.String())
			}
			fmt.Printf("figure: 8 more addresses on each node (%s): "+
				"all addresses served %d ms after they were assigned\n",
				test.name, time.Since(assigned).Milliseconds())
			e := watched(t, addresses)
			e.served(t)
			from := time.Now()
			time.Sleep(3 * time.Second)
			owners := e.owners(t)
			e.clear(t, before)
			for _, addr := range addresses {
				stated := map[string]int{}
				for _, c := range e.claimsSince(t, from) {
					if c.Addr == addr {
						stated[c.MAC.String()]++
					}
				}
				if len(stated) != 1 {
					t.Errorf("%s is stated to be at %v", addr, stated)
				}
				if got := announcers(t, addr); len(got) != 1 || got[0] != owners[addr] {
					t.Errorf("the Speakers of %v say that they announce %s, which %s does",
						got, addr, owners[addr])
				}
			}
			if got := conflicts(t, addresses...); len(got) > 0 {
				t.Errorf("conflicts: %v", got)
			}
		})
	}
}
