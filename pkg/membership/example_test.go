package membership_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/berth-lb/berth/pkg/membership"
)

// Two members meet, and one learns what the other publishes.
func Example() {
	addresses := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	const port = 17946
	var peers []netip.AddrPort
	for _, addr := range addresses {
		peers = append(peers, netip.AddrPortFrom(addr, port))
	}

	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	var running sync.WaitGroup
	var members []*membership.Membership
	for i, addr := range addresses {
		m, err := membership.New(membership.Config{
			Name:         fmt.Sprintf("node%d", i+1),
			BindAddr:     addr,
			Port:         port,
			Keys:         [][]byte{bytes.Repeat([]byte{7}, 32)}, // a secret that all share
			ClusterLabel: "example",
			Timing:       membership.Fast.Timing(),
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		m.SetPeers(peers)
		members = append(members, m)
		running.Go(func() {
			if err := m.Run(ctx); err != nil {
				fmt.Println(err)
			}
		})
	}

	if err := members[1].Publish("stage", []byte("ready")); err != nil {
		fmt.Println(err)
		return
	}
	for range members[0].Changed() {
		if stage := stageOf(members[0], "node2"); stage != "" {
			fmt.Println("node2 is", stage)
			break
		}
	}

	leave() // the others know it at once
	running.Wait()
	// Output: node2 is ready
}

// stageOf returns what a member that is alive publishes as its stage.
func stageOf(m *membership.Membership, name string) string {
	for _, member := range m.Members() {
		if member.Name == name && member.State == membership.Alive {
			return string(member.Values["stage"])
		}
	}
	return ""
}
