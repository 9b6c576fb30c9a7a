package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// errNotRunning is the error of what needs Run.
var errNotRunning = errors.New("membership: does not run")

// Ping asks a fellow directly, by one UDP packet, whether it is there. It returns
// nil when the answer comes within Timing.ProbeTimeout and before ctx ends. It is
// an error to ping somebody of whom no address is known, and to ping before or
// after Run. Nothing is concluded from it: the member keeps its State.
func (m *Membership) Ping(ctx context.Context, name string) error {
	list := m.running()
	if list == nil {
		return errNotRunning
	}
	for _, a := range m.view.acquaintances() {
		if a.name == name && a.addr.IsValid() {
			return ping(ctx, list, a)
		}
	}
	return fmt.Errorf("membership: ping %s: no such member is known", name)
}

// Confirm finds out whether this member still has contact, and what it missed: it
// returns nil once a fellow has answered a ping and exchanged its whole state with
// this member, or at once when nobody is known but those who have left. It asks
// all, in rounds of Timing.ProbeTimeout, also those thought dead, because it is
// for a process that was stopped for a while and cannot trust what it thinks. It
// returns an error when ctx ends first, and when Run does not run.
func (m *Membership) Confirm(ctx context.Context) error {
	round := time.NewTicker(m.config.Timing.ProbeTimeout)
	defer round.Stop()
	for {
		list := m.running()
		if list == nil {
			return errNotRunning
		}
		var ask []acquaintance
		lost := false
		for _, a := range m.view.acquaintances() {
			if a.name != m.config.Name {
				lost = lost || a.state != Left
				ask = append(ask, a)
			}
		}
		if !lost {
			return nil
		}
		answers := make(chan error, len(ask))
		for _, a := range ask {
			go func() { answers <- meet(ctx, list, a) }()
		}
		for range ask {
			if <-answers == nil {
				return nil
			}
		}
		// When nothing can even be sent, a round would be over at once.
		select {
		case <-ctx.Done():
			return fmt.Errorf("membership: no fellow answers: %w", ctx.Err())
		case <-round.C:
		}
	}
}

// meet pings a fellow and, when it answers, exchanges the whole state with it.
func meet(ctx context.Context, list *memberlist.Memberlist, a acquaintance) error {
	if err := ping(ctx, list, a); err != nil {
		return err
	}
	if _, err := list.Join([]string{a.addr.String()}); err != nil {
		return fmt.Errorf("membership: exchange with %s: %w", a.name, err)
	}
	return nil
}

func ping(ctx context.Context, list *memberlist.Memberlist, a acquaintance) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("membership: ping %s: %w", a.name, err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := list.Ping(a.name, net.UDPAddrFromAddrPort(a.addr))
		answer <- err
	}()
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("membership: ping %s: %w", a.name, err)
	}
	return nil
}
