package announcer_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"

	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/links/watch"
)

// Example answers for two addresses on eth0 until it is interrupted. It needs
// CAP_NET_RAW, and Linux. Whatever arrives for the addresses is for the kernel to
// forward.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	log := slog.Default()

	a, err := announcer.New(announcer.Config{Logger: log})
	if err != nil {
		log.Error("cannot announce", "error", err)
		return
	}
	links := watch.New(log)
	go func() {
		if err := links.Run(ctx); err != nil {
			log.Error("cannot watch links", "error", err)
			stop()
		}
	}()

	for _, addr := range []string{"192.0.2.10", "2001:db8::10"} {
		a.Set(netip.MustParseAddr(addr), announcer.Request{Links: []string{"eth0"}})
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-links.Changed():
				a.SetLinks(links.Links())
			case <-a.Changed():
				for _, c := range a.Conflicts() {
					log.Warn("another host claims the address", "address", c.Addr, "mac", c.MAC)
				}
				if a.Suspended() {
					a.Resume() // nobody else answers for these addresses
				}
			}
		}
	}()
	if err := a.Run(ctx); err != nil {
		log.Error("cannot announce", "error", err)
	}
}
