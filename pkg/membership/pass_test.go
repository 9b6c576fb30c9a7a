package membership

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// passes counts what a Pass is told.
type passes struct {
	mu         sync.Mutex
	begun, all int
}

func (p *passes) Begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.all = 1, p.all+1
}

func (p *passes) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = 0
}

func (p *passes) told() (begun, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun, p.all
}

// TestPassesAreTold: the loop tells that each pass begins, and that it has ended
// while it waits.
func TestPassesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &passes{}
		m, err := New(Config{
			Name:     "a",
			BindAddr: netip.MustParseAddr("127.0.0.1"),
			Keys:     [][]byte{make([]byte, 32)},
			Pass:     p,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { newLoop(m, nil).work(ctx) })
		time.Sleep(time.Minute)
		synctest.Wait() // a tick is due at the same moment
		begun, all := p.told()
		if begun != 0 || all == 0 {
			t.Errorf("while it waits: %d begun, %d in all", begun, all)
		}
		stop()
		running.Wait()
	})
}
