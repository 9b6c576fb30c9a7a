package prober

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

func TestSeeARP(t *testing.T) {
	answer := arpAnswer(t)
	probe := arpRequest(t, netip.IPv4Unspecified(), vip4)
	holder := sighting{what: sawHolder, addr: client4, mac: clientMAC}
	answers := sighting{what: sawHolder, addr: client4, mac: clientMAC, answer: true}
	nothing := sighting{}
	tests := []struct {
		story string
		frame []byte
		want  sighting
		ok    bool
	}{
		{"an answer", answer, answers, true},
		{"without padding", answer[:42], answers, true},
		{"a reply to everybody", at(answer, 0, ethernet.Broadcast...), holder, true},
		{"a request tells who asks", arpRequest(t, client4, vip4), holder, true},
		{"an ARP Announcement", arpRequest(t, client4, client4), holder, true},
		{"a reverse request with a sender", at(answer, 21, 3), holder, true},
		{"an ARP Probe", probe, sighting{what: sawProber, addr: vip4, mac: clientMAC}, true},
		{"the Ethernet source is a relay", at(answer, 6, otherMAC...), answers, true},
		{"a reply from nowhere", at(answer, 28, 0, 0, 0, 0), nothing, true},
		{"for another host", at(answer, 0, otherMAC...), nothing, true},
		{"our own frame comes back", at(probe, 6, ourMAC...), nothing, true},
		{"our own packet in another's frame", at(probe, 22, ourMAC...), nothing, true},
		{"a VLAN tag", slices.Concat(answer[:12], []byte{0x81, 0, 0, 7}, answer[12:]), nothing, true},
		{"nothing", nil, nothing, false},
		{"cut off", answer[:41], nothing, false},
		{"from a group", at(answer, 6, 0xff), nothing, false},
		{"the sender is a group", at(answer, 22, 0xff), nothing, false},
		{"the sender is nobody", at(answer, 22, zeroMAC...), nothing, false},
		{"addresses of 5 bytes", at(answer, 19, 5), nothing, false},
		{"another hardware type", at(answer, 15, 6), nothing, false},
	}
	for _, tt := range tests {
		checkSighting(t, tt.story, tt.frame, tt.want, tt.ok)
	}
}

func checkSighting(t *testing.T, story string, frame []byte, want sighting, wantOK bool) {
	t.Helper()
	got, ok := see(frame, ourMAC)
	if ok != wantOK || got.what != want.what || got.addr != want.addr || got.answer != want.answer ||
		!bytes.Equal(got.mac, want.mac) {
		t.Errorf("%s: %+v, %t; want %+v, %t", story, got, ok, want, wantOK)
	}
}

