package announcer

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// passBook is a Pass that remembers what it was told.
type passBook struct {
	mu    sync.Mutex
	begun bool
	all   int
}

func (p *passBook) Begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.all = true, p.all+1
}

func (p *passBook) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = false
}

func (p *passBook) told() (begun bool, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun, p.all
}

// TestPassesAreTold: that one has ended while the loop waits, and that it has not
// while the kernel does not give it a socket.
func TestPassesAreTold(t *testing.T) {
	p := &passBook{}
	bubble(t, Config{Pass: p}, func(t *testing.T, a *Announcer, s *segment) {
		if begun, all := p.told(); begun || all == 0 {
			t.Errorf("while it waits: begun %v, %d in all", begun, all)
		}
		never := make(chan struct{})
		a.open = func(spec neighbor.Spec) (socket, error) {
			<-never
			return s.open(spec)
		}
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(netip.MustParseAddr("192.0.2.10"), on("eth0"))
		pause(10 * ms)
		if begun, _ := p.told(); !begun {
			t.Error("a pass that does not come back has ended")
		}
		close(never)
		pause(10 * ms)
		if begun, _ := p.told(); begun {
			t.Error("it has come back and is told not to have ended")
		}
	})
}
