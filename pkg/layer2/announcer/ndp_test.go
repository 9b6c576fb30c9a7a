package announcer

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"

	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

func TestHandleNDP(t *testing.T) {
	ask := solicit(t, solicitation{})
	unspecified := netip.IPv6Unspecified()
	tests := []struct {
		story string
		frame []byte
		want  Verdict
	}{
		{"a client asks for the address", ask, Answered},
		{"without telling its link-layer address", solicit(t, solicitation{NoOption: true}), Answered},
		{"a client verifies the address by unicast",
			solicit(t, solicitation{Destination: vip6, ToMAC: ourMAC, NoOption: true}), Answered},
		{"the same with the option", solicit(t, solicitation{Destination: vip6, ToMAC: ourMAC}), Answered},
		{"a host probes whether the address is free",
			solicit(t, solicitation{Source: unspecified, NoOption: true}), Answered},
		{"with a nonce (RFC 7527)", solicit(t, solicitation{
			Source:   unspecified,
			NoOption: true,
			More:     []ndp.Option{ndp.NewNonce()},
		}), Answered},
		{"with an option of the future", solicit(t, solicitation{
			More: []ndp.Option{&ndp.RawOption{Type: 200, Length: 1, Value: make([]byte, 6)}},
		}), Answered},
		{"an address of somebody else in the same group",
			solicit(t, solicitation{Target: netip.MustParseAddr("2001:db8:1::10:1")}), NotAnnounced},
		{"an address of somebody else", solicit(t, solicitation{Target: foreign6}), NotAnnounced},
		{"to the group of another address",
			solicit(t, solicitation{Destination: netip.MustParseAddr("ff02::1:ff00:99")}), NotForUs},
		{"to all nodes", solicit(t, solicitation{Destination: allNodes}), NotForUs},
		{"for another host's Ethernet address", at(ask, 0, otherMAC...), NotForUs},
		{"another host says it is the address", solicit(t, solicitation{Source: vip6}), ForeignClaim},
		{"our own frame comes back", at(ask, 6, ourMAC...), OwnFrame},
		{"not IPv6", at(ask, 12, 8, 0), NotRequest},
		{"not ICMPv6", at(ask, offIPv6+6, 17), NotRequest},
		{"a redirect", at(ask, offICMPv6, 137), NotRequest},
		{"a router's advertisement", at(ask, offICMPv6, 134), NotRequest},
		{"a member says it is the address",
			at(solicit(t, solicitation{Source: vip6, NoOption: true}), 6, memberMAC...), MemberClaim},
		{"another host advertises our address", advertise(t, advertisement{}), ForeignClaim},
		{"to us, as an answer",
			advertise(t, advertisement{To: vip6, ToMAC: ourMAC, Solicited: true}), ForeignClaim},
		{"a member does", advertise(t, advertisement{MAC: memberMAC}), MemberClaim},
		{"another link of this node does", advertise(t, advertisement{MAC: ourOtherMAC}), OwnFrame},
		{"a stand-in answers for us", advertise(t, advertisement{MAC: ourMAC}), OwnFrame},
		{"another host advertises its own address",
			advertise(t, advertisement{Target: foreign6}), NotRequest},
		{"an advertisement from beyond a router",
			at(advertise(t, advertisement{}), offIPv6+7, 254), Malformed},
		{"an advertisement with a wrong checksum",
			at(advertise(t, advertisement{}), offICMPv6+2, 0xde, 0xad), Malformed},
		{"an advertisement that answers everybody", advertise(t, advertisement{Solicited: true}), Malformed},
		{"an advertisement of a group", advertise(t, advertisement{Target: allNodes}), Malformed},
		{"an advertisement at a group", advertise(t, advertisement{MAC: groupMAC(allNodes)}), Malformed},
		{"behind options that may be skipped", extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), Answered},
		{"behind options for each hop", extend(ask, 0, 0, 5, 2, 0, 0, 1, 0), Answered},
		{"behind both", extend(extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), 0, 0, 1, 4, 0, 0, 0, 0), Answered},
		{"options for each hop in the second place",
			extend(extend(ask, 0, 0, 1, 4, 0, 0, 0, 0), 60, 0, 1, 4, 0, 0, 0, 0), Malformed},
		{"behind an option that has to be refused", extend(ask, 60, 0, 0x81, 4, 0, 0, 0, 0), Malformed},
		{"behind an option that is cut off", extend(ask, 60, 0, 1, 5, 0, 0, 0, 0), Malformed},
		{"behind options longer than the packet", extend(ask, 60, 200, 1, 4, 0, 0, 0, 0), Malformed},
		{"in a fragment", extend(ask, 44, 0, 0, 0, 0, 0, 0, 1), Malformed},
		{"behind a routing header", extend(ask, 43, 0, 0, 0, 0, 0, 0, 0), NotRequest},
		{"behind more options than there can be",
			extend(
				extend(
					extend(
						extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), 60, 0, 1, 4, 0, 0, 0, 0),
					60, 0, 1, 4, 0, 0, 0, 0),
				60, 0, 1, 4, 0, 0, 0, 0), Malformed},
		{"from beyond a router", solicit(t, solicitation{HopLimit: 254}), Malformed},
		{"a wrong checksum", at(ask, offICMPv6+2, 0xde, 0xad), Malformed},
		{"a wrong code", at(ask, offICMPv6+1, 1), Malformed},
		{"a probe that tells a link-layer address", solicit(t, solicitation{Source: unspecified}), Malformed},
		{"a probe sent to the address itself", solicit(t,
			solicitation{Source: unspecified, NoOption: true, Destination: vip6, ToMAC: ourMAC}), Malformed},
		{"the loopback address asks", solicit(t, solicitation{Source: netip.IPv6Loopback()}), Malformed},
		{"a group asks", solicit(t, solicitation{Source: allNodes}), Malformed},
		{"cut off", ask[:70], Malformed},
		{"an empty frame", nil, Malformed},
		{"IP version 4", at(ask, offIPv6, 0x45), Malformed},
	}
	for _, tt := range tests {
		out := handle(tt.frame, ourStation(vip6))
		verdict, reply := out.verdict, out.reply
		if verdict != tt.want {
			t.Errorf("%s: %s, want %s", tt.story, verdict, tt.want)
		}
		if (verdict == Answered) != (reply != nil) {
			t.Errorf("%s: %s with a reply of %d bytes", tt.story, verdict, len(reply))
		}
	}
}

