package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/succession"
)

// place is the place of the speaker of this node, which one process has at a time.
type place struct {
	log *slog.Logger
	// turn is set when this process may use ports, as far as another speaker is concerned
	// that can be asked. Former does not change any more then.
	turn   notify.Latch
	office *succession.Office
	former *succession.Former // nil if there was none that can be asked
	// ports is set when the ports are this process's.
	ports notify.Latch

	// What answers ARP and NDP runs until answering ends, and is counted by answers.
	answering context.Context
	fallen    context.CancelFunc
	answers   sync.WaitGroup
}

// newPlace finds out whether another speaker works on this node. If not, it is the turn of
// this process at once.
func newPlace(ctx context.Context, name string, log *slog.Logger) (*place, error) {
	office := succession.NewOffice(name, log)
	former, err := office.Enter(ctx)
	if err != nil {
		return nil, err
	}
	p := &place{
		log:    log,
		turn:   notify.NewLatch(),
		office: office,
		former: former,
		ports:  notify.NewLatch(),
	}
	p.answering, p.fallen = context.WithCancel(context.WithoutCancel(ctx))
	if former == nil {
		p.turn.Set()
	}
	return p, nil
}

// releasePatience is how long a former speaker may need to release its ports. It has ended
// by then, or it hangs.
const releasePatience = 45 * time.Second

// askPause is the time after which a process looks for the speaker of its node again. If
// another one has got the place, it has taken the name by then.
const askPause = 250 * time.Millisecond

// take asks the former speaker for its place, if there is one, and returns when the ports
// are this process's. It fails only when ctx ends.
func (p *place) take(ctx context.Context) error {
	for !p.turn.IsSet() {
		asking, cancel := context.WithTimeout(ctx, releasePatience)
		err := p.former.Ask(asking)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			p.turn.Set()
			break
		}
		// It has ended, or given its place to another.
		p.log.Info("the former speaker of this node does not give its place", "error", err)
		_ = p.former.Close()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(askPause):
		}
		if p.former, err = p.office.Enter(ctx); err != nil {
			return err
		}
		if p.former == nil {
			p.turn.Set()
		}
	}
	select {
	case <-p.ports.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hasTurn waits for the turn of this process, and reports false if ctx ends before.
func (p *place) hasTurn(ctx context.Context) bool {
	select {
	case <-p.turn.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// answer has a part run until the process falls silent.
func (p *place) answer(part func(context.Context) error) {
	p.answers.Go(func() {
		if err := part(p.answering); err != nil {
			p.log.Error("answering has ended", "error", err)
		}
	})
}

// silence ends the answers, and returns when they have ended.
func (p *place) silence() {
	p.fallen()
	p.answers.Wait()
}

// announced tells the former speaker that this one announces what the node owns.
func (p *place) announced() {
	if p.former == nil {
		return
	}
	if err := p.former.Announce(); err != nil {
		p.log.Info("the former speaker of this node is gone", "error", err)
	}
}
