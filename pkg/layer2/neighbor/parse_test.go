package neighbor

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ndp"

	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
)

// parsing is one story of a received frame: what is read, or why it is rejected.
type parsing struct {
	story string
	frame []byte
	want  Packet
	err   error
}

func (p parsing) check(t *testing.T) {
	t.Helper()
	got, err := Parse(p.frame, ourMAC)
	if !errors.Is(err, p.err) || (err == nil) != (p.err == nil) {
		t.Errorf("%s: error %v, want %v", p.story, err, p.err)
		return
	}
	if got.Op != p.want.Op || got.Sender.IP != p.want.Sender.IP ||
		!bytes.Equal(got.Sender.MAC, p.want.Sender.MAC) ||
		got.Target != p.want.Target || got.ToUs != p.want.ToUs {
		t.Errorf("%s: %+v, want %+v", p.story, got, p.want)
	}
}

func TestParseARP(t *testing.T) {
	request, answer := arpRequest(t, client4, vip4), arpAnswer(t)
	client := Binding{IP: client4, MAC: clientMAC}
	asked := Packet{Op: Request, Sender: client, Target: vip4}
	answered := Packet{Op: Reply, Sender: client, Target: netip.MustParseAddr("192.0.2.7"), ToUs: true}
	probed := Packet{Op: Request, Sender: Binding{IP: netip.IPv4Unspecified(), MAC: clientMAC}, Target: vip4}
	from := func(op Op, sender string) Packet {
		return Packet{Op: op, Sender: Binding{IP: netip.MustParseAddr(sender), MAC: clientMAC}, Target: vip4}
	}
	sender := func(addr string) []byte { return arpRequest(t, netip.MustParseAddr(addr), vip4) }
	tagged := slices.Concat(request[:12], []byte{0x81, 0, 0, 7}, request[12:])
	for _, p := range []parsing{
		{"a request", request, asked, nil},
		{"without the padding", request[:42], asked, nil},
		{"with a check sequence behind it", append(bytes.Clone(request), 1, 2, 3, 4), asked, nil},
		{"an answer", answer, answered, nil},
		{"a probe", arpRequest(t, netip.IPv4Unspecified(), vip4), probed, nil},
		{"a reverse request", at(request, 21, 3), from(Other, "192.0.2.9"), nil},
		{"an operation that nobody knows", at(request, 20, 7, 7), from(Other, "192.0.2.9"), nil},
		{"the Ethernet source is a relay", at(request, 6, otherMAC...), asked, nil},
		{"a reply from nowhere", at(sender("0.0.0.0"), 21, 2), from(Reply, "0.0.0.0"), nil},
		{"the target is a group, and is only compared", at(request, 38, 224, 0, 0, 1),
			Packet{Op: Request, Sender: client, Target: netip.MustParseAddr("224.0.0.1")}, nil},

		{"we sent it", at(request, 6, ourMAC...), Packet{}, ErrOwn},
		{"we sent it, in another's frame", at(request, 22, ourMAC...), Packet{}, ErrOwn},
		{"for another host", at(request, 0, otherMAC...), Packet{}, ErrNotForUs},
		{"a VLAN tag", tagged, Packet{}, ErrNotForUs},
		{"another protocol", at(request, 12, 0x08, 0x00), Packet{}, ErrOtherProtocol},

		{"nothing", nil, Packet{}, ErrMalformed},
		{"half a header", request[:7], Packet{}, ErrMalformed},
		{"half a VLAN tag", tagged[:15], Packet{}, ErrMalformed},
		{"cut off", request[:41], Packet{}, ErrMalformed},
		{"hardware addresses of 200 bytes", at(request, 18, 200), Packet{}, ErrMalformed},
		{"IP addresses of 5 bytes", at(request, 19, 5), Packet{}, ErrMalformed},
		{"IP addresses of 16 bytes", at(request, 19, 16), Packet{}, ErrMalformed},
		{"another hardware type", at(request, 15, 6), Packet{}, ErrMalformed},
		{"another protocol type", at(request, 16, 0x86, 0xdd), Packet{}, ErrMalformed},
		{"the frame comes from a group", at(request, 6, 0xff), Packet{}, ErrMalformed},
		{"the sender is a group", at(request, 22, 0xff), Packet{}, ErrMalformed},
		{"the sender is nobody", at(request, 22, zeroMAC...), Packet{}, ErrMalformed},
		{"the sender's address is a group", sender("224.0.0.1"), Packet{}, ErrMalformed},
		{"the sender's address is loopback", sender("127.0.0.1"), Packet{}, ErrMalformed},
		{"the sender's address is the broadcast", sender("255.255.255.255"), Packet{}, ErrMalformed},
	} {
		p.check(t)
	}
}

