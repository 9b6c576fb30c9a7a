package gobgp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/berth-lb/berth/pkg/bgp"
)

// serialized is a message as gobgp writes it.
func serialized(t testing.TB, m *packet.BGPMessage, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// anOpen is an OPEN with all that matters here.
func anOpen(t testing.TB) []byte {
	caps := []packet.ParameterCapabilityInterface{
		packet.NewCapRouteRefresh(),
		packet.NewCapMultiProtocol(packet.RF_IPv4_UC),
		packet.NewCapMultiProtocol(packet.RF_IPv6_UC),
		packet.NewCapMultiProtocol(packet.RF_EVPN),
		packet.NewCapFourOctetASNumber(4200000001),
		packet.NewCapGracefulRestart(false, true, 120, []*packet.CapGracefulRestartTuple{
			packet.NewCapGracefulRestartTuple(packet.RF_IPv4_UC,
				false), packet.NewCapGracefulRestartTuple(packet.RF_IPv6_UC, false)}),
		packet.NewCapLongLivedGracefulRestart([]*packet.CapLongLivedGracefulRestartTuple{
			packet.NewCapLongLivedGracefulRestartTuple(packet.RF_IPv4_UC, false, 3600)}),
		packet.NewCapExtendedNexthop([]*packet.CapExtendedNexthopTuple{
			packet.NewCapExtendedNexthopTuple(packet.RF_IPv4_UC, packet.AFI_IP6),
		}),
	}
	m, err := packet.NewBGPOpenMessage(packet.AS_TRANS, 90, netip.MustParseAddr("1.2.3.4"),
		[]packet.OptionParameterInterface{packet.NewOptionParameterCapability(caps)})
	return serialized(t, m, err)
}

func TestParseOpen(t *testing.T) {
	o, err := parseOpen(anOpen(t))
	if err != nil {
		t.Fatal(err)
	}
	if o.as != 4200000001 || o.id != [4]byte{1, 2, 3, 4} || number(o.hold) != 90 ||
		o.families != bgp.DualStack ||
		!o.nextHop6 || !o.restart || !o.notification || len(o.forwarding) != 2 || o.longLived != 3600 ||
		len(o.longLivedFlags) != 1 {
		t.Errorf("got %+v", o)
	}
}

func TestAnOpenWithoutCapabilitiesIsIPv4(t *testing.T) {
	m, err := packet.NewBGPOpenMessage(64512, 3, netip.MustParseAddr("1.2.3.4"), nil)
	o, err := parseOpen(serialized(t, m, err))
	if err != nil || o.as != 64512 || o.families != bgp.IPv4 || o.restart || o.nextHop6 {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestAnOpenOfAS0IsRefused(t *testing.T) {
	for _, test := range []struct {
		story  string
		number uint16 // of two octets
		four   []byte // "" for none
	}{
		{"two octets", 0, nil},
		{"four octets", packet.AS_TRANS, make([]byte, 4)},
		{"two octets, beside four others", 0, []byte{0, 0, 0xfc, 1}},
	} {
		m, err := packet.NewBGPOpenMessage(test.number, 90, netip.MustParseAddr("1.2.3.4"), nil)
		b := serialized(t, m, err)
		if test.four != nil {
			if b, err = withCapabilities(b, []capability{{capFourOctetAS, test.four}}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = parseOpen(b)
		if bad := (messageError{}); !errors.As(err, &bad) || bad.code != codeOpen ||
			bad.subcode != openBadPeerAS {
			t.Errorf("%s: got %v", test.story, err)
		}
	}
}

// TestAnOpenOfAnotherVersionIsAnswered with the version that is known here (RFC 4271,
// 6.2).
func TestAnOpenOfAnotherVersionIsAnswered(t *testing.T) {
	for _, version := range []byte{3, 5} {
		m := anOpen(t)
		m[headerLength] = version
		_, err := parseOpen(m)
		bad := messageError{}
		if !errors.As(err, &bad) || string(bad.answer()[headerLength:]) != "\x02\x01\x00\x04" {
			t.Errorf("version %d: %v, which is answered with %x", version, err, bad.answer())
		}
	}
}

// TestFit: the relay writes into an OPEN what gobgp cannot be asked for, and
// gobgp's own reader understands it.
func TestFit(t *testing.T) {
	for _, test := range []struct {
		story                string
		restarted, preserved bool
	}{{"the first session of a node that has just booted", false, false}, {"after a restart", true,
		true}, {"after a lost connection", false, true}} {
		t.Run(test.story, func(t *testing.T) {
			r := &relay{peer: bgp.Peer{Hold: 0}, restarted: test.restarted, preserved: test.preserved}
			m, err := r.rewriteOpen(anOpen(t))
			if err != nil {
				t.Fatal(err)
			}
			read, err := packet.ParseBGPMessage(m)
			if err != nil {
				t.Fatal(err)
			}
			open := read.Body.(*packet.BGPOpen)
			if open.HoldTime != 0 {
				t.Errorf("the hold time is %d", open.HoldTime)
			}
			for _, c := range open.OptParams[0].(*packet.OptionParameterCapability).Capability {
				switch c := c.(type) {
				case *packet.CapGracefulRestart:
					if c.Flags&0x08 != 0 != test.restarted || c.Flags&0x04 == 0 {
						t.Errorf("flags of the restart are %x", c.Flags)
					}
					for _, tuple := range c.Tuples {
						if tuple.Flags&0x80 != 0 != test.preserved {
							t.Errorf("flags of a family are %x", tuple.Flags)
						}
					}
				case *packet.CapLongLivedGracefulRestart:
					if c.Tuples[0].Flags&0x80 != 0 != test.preserved || c.Tuples[0].RestartTime != 3600 {
						t.Errorf("long-lived: %+v", c.Tuples[0])
					}
				}
			}
		})
	}
}

func TestReadMessage(t *testing.T) {
	header := func(length uint16, typ byte) []byte {
		m := bytes.Repeat([]byte{0xff}, 16)
		return append(binary.BigEndian.AppendUint16(m, length), typ)
	}
	for _, test := range []struct {
		story  string
		in     []byte
		typ    byte
		length int
		answer string // code, subcode and data of the NOTIFICATION; "" for none
	}{
		{"a KEEPALIVE", header(19, typeKeepalive), typeKeepalive, 19, ""},
		{"an UPDATE is thrown away", append(header(4000, typeUpdate), make([]byte, 3981)...), typeUpdate, 19,
			""},
		{"also an extended one", append(header(65535, typeUpdate), make([]byte, 65516)...), typeUpdate, 19,
			""},
		{"an OPEN without parameters", append(header(29, typeOpen), make([]byte, 10)...), typeOpen, 29, ""},
		{"no marker", make([]byte, 19), 0, 0, "\x01\x01"},
		{"shorter than its header", header(18, typeKeepalive), 0, 0, "\x01\x02\x00\x12"},
		{"an OPEN that is too short", append(header(28, typeOpen), make([]byte, 9)...), 0, 0,
			"\x01\x02\x00\x1c"},
		{"too long", header(4097, typeNotification), 0, 0, "\x01\x02\x10\x01"},
		{"a KEEPALIVE with a body", header(20, typeKeepalive), 0, 0, "\x01\x02\x00\x14"},
		{"an unknown type", header(19, 6), 0, 0, "\x01\x03\x06"},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := bytes.NewReader(append(test.in, 'x'))
			typ, m, _, err := readMessage(in, make([]byte, maxLength), false, false)
			var bad messageError
			switch {
			case test.answer != "":
				if !errors.As(err, &bad) || string(bad.answer()[headerLength:]) != test.answer {
					t.Errorf("got %v, which is answered with %x", err, bad.answer())
				}
			case err != nil || typ != test.typ || len(m) != test.length || in.Len() != 1:
				t.Errorf("type %d with %d bytes, %v; %d bytes left", typ, len(m), err, in.Len())
			}
		})
	}
	if _, _, _, err := readMessage(bytes.NewReader(header(30, typeNotification)), make([]byte, maxLength),
		false, false); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("half a message: %v", err)
	}
}

// TestLongMessages: where both sides take them, some messages may be long (RFC
// 8654, 4). Nobody needs more of them than fits into an ordinary one.
func TestLongMessages(t *testing.T) {
	for _, test := range []struct {
		story string
		typ   byte
		says  string // of the error; "" for none
	}{
		{"a NOTIFICATION", typeNotification, ""},
		{"a ROUTE-REFRESH", typeRefresh, ""},
		{"an OPEN", typeOpen, "with 60000 bytes"},
		{"a KEEPALIVE", typeKeepalive, "with 60000 bytes"},
	} {
		long := append(message(test.typ, make([]byte, 60000-headerLength)), 'x')
		in := bytes.NewReader(long)
		typ, m, length, err := readMessage(in, make([]byte, maxLength), false, true)
		switch {
		case test.says != "":
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v", test.story, err)
			}
		case err != nil || typ != test.typ || length != 60000 || len(m) != maxLength ||
			number(m[16:]) != maxLength || in.Len() != 1:
			t.Errorf("%s: type %d, %d bytes of %d, %v", test.story, typ, len(m), length, err)
		}
		if _, _, _, err := readMessage(bytes.NewReader(long), make([]byte, maxLength), false,
			false); err == nil {
			t.Errorf("%s is taken though it was not agreed on", test.story)
		}
	}
}

func TestNotificationsInWords(t *testing.T) {
	for _, test := range []struct {
		story   string
		message []byte
		want    string
	}{
		{"with a text", notification(codeCease, ceaseShutdown, "maintenance"),
			`cease: administrative shutdown ("maintenance")`},
		{"a text that could do harm", notification(codeCease, ceaseShutdown, "a\x1b[2Jb\nc\xff"),
			`cease: administrative shutdown ("a.[2Jb.c.")`},
		{"a long text", notification(codeCease, ceaseShutdown, strings.Repeat("x", 300)),
			`cease: administrative shutdown ("` + strings.Repeat("x", 128) + `…")`},
		{"a text that is shorter than it says",
			append(notification(codeCease, ceaseShutdown, "")[:headerLength+2], 200,
				'x'), "cease: administrative shutdown"},
		{"wrapped", hardened(notification(codeCease, ceaseShutdown, "bye")),
			`cease: hard reset: cease: administrative shutdown ("bye")`},
		{"wrapped in itself", hardened(hardened(notification(codeCease, ceaseShutdown, ""))),
			"cease: hard reset"},
		{"unknown codes", notification(99, 7, ""), "error 99: subcode 7"},
		{"no subcode", notification(4, 0, ""), "hold timer expired"},
		{"too short", notification(4, 0, "")[:headerLength+1], "a NOTIFICATION that is too short"},
	} {
		if got := inWords(test.message); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.story, got, test.want)
		}
	}
}

