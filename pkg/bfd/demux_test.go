package bfd

import (
	"net/netip"
	"testing"
	"time"
)

// hostileLoop is a loop with sessions of every kind, up, that owns no socket.
func hostileLoop(t testing.TB) (*loop, map[string]*entry) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(s)
	out := make(map[string]*entry)
	for i, e := range []struct {
		name string
		key  Key
		link int
	}{
		{"plain", Key{Peer: addrB}, 0},
		{"bound", Key{Peer: netip.MustParseAddr("192.0.2.3"), Local: addrA, Link: "eth0"}, 1},
		{"far", Key{Peer: addrB, Multihop: true}, 0},
		{"link-local", Key{Peer: netip.MustParseAddr("fe80::2"), Link: "eth0"}, 1},
		{"the same on another link", Key{Peer: netip.MustParseAddr("fe80::2"), Link: "eth1"}, 2},
	} {
		config := SessionConfig{MinimumTTL: 250}
		x := &entry{key: e.key, link: e.link, slot: -1}
		x.session = newSession(time.Now(), sessionStart{config, uint32(100 + i), half})
		p := peer(Down)
		x.session.receive(time.Now(), p)
		p.State = Up
		x.session.receive(time.Now(), p)
		l.entries[e.key] = x
		l.sessions.add(x)
		out[e.name] = x
	}
	return l, out
}

func TestHostilePackets(t *testing.T) {
	from := func(peer, to string, link, ttl int) datagram {
		return datagram{from: netip.MustParseAddr(peer), to: netip.MustParseAddr(to), link: link, ttl: ttl}
	}
	near, far, near6 := role{singleHop, false}, role{multihop, false}, role{singleHop, true}
	down := func(yours uint32) Packet {
		p := peer(Down)
		p.YourDiscriminator = yours
		return p
	}
	up := func(yours uint32) Packet {
		p := peer(Up)
		p.YourDiscriminator = yours
		return p
	}
	broken := up(100)
	broken.DetectMultiplier = 0
	for _, test := range []struct {
		story  string
		role   role
		in     datagram
		packet Packet
		whose  string // "" for nobody's
		want   Verdict
	}{
		{"a good one", near, from("192.0.2.2", "192.0.2.1", 1, 255), up(100), "plain", Accepted},
		{"without discriminator, Down", near, from("192.0.2.2", "192.0.2.1", 1, 255), down(0), "plain",
			Accepted},
		{"from a router away", near, from("192.0.2.2", "192.0.2.1", 1, 254), up(100), "plain", WrongTTL},
		{"from a router away, without discriminator", near, from("192.0.2.2", "192.0.2.1", 1, 254), down(0),
			"plain", WrongTTL},
		{"of unknown TTL", near, from("192.0.2.2", "192.0.2.1", 1, -1), up(100), "plain", WrongTTL},
		{"a guessed discriminator", near, from("192.0.2.2", "192.0.2.1", 1, 255), up(99), "",
			UnknownDiscriminator},
		{"of another's session", near, from("192.0.2.2", "192.0.2.1", 1, 255), up(101), "bound", WrongPeer},
		{"an overheard discriminator", near, from("192.0.2.9", "192.0.2.1", 1, 255), up(100), "plain",
			WrongPeer},
		{"to the port of multihop", far, from("192.0.2.2", "192.0.2.1", 1, 255), up(100), "plain", WrongPeer},
		{"by another link", near, from("192.0.2.3", "192.0.2.1", 2, 255), up(101), "bound", WrongPeer},
		{"to another address", near, from("192.0.2.3", "192.0.2.99", 1, 255), up(101), "bound", WrongPeer},
		{"without discriminator by another link", near, from("192.0.2.3", "192.0.2.1", 2, 255), down(0), "",
			UnknownPeer},
		{"without discriminator, Up", near, from("192.0.2.2", "192.0.2.1", 1, 255), up(0), "",
			StateWithoutDiscriminator},
		{"from a stranger", near, from("192.0.2.9", "192.0.2.1", 1, 255), down(0), "", UnknownPeer},
		{"multiplier 0", near, from("192.0.2.2", "192.0.2.1", 1, 255), broken, "plain", ZeroMultiplier},
		{"multiplier 0 from a stranger", near, from("192.0.2.9", "192.0.2.1", 1, 255), broken, "",
			ZeroMultiplier},
		{"far, near enough", far, from("192.0.2.2", "192.0.2.1", 1, 250), up(102), "far", Accepted},
		{"far, too far", far, from("192.0.2.2", "192.0.2.1", 1, 249), up(102), "far", WrongTTL},
		{"far, begun", far, from("192.0.2.2", "192.0.2.1", 1, 250), down(0), "far", Accepted},
		{"link-local, on its link", near6, from("fe80::2", "fe80::1", 1, 255), down(0), "link-local",
			Accepted},
		{"link-local, on the other", near6, from("fe80::2", "fe80::1", 2, 255), down(0),
			"the same on another link", Accepted},
		{"link-local, on a third", near6, from("fe80::2", "fe80::1", 3, 255), down(0), "", UnknownPeer},
	} {
		t.Run(test.story, func(t *testing.T) {
			l, entries := hostileLoop(t)
			before := make(map[string]uint64)
			for name, e := range entries {
				before[name] = e.counters.Received[test.want]
			}
			test.in.n = copy(test.in.buf[:], test.packet.Append(nil))
			l.receive(test.role, &test.in)
			for name, e := range entries {
				want := before[name]
				if name == test.whose {
					want++
				}
				if got := e.counters.Received[test.want]; got != want {
					t.Errorf("%s counts %d %s, want %d", name, got, test.want, want)
				}
				if test.want != Accepted && e.session.state != Up {
					t.Errorf("%s is %s", name, e.session.state)
				}
			}
			if test.whose == "" && l.stats.Dropped[test.want] != 1 {
				t.Errorf("counted %v", l.stats.Dropped)
			}
		})
	}
}