func TestParseNDP(t *testing.T) {
	us := netip.MustParseAddr("fe80::7")
	unspecified, loopback := netip.IPv6Unspecified(), netip.IPv6Loopback()
	mapped := netip.MustParseAddr("::ffff:192.0.2.10")
	client := Binding{IP: client6, MAC: clientMAC}
	ask := solicit(t, solicitation{})
	asked := Packet{Op: Request, Sender: client, Target: vip6}
	answer := ndpAnswer(t, &ndp.NeighborAdvertisement{TargetAddress: client6, Solicited: true}, us, ourMAC)
	answered := Packet{Op: Reply, Sender: client, Target: client6, ToUs: true}
	told := Packet{Op: Reply, Sender: Binding{IP: vip6, MAC: clientMAC}, Target: vip6}
	probe := solicit(t, solicitation{Source: unspecified, NoOption: true})
	probed := Packet{Op: Request, Sender: Binding{IP: unspecified, MAC: clientMAC}, Target: vip6}
	options := []ndp.Option{
		&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: clientMAC},
		&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: otherMAC},
	}
	skipped := []byte{0, 1, 4, 0, 0, 0, 0} // PadN
	for _, p := range []parsing{
		{"a solicitation", ask, asked, nil},
		{"from a relay", at(ask, 6, otherMAC...), asked, nil},
		{"without option, from the Ethernet source",
			at(solicit(t, solicitation{NoOption: true}), 6, otherMAC...),
			Packet{Op: Request, Sender: Binding{IP: client6, MAC: otherMAC}, Target: vip6}, nil},
		{"to the target itself", solicit(t, solicitation{Destination: vip6, ToMAC: ourMAC}),
			Packet{Op: Request, Sender: client, Target: vip6, ToUs: true}, nil},
		{"with an option of the future", solicit(t, solicitation{
			More: []ndp.Option{&ndp.RawOption{Type: 200, Length: 1, Value: make([]byte, 6)}},
		}), asked, nil},
		{"duplicate address detection", probe, probed, nil},
		{"with a nonce", dadSolicit(t, ndp.NewNonce()), probed, nil},
		{"an answer", answer, answered, nil},
		{"its target option tells where",
			ndpAnswer(t, &ndp.NeighborAdvertisement{TargetAddress: client6, Options: options}, us, ourMAC),
			Packet{Op: Reply, Sender: Binding{IP: client6, MAC: otherMAC}, Target: client6, ToUs: true}, nil},
		{"an announcement", advertise(t, advertisement{}), told, nil},
		{"behind options that may be skipped", extend(ask, 60, skipped...), asked, nil},
		{"behind options for each hop", extend(probe, 0, skipped...), probed, nil},
		{"behind both",
			extend(extend(advertise(t, advertisement{}), 60, skipped...), 0, skipped...), told, nil},

		{"we sent it", at(ask, 6, ourMAC...), Packet{}, ErrOwn},
		{"a stand-in tells that we have it", advertise(t, advertisement{MAC: ourMAC}), Packet{}, ErrOwn},
		{"for another host's Ethernet address", at(ask, 0, otherMAC...), Packet{}, ErrNotForUs},
		{"to all nodes", solicit(t, solicitation{Destination: allNodes}), Packet{}, ErrNotForUs},
		{"to the group of another address", solicit(t,
			solicitation{Destination: netip.MustParseAddr("ff02::1:ff00:99")}), Packet{}, ErrNotForUs},
		{"an echo request", at(ask, offICMPv6, 128), Packet{}, ErrOtherProtocol},
		{"not ICMPv6", at(ask, offIPv6+6, 17), Packet{}, ErrOtherProtocol},
		{"behind a routing header", extend(ask, 43, 0, 0, 0, 0, 0, 0, 0), Packet{}, ErrOtherProtocol},

		{"in a fragment", extend(ask, 44, 0, 0, 0, 0, 0, 0, 1), Packet{}, ErrMalformed},
		{"options for each hop in the second place",
			extend(extend(ask, 0, skipped...), 60, skipped...), Packet{}, ErrMalformed},
		{"behind an option that has to be refused",
			extend(ask, 60, 0, 0x81, 4, 0, 0, 0, 0), Packet{}, ErrMalformed},
		{"behind an option that is cut off", extend(ask, 60, 0, 1, 5, 0, 0, 0, 0), Packet{}, ErrMalformed},
		{"behind options longer than the packet",
			extend(ask, 60, 200, 1, 4, 0, 0, 0, 0), Packet{}, ErrMalformed},
		{"behind more options than there can be",
			extend(
				extend(extend(extend(ask, 60, skipped...), 60, skipped...), 60, skipped...),
				60, skipped...), Packet{}, ErrMalformed},
		{"from beyond a router", solicit(t, solicitation{HopLimit: 254}), Packet{}, ErrMalformed},
		{"a wrong checksum", at(ask, offICMPv6+2, 0xde, 0xad), Packet{}, ErrMalformed},
		{"a wrong code", at(ask, offICMPv6+1, 1), Packet{}, ErrMalformed},
		{"a probe that tells a link-layer address",
			solicit(t, solicitation{Source: unspecified}), Packet{}, ErrMalformed},
		{"a probe to the target itself", solicit(t, solicitation{
			Source:      unspecified,
			NoOption:    true,
			Destination: vip6,
			ToMAC:       ourMAC,
		}), Packet{}, ErrMalformed},
		{"the loopback address asks", solicit(t, solicitation{Source: loopback}), Packet{}, ErrMalformed},
		{"an IPv4-mapped address asks", solicit(t, solicitation{Source: mapped}), Packet{}, ErrMalformed},
		{"a group asks", solicit(t, solicitation{Source: allNodes}), Packet{}, ErrMalformed},
		{"for the unspecified address",
			solicit(t, solicitation{Target: unspecified}), Packet{}, ErrMalformed},
		{"for the loopback address", solicit(t, solicitation{Target: loopback}), Packet{}, ErrMalformed},
		{"for an IPv4-mapped address", at(ask, offICMPv6+8, mapped.AsSlice()...), Packet{}, ErrMalformed},
		{"an answer for everybody", advertise(t, advertisement{Solicited: true}), Packet{}, ErrMalformed},
		{"a group's advertisement", advertise(t, advertisement{Target: allNodes}), Packet{}, ErrMalformed},
		{"the unspecified address is advertised",
			advertise(t, advertisement{Target: unspecified}), Packet{}, ErrMalformed},
		{"the loopback address is advertised",
			advertise(t, advertisement{Target: loopback}), Packet{}, ErrMalformed},
		{"at a group",
			advertise(t, advertisement{MAC: layer2test.GroupMAC(allNodes)}), Packet{}, ErrMalformed},
		{"cut off", ask[:70], Packet{}, ErrMalformed},
		{"nothing", nil, Packet{}, ErrMalformed},
		{"IP version 4", at(ask, offIPv6, 0x45), Packet{}, ErrMalformed},
	} {
		p.check(t)
	}
	nonce := ndp.NewNonce()
	p, err := Parse(dadSolicit(t, nonce), ourMAC)
	if err != nil || !p.IsProbe() || p.Nonce == nil || !p.Nonce.Equal(nonce) {
		t.Errorf("%+v, %v; want the nonce %v", p, err, nonce)
	}
}