func TestSeeNDP(t *testing.T) {
	us := netip.MustParseAddr("fe80::7")
	answer := ndpAnswer(t, &ndp.NeighborAdvertisement{TargetAddress: client6, Solicited: true}, us, ourMAC)
	option := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: otherMAC}}
	source := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: otherMAC}}
	toAll := func(na *ndp.NeighborAdvertisement) []byte {
		return ndpAnswer(t, na, allNodes, groupMAC(allNodes))
	}
	nothing := sighting{}
	probed := sighting{what: sawProber, addr: vip6, mac: clientMAC}
	tests := []struct {
		story string
		frame []byte
		want  sighting
		ok    bool
	}{
		{"an answer", answer, sighting{what: sawHolder, addr: client6, mac: clientMAC, answer: true}, true},
		{
			"its option tells where",
			ndpAnswer(t, &ndp.NeighborAdvertisement{TargetAddress: client6, Options: option}, us, ourMAC),
			sighting{what: sawHolder, addr: client6, mac: otherMAC, answer: true},
			true,
		},
		{
			"a source option does not",
			ndpAnswer(t, &ndp.NeighborAdvertisement{TargetAddress: client6, Options: source}, us, ourMAC),
			sighting{what: sawHolder, addr: client6, mac: clientMAC, answer: true},
			true,
		},
		{"to everybody", toAll(&ndp.NeighborAdvertisement{TargetAddress: vip6}),
			sighting{what: sawHolder, addr: vip6, mac: clientMAC}, true},
		{"a host wants the address", dadSolicit(t), probed, true},
		{"with a nonce", dadSolicit(t, ndp.NewNonce()), probed, true},
		{"a host asks for its neighbour",
			solicit(t, solicitation{}), sighting{what: sawHolder, addr: client6, mac: clientMAC}, true},
		{"from an address that no host can have",
			solicit(t, solicitation{Source: netip.IPv6Loopback()}), nothing, false},
		{"an address that no host can have",
			advertise(t, advertisement{Target: netip.IPv6Unspecified()}), nothing, false},
		{"behind options that may be skipped", extend(dadSolicit(t), 60, 0, 1, 4, 0, 0, 0, 0), probed, true},
		{"in a fragment", extend(dadSolicit(t), 44, 0, 0, 0, 0, 0, 0, 1), nothing, false},
		{"our own comes back", at(dadSolicit(t), 6, ourMAC...), nothing, true},
		{"for another host", at(answer, 0, otherMAC...), nothing, true},
		{"an echo request", at(answer, offICMPv6, 128), nothing, true},
		{"not ICMPv6", at(answer, offIPv6+6, 17), nothing, true},
		{"from beyond a router", at(answer, offIPv6+7, 254), nothing, false},
		{"a wrong checksum", at(answer, offICMPv6+2, 0xde, 0xad), nothing, false},
		{"a wrong code", at(answer, offICMPv6+1, 1), nothing, false},
		{"solicited and to everybody",
			toAll(&ndp.NeighborAdvertisement{TargetAddress: vip6, Solicited: true}), nothing, false},
		{"a probe that tells a link-layer address", dadSolicit(t, source...), nothing, false},
		{
			"a probe sent to the address itself",
			solicit(t, solicitation{
				Source:      netip.IPv6Unspecified(),
				NoOption:    true,
				Destination: vip6,
				ToMAC:       ourMAC,
			}), nothing, false,
		},
		{"cut off", answer[:70], nothing, false},
		{"IP version 4", at(answer, offIPv6, 0x45), nothing, false},
		{"nothing", nil, nothing, false},
	}
	for _, tt := range tests {
		checkSighting(t, tt.story, tt.frame, tt.want, tt.ok)
	}
	nonce := ndp.NewNonce()
	if s, _ := see(dadSolicit(t, nonce), ourMAC); s.nonce == nil || !s.nonce.Equal(nonce) {
		t.Errorf("nonce %v, want %v", s.nonce, nonce)
	}
}

func TestProbeSource(t *testing.T) {
	link := lan(2, "eth0", "192.0.2.7/24", "198.51.100.7/32", "2001:db8::7/64",
		"2001:db8:1::7/128", "fe80::7/64")
	tests := []struct {
		story  string
		link   links.Link
		target string
		want   string
	}{
		{"from the subnet", link, "192.0.2.9", "192.0.2.7"},
		{"from no subnet", link, "203.0.113.9", "0.0.0.0"},
		{"a single address is no subnet", link, "198.51.100.9", "0.0.0.0"},
		{"from no address at all", lan(2, "eth0"), "192.0.2.9", "0.0.0.0"},
		{"from the subnet, IPv6", link, "2001:db8::9", "2001:db8::7"},
		{"from the link-local address", link, "2001:db8:2::9", "fe80::7"},
		{"link-local to link-local", link, "fe80::9", "fe80::7"},
		{"from any other address", lan(2, "eth0", "2001:db8::7/64"), "2001:db8:2::9", "2001:db8::7"},
		{"from none", lan(2, "eth0", "192.0.2.7/24"), "2001:db8::9", ""},
	}
	for _, tt := range tests {
		source, ok := probeSource(tt.link, netip.MustParseAddr(tt.target))
		if ok != (tt.want != "") || ok && source.String() != tt.want {
			t.Errorf("%s: %s, %t; want %q", tt.story, source, ok, tt.want)
		}
	}
	if _, err := probeFrame(lan(2, "eth0"), client6, nil); !errors.Is(err, errNoSource) {
		t.Errorf("a frame from no address: %v", err)
	}
	if _, err := probeFrame(link, netip.MustParseAddr("192.0.2.7"), nil); err == nil {
		t.Error("we ask for our own address")
	}
}

