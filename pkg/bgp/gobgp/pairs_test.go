package gobgp

import (
	"net/netip"
	"strings"
	"testing"
)

// TestPairs: of two peers, one has the session between two addresses, and only as
// long as it uses it.
func TestPairs(t *testing.T) {
	own, router := netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("10.0.0.1")
	at := pair{local: own, remote: router, port: 179}
	another := func(change func(*pair)) pair {
		out := at
		change(&out)
		return out
	}
	for _, test := range []struct {
		story string
		at    pair
		free  bool
	}{
		{"the same", at, false},
		{"from another address", another(func(p *pair) { p.local = router }), true},
		{"to another router", another(func(p *pair) { p.remote = own }), true},
		{"another daemon there", another(func(p *pair) { p.port = 1179 }), true},
		{"in a VRF", another(func(p *pair) { p.vrf = "red" }), true},
		{"on another link, with the same link-local addresses",
			another(func(p *pair) { p.link = "eth1" }), true},
		{"it is not known from where", another(func(p *pair) { p.local = netip.Addr{} }), true},
	} {
		var p pairs
		if err := p.take(at, "a"); err != nil {
			t.Fatal(err)
		}
		err := p.take(test.at, "b")
		if (err == nil) != test.free || err != nil && !strings.Contains(err.Error(), "peer a") {
			t.Errorf("%s: %v", test.story, err)
		}
		p.leave(at, "b") // who has it not cannot give it back
		if err := p.take(at, "c"); err == nil {
			t.Errorf("%s: it was given back by another", test.story)
		}
		if err := p.take(at, "a"); err != nil {
			t.Errorf("%s: its own again: %v", test.story, err)
		}
		p.leave(at, "a")
		if err := p.take(at, "b"); err != nil {
			t.Errorf("%s: after it was given back: %v", test.story, err)
		}
	}
}
