package gobgp

import (
	"fmt"
	"net/netip"
	"sync"
)

// pairs are the pairs of addresses between which there is a connection, or an
// attempt at one, with the peer whose it is. A router has one session for each
// pair (RFC 4271, 6.8), and a second connection may end the first: some take it
// for the speaker after a restart. From which address a peer is reached that names
// none, only the routing table knows.
type pairs struct {
	mu    sync.Mutex
	taken map[pair]string
}

type pair struct {
	local, remote netip.Addr
	link          string // where addresses are link-local: they may be the same on another
	vrf           string
	port          uint16 // of the router; 0 when it connects
}

// take gives a pair to a peer, unless another has it. A pair without a local
// address is nobody's.
func (p *pairs) take(at pair, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if owner := p.taken[at]; owner != "" && owner != name {
		return fmt.Errorf("peer %s has the session from %s to this router, which has one for each pair of "+
			"addresses", owner, at.local)
	}
	if at.local.IsValid() {
		if p.taken == nil {
			p.taken = map[pair]string{}
		}
		p.taken[at] = name
	}
	return nil
}

// leave gives a pair back.
func (p *pairs) leave(at pair, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[at] == name {
		delete(p.taken, at)
	}
}
