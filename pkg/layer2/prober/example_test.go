package prober_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links/watch"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// Example asks who has an address on eth0, and then follows for a minute whether a
// host's kernel answers. It needs CAP_NET_RAW, and Linux.
func Example() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()

	p, err := prober.New(prober.Config{Interval: 100 * time.Millisecond, Misses: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	links, err := watch.Read()
	if err != nil {
		fmt.Println(err)
		return
	}
	p.SetLinks(links)
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()

	found, err := p.Ask(ctx, prober.Question{Addr: netip.MustParseAddr("192.0.2.10"), Link: "eth0"})
	if err != nil {
		fmt.Println("nothing is known:", err)
	}
	fmt.Println("held by", found.Holders)

	p.SetTargets([]prober.Target{{
		Node: "other",
		Link: "eth0",
		Addr: netip.MustParseAddr("192.0.2.2"),
	}})
	for {
		select {
		case err := <-ended:
			fmt.Println("ended:", err)
			return
		case <-p.Changed():
			fmt.Println("other", p.Reach()["other"].State)
		}
	}
}