func TestTheMostSpecificSessionIsBegun(t *testing.T) {
	s := newSessions()
	for i, key := range []Key{
		{Peer: addrB},
		{Peer: addrB, Link: "eth0"},
		{Peer: addrB, Local: addrA},
		{Peer: addrB, Local: addrA, Link: "eth0"},
	} {
		s.add(&entry{
			key:  key,
			link: i & 1,
			session: newSession(t0,
				sessionStart{SessionConfig{}, uint32(i + 1), half}),
		})
	}
	for _, test := range []struct {
		to   string
		link int
		want uint32
	}{{"192.0.2.1", 1, 4}, {"192.0.2.1", 2, 3}, {"192.0.2.77", 1, 2}, {"192.0.2.77", 2, 1}} {
		e := s.ofPeer(role{singleHop, false}, &datagram{
			from: addrB,
			to:   netip.MustParseAddr(test.to),
			link: test.link,
		})
		if e == nil || e.session.localDiscr != test.want {
			t.Errorf("to %s by link %d: %+v, want session %d", test.to, test.link, e, test.want)
		}
	}
	for _, e := range s.byDiscriminator {
		s.remove(e)
	}
	if len(s.byPeer)+len(s.byDiscriminator) > 0 {
		t.Error("something is left")
	}
}

// FuzzReceive: whatever arrives is counted once, and what is not accepted
// changes no session.
func FuzzReceive(f *testing.F) {
	packet := func(p Packet) []byte { return p.Append(nil) }
	f.Add([]byte{}, uint8(0), uint8(0), 1, 255)
	f.Add(packet(peer(Up)), uint8(0), uint8(0), 1, 255)
	good := peer(Up)
	for discriminator := range uint32(6) {
		good.YourDiscriminator = 99 + discriminator
		f.Add(packet(good), uint8(discriminator), uint8(discriminator), 1, 255)
	}
	from := []netip.Addr{
		addrB,
		netip.MustParseAddr("192.0.2.3"),
		netip.MustParseAddr("fe80::2"),
		netip.MustParseAddr("192.0.2.9"),
		{},
	}
	roles := []role{{singleHop, false}, {multihop, false}, {singleHop, true}, {multihop, true}}
	f.Fuzz(func(t *testing.T, payload []byte, who, where uint8, link, ttl int) {
		l, entries := hostileLoop(t)
		d := datagram{from: from[int(who)%len(from)], to: addrA, link: link, ttl: ttl}
		d.n = copy(d.buf[:], payload)
		before := make(map[string]session)
		for name, e := range entries {
			before[name] = *e.session
		}
		l.receive(roles[int(where)%len(roles)], &d)
		counted, accepted := uint64(0), uint64(0)
		for _, n := range l.stats.Dropped {
			counted += n
		}
		for name, e := range entries {
			own := e.counters.Received
			for _, n := range own {
				counted += n
			}
			accepted += own[Accepted]
			was := before[name]
			if own[Accepted] == 0 && (was.state != e.session.state ||
				was.remoteDiscr != e.session.remoteDiscr ||
				!was.lastHeard.Equal(e.session.lastHeard) || was.remoteMinRx != e.session.remoteMinRx) {
				t.Errorf("%s was changed by a packet that was dropped", name)
			}
			if next := e.session.next(); next.IsZero() && e.session.state != AdminDown {
				t.Errorf("%s waits for nothing", name)
			}
		}
		if counted != 1 {
			t.Errorf("counted %d times", counted)
		}
		if accepted == 1 && ttl < 250 {
			t.Errorf("accepted with TTL %d", ttl)
		}
	})
}