func TestProbeFrames(t *testing.T) {
	link := lan(2, "eth0", "192.0.2.7/24", "2001:db8::7/64")
	us := link.HardwareAddr
	for story, mac := range map[string]net.HardwareAddr{"to everybody": nil, "to one host": clientMAC} {
		to := mac
		if mac == nil {
			to = ethernet.Broadcast
		}
		got, err := probeFrame(link, client4, mac)
		want := slices.Concat(to, us, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, us, []byte{192, 0, 2, 7}, zeroMAC,
			client4.AsSlice(), make([]byte, 18))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: % x, %v; want\n% x", story, got, err, want)
		}
	}
	got, err := neighbor.Question{Sender: neighbor.Binding{MAC: us}, Target: vip4}.Frame()
	want := slices.Concat(
		ethernet.Broadcast, us, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1},
		us, make([]byte, 4), zeroMAC, vip4.AsSlice(), make([]byte, 18))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("an ARP Probe: % x, %v; want\n% x", got, err, want)
	}

	target := netip.MustParseAddr("2001:db8::9")
	group := netip.MustParseAddr("ff02::1:ff00:9")
	unicast, err := probeFrame(link, target, clientMAC)
	if err != nil {
		t.Fatal(err)
	}
	checkSolicitation(t, unicast, clientMAC, target, us)
	grouped, err := probeFrame(link, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkSolicitation(t, grouped, groupMAC(group), group, us)
	nonce := ndp.NewNonce()
	dad, err := neighbor.Question{Sender: neighbor.Binding{MAC: us}, Target: vip6, Nonce: nonce}.Frame()
	if err != nil {
		t.Fatal(err)
	}
	s, ok := see(dad, otherMAC)
	if !ok || s.what != sawProber || s.addr != vip6 || !bytes.Equal(s.mac, us) || !s.nonce.Equal(nonce) {
		t.Errorf("our solicitation is read as %+v, %t", s, ok)
	}
	if !bytes.Equal(dad[:6], groupMAC(vip6SNM)) {
		t.Errorf("sent to %s", net.HardwareAddr(dad[:6]))
	}
}

// checkSolicitation decodes a probe as its target would.
func checkSolicitation(
	t *testing.T, frame []byte, toMAC net.HardwareAddr, to netip.Addr, us net.HardwareAddr,
) {
	t.Helper()
	packet := frame[14:]
	if !bytes.Equal(frame[:6], toMAC) || !bytes.Equal(frame[6:12], us) || packet[7] != 255 ||
		netip.AddrFrom16([16]byte(packet[8:24])) != netip.MustParseAddr("2001:db8::7") ||
		netip.AddrFrom16([16]byte(packet[24:40])) != to ||
		layer2test.Checksum(packet[8:40], packet[40:]) != 0xffff {
		t.Errorf("% x", frame)
	}
	parsed, err := ndp.ParseMessage(packet[40:])
	if err != nil {
		t.Fatal(err)
	}
	ns, ok := parsed.(*ndp.NeighborSolicitation)
	if !ok || ns.TargetAddress != netip.MustParseAddr("2001:db8::9") || len(ns.Options) != 1 {
		t.Fatalf("%+v", parsed)
	}
	if lla, ok := ns.Options[0].(*ndp.LinkLayerAddress); !ok || lla.Direction != ndp.Source ||
		!bytes.Equal(lla.Addr, us) {
		t.Errorf("option %+v", ns.Options[0])
	}
}

func FuzzSeeFrame(f *testing.F) {
	us := netip.MustParseAddr("fe80::7")
	for _, seed := range [][]byte{
		nil, arpAnswer(f), arpRequest(f, netip.IPv4Unspecified(), vip4),
		at(arpAnswer(f), 18, 200), at(arpAnswer(f), 12, 0x81, 0),
		ndpAnswer(f, &ndp.NeighborAdvertisement{TargetAddress: client6, Solicited: true}, us, ourMAC),
		ndpAnswer(f, &ndp.NeighborAdvertisement{
			TargetAddress: vip6,
			Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: otherMAC}},
		}, allNodes, groupMAC(allNodes)),
		dadSolicit(f), dadSolicit(f, ndp.NewNonce()), at(dadSolicit(f, ndp.NewNonce()), offICMPv6+25, 0),
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		// A fuzzer does not find checksums: put the right one in.
		if fix {
			layer2test.FixChecksum(b)
		}
		before := bytes.Clone(b)
		s, ok := see(b, ourMAC)
		if !bytes.Equal(before, b) {
			t.Fatal("the received frame was changed")
		}
		if !ok || s.what == sawNothing {
			if s.addr.IsValid() || s.mac != nil || s.answer {
				t.Fatalf("nothing, but %+v", s)
			}
			return
		}
		six := s.addr.Is6()
		if !neighbor.IsStation(s.mac) || bytes.Equal(s.mac, ourMAC) || s.addr.IsMulticast() && six {
			t.Fatalf("%+v", s)
		}
		if s.answer && (!bytes.Equal(b[:6], ourMAC) || s.what != sawHolder) {
			t.Fatalf("an answer that was not sent to us: %+v", s)
		}
		if six && b[offIPv6+6] == 58 &&
			(b[offIPv6+7] != 255 || b[offICMPv6+1] != 0 || !bytes.Contains(b[offIPv6+8:], s.addr.AsSlice())) {
			t.Fatalf("%+v from % x", s, b)
		}
	})
}