// checkAdvertisement decodes a frame as a host would.
func checkAdvertisement(t *testing.T, frame []byte, to netip.Addr, toMAC net.HardwareAddr, solicited bool) {
	t.Helper()
	if len(frame) < 14+40+24 || !bytes.Equal(frame[:6], toMAC) || !bytes.Equal(frame[6:12], ourMAC) {
		t.Fatalf("frame % x, want one to %s", frame, toMAC)
	}
	packet := frame[14:]
	source, dest := netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
	if source != vip6 || dest != to || packet[7] != 255 {
		t.Errorf("from %s to %s with hop limit %d", source, dest, packet[7])
	}
	message := packet[40:]
	if int(binary.BigEndian.Uint16(packet[4:])) != len(message) ||
		layer2test.Checksum(packet[8:40], message) != 0xffff {
		t.Errorf("wrong length or checksum: % x", packet)
	}
	parsed, err := ndp.ParseMessage(message)
	if err != nil {
		t.Fatal(err)
	}
	na, ok := parsed.(*ndp.NeighborAdvertisement)
	if !ok || na.Router || na.Solicited != solicited || !na.Override || na.TargetAddress != vip6 {
		t.Errorf("%+v", parsed)
	}
	lla, ok := na.Options[0].(*ndp.LinkLayerAddress)
	if !ok || lla.Direction != ndp.Target || !bytes.Equal(lla.Addr, ourMAC) {
		t.Errorf("option %+v", na.Options[0])
	}
}

