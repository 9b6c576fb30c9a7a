package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2"
)

const (
	// askAgain is after how long the LAN is asked again for an address that is
	// taken.
	askAgain = 10 * time.Second
	// askFellowAgain is the same where a fellow has it, or asks for it too, of
	// which gossip should soon tell. After so many tries it is told.
	askFellowAgain = 500 * time.Millisecond
	fellowTries    = 5
)

// asking has the LAN probed for addresses before they are announced for the
// very first time (RFC 5227 2.1, RFC 4862 5.4).
type asking struct {
	prober interface {
		Ask(context.Context, layer2.Question) ([]net.HardwareAddr, error)
	}
	view     *view
	log      *slog.Logger
	count    int
	interval time.Duration
	look     func(netip.Addr) // has an address looked at

	ctx     context.Context // ends with the speaker
	pending sync.WaitGroup
}

// run waits until the speaker stops and all that is under way has ended.
func (a *asking) run(ctx context.Context) error {
	<-ctx.Done()
	a.pending.Wait()
	return nil
}

// start asks for an address on links until it is free, or this node is no longer
// to announce it, or the links cannot be asked: then the next decision says on
// which. It has the address looked at when the answer is news.
func (a *asking) start(addr netip.Addr, links []string) {
	serial := a.view.state.startProbe(addr)
	a.pending.Go(func() {
		for tries := 1; a.ctx.Err() == nil && a.view.state.probing(addr, serial); tries++ {
			holder, err := a.ask(addr, links)
			switch {
			case a.ctx.Err() != nil:
				return
			case err != nil:
				a.log.Info("cannot probe for an address", "address", addr.String(), "error", err)
				a.wait(askFellowAgain)
				a.tell(addr, serial, announcement.ProbeNone, nil)
				return
			case holder == nil:
				a.tell(addr, serial, announcement.ProbeFree, nil)
				return
			case a.view.nodeOf(holder) != "" && tries < fellowTries:
				a.wait(askFellowAgain)
			default:
				a.tell(addr, serial, announcement.ProbeTaken, holder)
				a.wait(askAgain)
			}
		}
	})
}

// tell has the address looked at with what is known of it now.
func (a *asking) tell(addr netip.Addr, serial uint64, state announcement.ProbeState, holder net.HardwareAddr) {
	if a.view.state.setProbe(addr, serial, state, holder) {
		a.look(addr)
	}
}

func (a *asking) wait(d time.Duration) {
	select {
	case <-a.ctx.Done():
	case <-time.After(d):
	}
}

// ask returns who has the address, nil for nobody. An error counts only when
// nobody is found and no link could be asked.
func (a *asking) ask(addr netip.Addr, links []string) (net.HardwareAddr, error) {
	type answer struct {
		holders []net.HardwareAddr
		err     error
	}
	answers := make(chan answer, len(links))
	for _, link := range links {
		go func() {
			holders, err := a.prober.Ask(a.ctx, layer2.Question{Addr: addr, Link: link, Count: a.count, Interval: a.interval})
			answers <- answer{holders, err}
		}()
	}
	var holders []net.HardwareAddr
	var errs []error
	for range links {
		got := <-answers
		holders = append(holders, got.holders...)
		if got.err != nil {
			errs = append(errs, got.err)
		}
	}
	slices.SortFunc(holders, func(x, y net.HardwareAddr) int { return bytes.Compare(x, y) })
	switch {
	case len(holders) > 0:
		return holders[0], nil
	case len(errs) == len(links):
		return nil, fmt.Errorf("no link could be asked: %w", errors.Join(errs...))
	}
	return nil, nil
}
