package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxPings bounds how many members Confirm pings at one time.
const maxPings = 32

var (
	// errNotRunning is the error of what needs Run.
	errNotRunning = errors.New("membership: does not run")
	// errNotUnderstood is the error of an exchange with a member whose state this
	// version does not read.
	errNotUnderstood = errors.New("it writes a format that this version does not read")
)

// Ping pings another member directly, by one UDP packet. It returns nil when the answer
// comes within Timing.ProbeTimeout and before ctx ends. It is an error to ping a member
// whose address is not known, and to ping before or after Run. Nothing is concluded from
// it: the member keeps its State.
func (m *Membership) Ping(ctx context.Context, name string) error {
	list := m.running()
	if list == nil {
		return errNotRunning
	}
	for _, a := range m.view.snapshot() {
		if a.name == name && a.addr.IsValid() {
			return ping(ctx, list, a)
		}
	}
	return fmt.Errorf("membership: ping %s: no such member is known", name)
}

// Confirm finds out whether this member still has contact, and what it missed: it
// returns nil once another member has answered a ping and exchanged its whole state with
// this member, or at once when nobody is known but those who have left. It asks
// all, in rounds of Timing.ProbeTimeout, also those thought dead, because it is
// for a process that was stopped for a while and cannot trust what it thinks. The
// state is exchanged with the first that answers, and with the next one only
// when that fails: a whole state of each would stop the process again.
//
// Only what is understood counts. Members whose format is known to be unreadable are
// not asked, since nothing can be learnt from them; when there are no others, Confirm
// returns an error at once. It also returns an error when ctx ends first, and when Run
// does not run.
func (m *Membership) Confirm(ctx context.Context) error {
	round := time.NewTicker(m.config.Timing.ProbeTimeout)
	defer round.Stop()
	for {
		list := m.running()
		if list == nil {
			return errNotRunning
		}
		ask, lost, understood := m.membersToAsk()
		switch {
		case !lost:
			return nil
		case !understood:
			return fmt.Errorf("membership: no other member can tell what was missed: %w", errNotUnderstood)
		case m.syncWithOne(ctx, list, ask):
			return nil
		}
		// When nothing can even be sent, a round would be over at once.
		select {
		case <-ctx.Done():
			return fmt.Errorf("membership: no other member answers: %w", ctx.Err())
		case <-round.C:
		}
	}
}

// membersToAsk returns all others that this version understands, as far as is known,
// those thought alive first and otherwise at random. lost is true when one of the others
// has not left, understood when one of these is understood.
func (m *Membership) membersToAsk() (ask []member, lost, understood bool) {
	for _, a := range m.view.snapshot() {
		if a.name == m.config.Name {
			continue
		}
		lost = lost || a.state != Left
		if a.format.Readable() {
			understood = understood || a.state != Left
			ask = append(ask, a)
		}
	}
	rand.Shuffle(len(ask), func(i, j int) { ask[i], ask[j] = ask[j], ask[i] })
	rank := map[State]int{Alive: 0, Dead: 1, Left: 2}
	slices.SortStableFunc(ask, func(a, b member) int { return cmp.Compare(rank[a.state], rank[b.state]) })
	return ask, lost, understood
}

// syncWithOne pings all and exchanges the whole state with those that answer, one at a
// time, until one exchange succeeds.
func (m *Membership) syncWithOne(ctx context.Context, list *memberlist.Memberlist, ask []member) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan member)
	answers := make(chan member)
	ended := make(chan struct{}, len(ask))
	for range min(maxPings, len(ask)) {
		go func() {
			for a := range next {
				if ping(ctx, list, a) == nil {
					select {
					case answers <- a:
					case <-ctx.Done():
					}
				}
				ended <- struct{}{}
			}
		}()
	}
	go func() {
		defer close(next)
		for _, a := range ask {
			select {
			case next <- a:
			case <-ctx.Done():
				return
			}
		}
	}()
	for range ask {
		for waiting := true; waiting; {
			select {
			case a := <-answers:
				if m.syncWith(ctx, list, a) == nil {
					return true
				}
			case <-ended:
				waiting = false
			case <-ctx.Done():
				return false
			}
		}
	}
	return false
}

// syncWith exchanges the whole state with another member. It is an error when the other
// state was not understood. When ctx ends, the exchange continues by itself.
func (m *Membership) syncWith(ctx context.Context, list *memberlist.Memberlist, a member) error {
	done := make(chan error, 1)
	go func() {
		before := m.view.merges.Load()
		_, err := list.Join([]string{a.addr.String()}) // merges before it returns
		if err == nil && m.view.merges.Load() == before {
			err = errNotUnderstood
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ping(ctx context.Context, list *memberlist.Memberlist, a member) error {
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