func TestNDPReply(t *testing.T) {
	tests := []struct {
		story     string
		frame     []byte
		to        netip.Addr
		toMAC     net.HardwareAddr
		solicited bool
	}{
		{"to the client's option", at(solicit(t, solicitation{}), 6, otherMAC...), client6, clientMAC, true},
		{"to the Ethernet source without option",
			at(solicit(t, solicitation{NoOption: true}), 6, otherMAC...), client6, otherMAC, true},
		{
			"to everybody when the asker has no address",
			solicit(t, solicitation{Source: netip.IPv6Unspecified(), NoOption: true}),
			allNodes, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.story, func(t *testing.T) {
			out := handle(tt.frame, ourStation(vip6))
			target, reply := out.addr, out.reply
			if target != vip6 {
				t.Errorf("target %s", target)
			}
			checkAdvertisement(t, reply, tt.to, tt.toMAC, tt.solicited)
		})
	}
}

func TestNDPAnnouncement(t *testing.T) {
	gateway := neighbor.Binding{IP: netip.MustParseAddr("fe80::1"), MAC: otherMAC}
	frames, err := neighbor.Announcement(neighbor.Binding{IP: vip6, MAC: ourMAC},
		neighbor.Beyond{Router: gateway})
	if err != nil || len(frames) != 2 {
		t.Fatalf("%d frames, error %v", len(frames), err)
	}
	checkAdvertisement(t, frames[0], allNodes, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, false)
	checkAdvertisement(t, frames[1], gateway.IP, gateway.MAC, false)
	frames, err = neighbor.Announcement(neighbor.Binding{IP: vip6, MAC: ourMAC}, neighbor.Beyond{})
	if err != nil || len(frames) != 1 {
		t.Errorf("without another address: %d frames, error %v", len(frames), err)
	}
}

func FuzzHandleNDP(f *testing.F) {
	ask := solicit(f, solicitation{})
	for _, seed := range [][]byte{
		nil, ask, ask[:60], solicit(f, solicitation{NoOption: true}),
		solicit(f, solicitation{
			Source:   netip.IPv6Unspecified(),
			NoOption: true,
			More:     []ndp.Option{ndp.NewNonce()},
		}),
		advertise(f, advertisement{}), advertise(f, advertisement{MAC: memberMAC}),
		advertise(f, advertisement{To: vip6, ToMAC: ourMAC, Solicited: true}),
		extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), extend(ask, 0, 0, 5, 2, 0, 0, 1, 0),
		extend(advertise(f, advertisement{}), 44, 0, 0, 0, 0, 0, 0, 1),
		at(ask, offICMPv6+25, 0),
		at(ask, offICMPv6+24, 3), at(ask, offICMPv6+24, 25), at(ask, offICMPv6+24, 31),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// A fuzzer does not find checksums: put the right one in.
		if len(b) >= offICMPv6+4 && b[offIPv6+6] == 58 {
			layer2test.FixChecksum(b)
		}
		before := bytes.Clone(b)
		out := handle(b, ourStation(vip6))
		verdict, target, reply := out.verdict, out.addr, out.reply
		if !bytes.Equal(before, b) {
			t.Fatal("the received frame was changed")
		}
		if (verdict == Answered) != (reply != nil) {
			t.Fatalf("%s with a reply of %d bytes", verdict, len(reply))
		}
		isClaim := verdict == ForeignClaim || verdict == MemberClaim
		if isClaim != (out.claimant != nil) ||
			isClaim && (target != vip6 || !neighbor.IsStation(out.claimant)) {
			t.Fatalf("%s of %s by %s", verdict, target, out.claimant)
		}
		if verdict != Answered {
			return
		}
		b = layer2test.WithoutExtensions(b)
		wellFormed := len(b) >= 14+40+24 && b[offIPv6+7] == 255 && b[offICMPv6] == 135 &&
			b[offICMPv6+1] == 0 &&
			bytes.Equal(b[offNDPTarget:offNDPTarget+16], vip6.AsSlice())
		if !wellFormed || target != vip6 {
			t.Fatalf("answered % x", b)
		}
		checkAdvertisement(t, reply, netip.AddrFrom16([16]byte(reply[38:54])), net.HardwareAddr(reply[:6]),
			reply[offICMPv6+4]&0x40 != 0)
	})
}