func TestGroup(t *testing.T) {
	if group, ok := Group(vip6); !ok || group != vip6SNM {
		t.Errorf("group %s, %t; want %s", group, ok, vip6SNM)
	}
	if group, ok := Group(vip4); ok {
		t.Errorf("IPv4 has the group %s", group)
	}
}

// TestWhatIsSentIsRead: what one link sends, another reads as it was meant.
func TestWhatIsSentIsRead(t *testing.T) {
	for _, us := range []Binding{{IP: vip4, MAC: ourMAC}, {IP: vip6, MAC: ourMAC}} {
		unspecified, other, router := netip.IPv4Unspecified(), client4, Binding{}
		if us.IP.Is6() {
			unspecified = netip.IPv6Unspecified()
			other = client6
			router = Binding{IP: client6, MAC: clientMAC}
		}
		beyond := Beyond{Subnet: client4, Router: router}
		announced, err := Announcement(us, beyond)
		if err != nil {
			t.Fatal(err)
		}
		for i, frame := range announced {
			p, err := Parse(frame, clientMAC)
			if err != nil || p.Sender.IP != us.IP || !bytes.Equal(p.Sender.MAC, us.MAC) {
				t.Errorf("announcement %d of %s: %+v, %v", i, us.IP, p, err)
			}
		}
		for story, q := range map[string]Question{
			"as a host":   {Sender: us, Target: other},
			"of one host": {Sender: us, Target: other, To: clientMAC},
			"as a probe":  {Sender: Binding{MAC: ourMAC}, Target: other},
		} {
			frame, err := q.Frame()
			if err != nil {
				t.Fatal(err)
			}
			asked, err := Parse(frame, clientMAC)
			sender := q.Sender.IP
			if !sender.IsValid() {
				sender = unspecified
			}
			if err != nil || asked.Op != Request || asked.Target != other || asked.Sender.IP != sender ||
				!bytes.Equal(asked.Sender.MAC, ourMAC) || asked.ToUs != (q.To != nil) ||
				asked.IsProbe() != (sender == unspecified) {
				t.Errorf("asked %s for %s: %+v, %v", story, other, asked, err)
				continue
			}
			reply, err := asked.Reply(Answer{As: clientMAC, From: clientMAC})
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(reply, ourMAC)
			toUs := other.Is4() || !asked.IsProbe()
			if err != nil || got.Op != Reply || got.Sender.IP != other ||
				!bytes.Equal(got.Sender.MAC, clientMAC) || got.ToUs != toUs {
				t.Errorf("answered %s for %s: %+v, %v", story, other, got, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	us := netip.MustParseAddr("fe80::7")
	ask := solicit(f, solicitation{})
	for _, seed := range [][]byte{
		nil, arpAnswer(f), arpRequest(f, netip.IPv4Unspecified(), vip4),
		at(arpAnswer(f), 18, 200), at(arpAnswer(f), 12, 0x81, 0),
		ndpAnswer(f, &ndp.NeighborAdvertisement{TargetAddress: client6, Solicited: true}, us, ourMAC),
		advertise(f, advertisement{}), dadSolicit(f, ndp.NewNonce()),
		at(dadSolicit(f, ndp.NewNonce()), offICMPv6+25, 0),
		ask, ask[:60], extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), extend(ask, 0, 31),
		extend(ask, 44, 0, 0, 0, 0, 0, 0, 1),
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			layer2test.FixChecksum(b)
		}
		before := bytes.Clone(b)
		p, err := Parse(b, ourMAC)
		if !bytes.Equal(before, b) {
			t.Fatal("the frame was changed")
		}
		if err != nil {
			rejected := []error{ErrMalformed, ErrOwn, ErrNotForUs, ErrOtherProtocol}
			if !slices.ContainsFunc(rejected, func(why error) bool { return errors.Is(err, why) }) {
				t.Fatalf("rejected for no reason: %v", err)
			}
			return
		}
		if !IsStation(p.Sender.MAC) || bytes.Equal(p.Sender.MAC, ourMAC) ||
			p.ToUs != bytes.Equal(b[:6], ourMAC) ||
			!p.ToUs && b[0]&1 == 0 || bytes.Equal(b[6:12], ourMAC) {
			t.Fatalf("%+v from % x", p, b)
		}
		if p.Target.Is4() != p.Sender.IP.Is4() || !p.Sender.IP.IsUnspecified() && !CanOwn(p.Sender.IP) {
			t.Fatalf("%+v from % x", p, b)
		}
		if p.Target.Is4() {
			// The naive reading of RFC 826.
			if !bytes.Equal(b[12:20], []byte{8, 6, 0, 1, 8, 0, 6, 4}) ||
				!bytes.Equal(b[28:32], p.Sender.IP.AsSlice()) ||
				!bytes.Equal(b[38:42], p.Target.AsSlice()) || !bytes.Equal(b[22:28], p.Sender.MAC) {
				t.Fatalf("%+v from % x", p, b)
			}
			return
		}
		plain := layer2test.WithoutExtensions(b)
		if plain[offIPv6+7] != 255 || plain[offICMPv6+1] != 0 || !CanOwn(p.Target) ||
			!bytes.Equal(plain[offICMPv6+8:offICMPv6+24], p.Target.AsSlice()) ||
			plain[offICMPv6] != map[Op]byte{Request: 135, Reply: 136}[p.Op] ||
			p.Op == Reply && p.Sender.IP != p.Target {
			t.Fatalf("%+v from % x", p, b)
		}
		if p.Op != Request {
			return
		}
		reply, err := p.Reply(Answer{As: ourMAC, From: ourMAC})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(reply, clientMAC); err != nil || got.Op != Reply || got.Sender.IP != p.Target {
			// What is answered may be for another host than the client.
			if !errors.Is(err, ErrNotForUs) {
				t.Fatalf("the reply to %+v is read as %+v, %v", p, got, err)
			}
		}
	})
}
