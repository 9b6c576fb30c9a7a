package announcer

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// TestAnnouncerAgainstOracle changes wishes, links and what the kernel refuses at
// random, and compares what is answered, joined and told with what follows from
// the last wishes alone.
func TestAnnouncerAgainstOracle(t *testing.T) {
	for seed := range uint64(20) {
		config := Config{BurstCount: 2, RefreshInterval: time.Second}
		bubble(t, config, func(t *testing.T, a *Announcer, s *segment) {
			w := &randomWorld{
				Announcer: a,
				segment:   s,
				dice:      rand.New(rand.NewPCG(seed, 0)),
				wishes:    make(map[netip.Addr]Request),
				links:     map[string]links.Link{"eth0": lan(2, "eth0"), "eth1": lan(3, "eth1")},
			}
			w.tellLinks()
			for step := range 100 {
				w.change()
				if step%4 == 0 {
					s.set(nil, nil)
					pause(11 * time.Second) // the longest retry
					w.check(t, seed, step)
				} else {
					pause(time.Duration(w.dice.IntN(30)) * ms)
				}
			}
		})
	}
}

// randomWorld is what was last said to an announcer.
type randomWorld struct {
	*Announcer
	segment *segment
	dice    *rand.Rand
	wishes  map[netip.Addr]Request
	links   map[string]links.Link // those that exist
}

// The addresses: two of them share a group.
var randomAddresses = []netip.Addr{vip4, foreign4, vip6, foreign6, netip.MustParseAddr("2001:db8:0:1::10:1")}

func (w *randomWorld) change() {
	name := []string{"eth0", "eth1"}[w.dice.IntN(2)]
	switch w.dice.IntN(12) {
	case 0: // the link goes, comes or is made again
		if _, ok := w.links[name]; ok {
			delete(w.links, name)
		} else {
			w.links[name] = lan(2+w.dice.IntN(100), name)
		}
	case 1: // the carrier
		if l, ok := w.links[name]; ok {
			l.Up = !l.Up
			w.links[name] = l
		}
	case 2: // another Ethernet address
		if l, ok := w.links[name]; ok {
			l.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 1, byte(w.dice.IntN(4))}
			w.links[name] = l
		}
	case 3:
		w.segment.set(errors.New("no such device"), nil)
	case 4:
		w.segment.set(nil, errors.New("no memory"))
	default:
		w.changeWish(name)
		return
	}
	w.tellLinks()
}

func (w *randomWorld) tellLinks() {
	var all []links.Link
	for _, name := range []string{"eth0", "eth1"} {
		if l, ok := w.links[name]; ok {
			all = append(all, l)
		}
	}
	w.SetLinks(all)
}

func (w *randomWorld) changeWish(name string) {
	addr := randomAddresses[w.dice.IntN(len(randomAddresses))]
	wish := w.wishes[addr]
	switch w.dice.IntN(6) {
	case 0:
		wish = Request{}
	case 1:
		wish.Links = []string{"eth1", "eth0"}
	case 2:
		wish.Generation++
	case 3:
		wish.As = map[string]net.HardwareAddr{name: otherMAC}
	case 4:
		wish.As = nil
	default:
		wish.Links = []string{name}
		wish.Policy.Count = w.dice.IntN(4)
	}
	w.wishes[addr] = wish
	w.Set(addr, wish)
}

func (w *randomWorld) check(t *testing.T, seed uint64, step int) {
	t.Helper()
	told := make(map[place]Announcement)
	for _, got := range w.State() {
		told[place{got.Addr, got.Link}] = got
	}
	asked := 0
	for _, name := range []string{"eth0", "eth1"} {
		var groups []netip.Addr
		for _, addr := range randomAddresses {
			wish := w.wishes[addr]
			wanted := slices.Contains(wish.Links, name)
			l, exists := w.links[name]
			answering := wanted && exists && l.Up
			got, known := told[place{addr, name}]
			if known != wanted || known && (got.Problem == "") != answering ||
				got.Announced.IsZero() == (answering && wish.As[name] == nil) {
				t.Errorf("seed %d, step %d: %s on %s is %+v, want answering %t",
					seed, step, addr, name, got, answering)
			}
			if !answering {
				if sock := w.socket(name, addr); sock != nil && sock.ask(w.request(t, addr)) {
					t.Errorf("seed %d, step %d: %s on %s is answered", seed, step, addr, name)
				}
				continue
			}
			asked++
			if group, ok := neighbor.Group(addr); ok && !slices.Contains(groups, group) {
				groups = append(groups, group)
			}
			w.checkAnswer(t, addr, l, wish)
		}
		if sock := w.socket(name, vip6); sock != nil {
			slices.SortFunc(groups, netip.Addr.Compare)
			joined := slices.SortedFunc(slices.Values(sock.groups), netip.Addr.Compare)
			if !slices.Equal(groups, joined) {
				t.Errorf("seed %d, step %d: on %s joined %v, want %v", seed, step, name, joined, groups)
			}
		} else if len(groups) > 0 {
			t.Errorf("seed %d, step %d: no socket on %s", seed, step, name)
		}
	}
	if got := len(told); got < asked {
		t.Errorf("seed %d, step %d: %d told", seed, step, got)
	}
}

func (w *randomWorld) request(t *testing.T, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpRequest(t, client4, addr)
	}
	return solicit(t, solicitation{Target: addr})
}

// checkAnswer asks once and looks who the answer says it is.
func (w *randomWorld) checkAnswer(t *testing.T, addr netip.Addr, on links.Link, wish Request) {
	t.Helper()
	w.segment.frames()
	sock := w.socket(on.Name, addr)
	if sock == nil || !sock.ask(w.request(t, addr)) {
		t.Errorf("%s on %s is not answered", addr, on.Name)
		return
	}
	as := wish.As[on.Name]
	if as == nil {
		as = on.HardwareAddr
	}
	for _, f := range w.segment.frames() {
		said := f.frame[len(f.frame)-neighbor.MACLen:]
		if addr.Is4() {
			said = f.frame[22:28]
		}
		if !bytes.Equal(f.frame[:neighbor.MACLen], clientMAC) {
			continue // a refresh
		}
		if !bytes.Equal(said, as) || !bytes.Equal(f.frame[6:12], on.HardwareAddr) {
			t.Errorf("%s on %s answers as %x, want %s", addr, on.Name, said, as)
		}
	}
}

// socket is the open one of a link for the protocol of addr, or nil.
func (w *randomWorld) socket(link string, addr netip.Addr) (out *fakeSocket) {
	etherType := neighbor.ARP
	if addr.Is6() {
		etherType = neighbor.NDP
	}
	for _, f := range w.segment.all() {
		f.mu.Lock()
		if !f.closed && f.spec.Link.Name == link && f.spec.Protocol == etherType {
			out = f
		}
		f.mu.Unlock()
	}
	return out
}