func TestNotificationsAreUnderstood(t *testing.T) {
	m, err := packet.ParseBGPMessage(hardened(notification(codeCease, ceaseShutdown, "bye")))
	if err != nil {
		t.Fatal(err)
	}
	n := m.Body.(*packet.BGPNotification)
	if n.ErrorCode != 6 || n.ErrorSubcode != 9 || string(n.Data) != "\x06\x02\x03bye" {
		t.Errorf("got %+v", n)
	}
	if k, err := packet.ParseBGPMessage(keepalive()); err != nil || k.Header.Type != typeKeepalive ||
		len(keepalive()) != 19 {
		t.Errorf("got %+v, %v", k, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(anOpen(f))
	f.Add(ordinaryOpen(f, evpn))
	f.Add(extendedOpen(f, multi4, evpn, fourOctets, restarts, stale, nextHops6, hostName))
	f.Add(notification(codeCease, ceaseShutdown, "x"))
	f.Add(hardened(notification(codeCease, ceaseShutdown, "x")))
	f.Add(keepalive())
	f.Add(refreshOf(1, 0, 1))
	f.Add(append(message(typeUpdate, make([]byte, 60)), keepalive()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Read as the relay does, with a buffer in between, and without one: both
		// find the same messages.
		plain, in := bytes.NewReader(b), bufio.NewReaderSize(bytes.NewReader(b), 64)
		buffer, other := make([]byte, maxLength), make([]byte, maxLength)
		for {
			typ, m, length, err := readMessage(in, buffer, false, false)
			if t2, m2, l2, err2 := readMessage(plain, other, false, false); t2 != typ ||
				!bytes.Equal(m2, m) || l2 != length ||
				(err2 == nil) != (err == nil) {
				t.Fatalf("type %d of %d bytes, %v; without a buffer type %d of %d bytes, %v", typ, length,
					err, t2, l2, err2)
			}
			if err != nil {
				return
			}
			switch typ {
			case typeRefresh:
				if (&relay{}).asksForAll(m) {
					t.Fatal("all routes are asked for, of a session without families")
				}
			case typeOpen:
				o, err := parseOpen(m)
				if err != nil {
					continue
				}
				list, err := capabilitiesOf(m)
				if err != nil {
					t.Fatalf("what was read once cannot be read again: %v", err)
				}
				m, err := withCapabilities(m, understood(list))
				if err != nil {
					t.Fatalf("what gobgp is to see does not fit: %v", err)
				}
				if _, err := packet.ParseBGPMessage(m); err != nil {
					t.Fatalf("gobgp does not understand it: %v", err)
				}
				// A router with other families only is refused.
				seen, err := parseOpen(m)
				if err != nil || seen.as != o.as || o.families != 0 && seen.families != o.families {
					t.Fatalf("of %+v gobgp sees %+v, %v", o, seen, err)
				}
				r := &relay{restarted: true, preserved: true}
				if m, err = r.rewriteOpen(m); err != nil {
					t.Fatalf("what was read once cannot be read again: %v", err)
				}
				again, _ := parseOpen(m)
				if again.as != o.as || again.families != seen.families || again.longLived != seen.longLived {
					t.Fatalf("%+v became %+v", seen, again)
				}
			case typeNotification:
				if words := inWords(m); len(words) > 1024 || strings.ContainsAny(words, "\n\x1b") {
					t.Fatalf("in words: %q", words)
				}
			}
		}
	})
}
