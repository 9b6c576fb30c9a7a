package layer2

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

var (
	vip6     = netip.MustParseAddr("2001:db8::10:1")
	foreign6 = netip.MustParseAddr("2001:db8::10:99")
	client6  = netip.MustParseAddr("fe80::9")
	vip6SNM  = netip.MustParseAddr("ff02::1:ff10:1")
)

// solicitOptions describe a solicitation; the zero value is what a client sends
// to resolve vip6.
type solicitOptions struct {
	target, source, destination netip.Addr
	noOption                    bool
	hopLimit                    byte
	toMAC                       net.HardwareAddr
	more                        []ndp.Option
}

func solicit(t testing.TB, o solicitOptions) []byte {
	t.Helper()
	if !o.target.IsValid() {
		o.target = vip6
	}
	if !o.source.IsValid() {
		o.source = client6
	}
	if !o.destination.IsValid() {
		o.destination, _ = ndp.SolicitedNodeMulticast(o.target)
	}
	if o.toMAC == nil {
		o.toMAC = groupMAC(o.destination)
	}
	if o.hopLimit == 0 {
		o.hopLimit = 255
	}
	ns := &ndp.NeighborSolicitation{TargetAddress: o.target, Options: o.more}
	if !o.noOption {
		ns.Options = append(ns.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: clientMAC})
	}
	message, err := ndp.MarshalMessageChecksum(ns, o.source, o.destination)
	if err != nil {
		t.Fatal(err)
	}
	packet := append([]byte{0x60, 0, 0, 0, 0, 0, 58, o.hopLimit}, slices.Concat(o.source.AsSlice(), o.destination.AsSlice(), message)...)
	binary.BigEndian.PutUint16(packet[4:], uint16(len(message)))
	frame, err := envelope(o.toMAC, clientMAC, ethernet.EtherTypeIPv6, packet)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// advertise is an advertisement of another host; the zero value claims vip6 as
// an announcement does.
func advertise(t testing.TB, a advertisement) []byte {
	t.Helper()
	if !a.target.IsValid() {
		a.target = vip6
	}
	if a.mac == nil {
		a.mac = clientMAC
	}
	if !a.to.IsValid() {
		a.to, a.toMAC = allNodes, groupMAC(allNodes)
	}
	a.from = clientMAC
	frame, err := advertisementFrame(a)
	if err != nil {
		t.Fatal(err)
	}
	if a.target.IsMulticast() { // then so is the source, which is wrong as well
		copy(frame[offIPv6+8:], client6.AsSlice())
		fixChecksum(frame[offIPv6+8:offIPv6+40], frame[offICMPv6:])
	}
	return frame
}

// extend puts an extension header before the payload of an IPv6 packet: its type,
// its length in units of 8 bytes beyond the first, and the rest.
func extend(frame []byte, header byte, rest ...byte) []byte {
	b := slices.Concat(frame[:offICMPv6], []byte{frame[offIPv6+6]}, rest, frame[offICMPv6:])
	b[offIPv6+6] = header
	binary.BigEndian.PutUint16(b[offIPv6+4:], binary.BigEndian.Uint16(b[offIPv6+4:])+8)
	return b
}

func TestHandleNDP(t *testing.T) {
	ask := solicit(t, solicitOptions{})
	unspecified := netip.IPv6Unspecified()
	tests := []struct {
		story string
		frame []byte
		want  Verdict
	}{
		{"a client asks for the address", ask, Answered},
		{"without telling its link-layer address", solicit(t, solicitOptions{noOption: true}), Answered},
		{"a client verifies the address by unicast", solicit(t, solicitOptions{destination: vip6, toMAC: ourMAC, noOption: true}), Answered},
		{"the same with the option", solicit(t, solicitOptions{destination: vip6, toMAC: ourMAC}), Answered},
		{"a host probes whether the address is free", solicit(t, solicitOptions{source: unspecified, noOption: true}), Answered},
		{"with a nonce (RFC 7527)", solicit(t, solicitOptions{source: unspecified, noOption: true, more: []ndp.Option{ndp.NewNonce()}}), Answered},
		{"with an option of the future", solicit(t, solicitOptions{more: []ndp.Option{&ndp.RawOption{Type: 200, Length: 1, Value: make([]byte, 6)}}}), Answered},
		{"an address of somebody else in the same group", solicit(t, solicitOptions{target: netip.MustParseAddr("2001:db8:1::10:1")}), NotAnnounced},
		{"an address of somebody else", solicit(t, solicitOptions{target: foreign6}), NotAnnounced},
		{"to the group of another address", solicit(t, solicitOptions{destination: netip.MustParseAddr("ff02::1:ff00:99")}), NotForUs},
		{"to all nodes", solicit(t, solicitOptions{destination: allNodes}), NotForUs},
		{"for another host's Ethernet address", at(ask, 0, otherMAC...), NotForUs},
		{"another host says it is the address", solicit(t, solicitOptions{source: vip6}), ForeignClaim},
		{"our own frame comes back", at(ask, 6, ourMAC...), OwnFrame},
		{"not IPv6", at(ask, 12, 8, 0), NotRequest},
		{"not ICMPv6", at(ask, offIPv6+6, 17), NotRequest},
		{"a redirect", at(ask, offICMPv6, 137), NotRequest},
		{"a router's advertisement", at(ask, offICMPv6, 134), NotRequest},
		{"a fellow says it is the address", at(solicit(t, solicitOptions{source: vip6, noOption: true}), 6, fellowMAC...), FellowClaim},
		{"another host advertises our address", advertise(t, advertisement{}), ForeignClaim},
		{"to us, as an answer", advertise(t, advertisement{to: vip6, toMAC: ourMAC, solicited: true}), ForeignClaim},
		{"a fellow does", advertise(t, advertisement{mac: fellowMAC}), FellowClaim},
		{"another link of this node does", advertise(t, advertisement{mac: ourOtherMAC}), OwnFrame},
		{"a stand-in answers for us", advertise(t, advertisement{mac: ourMAC}), OwnFrame},
		{"another host advertises its own address", advertise(t, advertisement{target: foreign6}), NotAnnounced},
		{"an advertisement from beyond a router", at(advertise(t, advertisement{}), offIPv6+7, 254), Malformed},
		{"an advertisement with a wrong checksum", at(advertise(t, advertisement{}), offICMPv6+2, 0xde, 0xad), Malformed},
		{"an advertisement that answers everybody", advertise(t, advertisement{solicited: true}), Malformed},
		{"an advertisement of a group", advertise(t, advertisement{target: allNodes}), Malformed},
		{"an advertisement at a group", advertise(t, advertisement{mac: groupMAC(allNodes)}), Malformed},
		{"behind options that may be skipped", extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), Answered},
		{"behind options for each hop", extend(ask, 0, 0, 5, 2, 0, 0, 1, 0), Answered},
		{"behind both", extend(extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), 0, 0, 1, 4, 0, 0, 0, 0), Answered},
		{"options for each hop in the second place", extend(extend(ask, 0, 0, 1, 4, 0, 0, 0, 0), 60, 0, 1, 4, 0, 0, 0, 0), Malformed},
		{"behind an option that has to be refused", extend(ask, 60, 0, 0x81, 4, 0, 0, 0, 0), Malformed},
		{"behind an option that is cut off", extend(ask, 60, 0, 1, 5, 0, 0, 0, 0), Malformed},
		{"behind options longer than the packet", extend(ask, 60, 200, 1, 4, 0, 0, 0, 0), Malformed},
		{"in a fragment", extend(ask, 44, 0, 0, 0, 0, 0, 0, 1), Malformed},
		{"behind a routing header", extend(ask, 43, 0, 0, 0, 0, 0, 0, 0), NotRequest},
		{"behind more options than there can be", extend(extend(extend(extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), 60, 0, 1, 4, 0, 0, 0, 0), 60, 0, 1, 4, 0, 0, 0, 0), 60, 0, 1, 4, 0, 0, 0, 0), Malformed},
		{"from beyond a router", solicit(t, solicitOptions{hopLimit: 254}), Malformed},
		{"a wrong checksum", at(ask, offICMPv6+2, 0xde, 0xad), Malformed},
		{"a wrong code", at(ask, offICMPv6+1, 1), Malformed},
		{"a probe that tells a link-layer address", solicit(t, solicitOptions{source: unspecified}), Malformed},
		{"a probe sent to the address itself", solicit(t, solicitOptions{source: unspecified, noOption: true, destination: vip6, toMAC: ourMAC}), Malformed},
		{"the loopback address asks", solicit(t, solicitOptions{source: netip.IPv6Loopback()}), Malformed},
		{"a group asks", solicit(t, solicitOptions{source: allNodes}), Malformed},
		{"cut off", ask[:70], Malformed},
		{"an empty frame", nil, Malformed},
		{"IP version 4", at(ask, offIPv6, 0x45), Malformed},
	}
	for _, tt := range tests {
		out := ndpProtocol{}.handle(tt.frame, ourStation(vip6))
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
	if source, dest := netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40])); source != vip6 || dest != to || packet[7] != 255 {
		t.Errorf("from %s to %s with hop limit %d", source, dest, packet[7])
	}
	message := packet[40:]
	if int(binary.BigEndian.Uint16(packet[4:])) != len(message) || !checksumOK(packet[8:40], message) {
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
		{"to the client's option", at(solicit(t, solicitOptions{}), 6, otherMAC...), client6, clientMAC, true},
		{"to the Ethernet source without option", at(solicit(t, solicitOptions{noOption: true}), 6, otherMAC...), client6, otherMAC, true},
		{
			"to everybody when the asker has no address",
			solicit(t, solicitOptions{source: netip.IPv6Unspecified(), noOption: true}),
			allNodes, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.story, func(t *testing.T) {
			out := ndpProtocol{}.handle(tt.frame, ourStation(vip6))
			target, reply := out.addr, out.reply
			if target != vip6 {
				t.Errorf("target %s", target)
			}
			checkAdvertisement(t, reply, tt.to, tt.toMAC, tt.solicited)
		})
	}
}

func TestNDPAnnouncement(t *testing.T) {
	gateway := router{netip.MustParseAddr("fe80::1"), otherMAC}
	frames, err := ndpProtocol{}.announcement(vip6, ourMAC, beyond{router: gateway})
	if err != nil || len(frames) != 2 {
		t.Fatalf("%d frames, error %v", len(frames), err)
	}
	checkAdvertisement(t, frames[0], allNodes, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, false)
	checkAdvertisement(t, frames[1], gateway.ip, gateway.mac, false)
	if frames, err := (ndpProtocol{}).announcement(vip6, ourMAC, beyond{}); err != nil || len(frames) != 1 {
		t.Errorf("without another address: %d frames, error %v", len(frames), err)
	}
}

func TestSolicitedNodeGroup(t *testing.T) {
	if group, ok := (ndpProtocol{}).group(vip6); !ok || group != vip6SNM {
		t.Errorf("group %s, %t; want %s", group, ok, vip6SNM)
	}
}

func FuzzHandleNDP(f *testing.F) {
	ask := solicit(f, solicitOptions{})
	for _, seed := range [][]byte{
		nil, ask, ask[:60], solicit(f, solicitOptions{noOption: true}),
		solicit(f, solicitOptions{source: netip.IPv6Unspecified(), noOption: true, more: []ndp.Option{ndp.NewNonce()}}),
		advertise(f, advertisement{}), advertise(f, advertisement{mac: fellowMAC}), advertise(f, advertisement{to: vip6, toMAC: ourMAC, solicited: true}),
		extend(ask, 60, 0, 1, 4, 0, 0, 0, 0), extend(ask, 0, 0, 5, 2, 0, 0, 1, 0), extend(advertise(f, advertisement{}), 44, 0, 0, 0, 0, 0, 0, 1),
		at(ask, offICMPv6+25, 0), at(ask, offICMPv6+24, 3), at(ask, offICMPv6+24, 25), at(ask, offICMPv6+24, 31),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// A fuzzer does not find checksums: put the right one in.
		if len(b) >= offICMPv6+4 && b[offIPv6+6] == protocolICMPv6 {
			length := len(b) - offICMPv6
			binary.BigEndian.PutUint16(b[offIPv6+4:], uint16(length))
			fixChecksum(b[offIPv6+8:offIPv6+40], b[offICMPv6:])
		}
		before := bytes.Clone(b)
		out := ndpProtocol{}.handle(b, ourStation(vip6))
		verdict, target, reply := out.verdict, out.addr, out.reply
		if !bytes.Equal(before, b) {
			t.Fatal("the received frame was changed")
		}
		if (verdict == Answered) != (reply != nil) {
			t.Fatalf("%s with a reply of %d bytes", verdict, len(reply))
		}
		isClaim := verdict == ForeignClaim || verdict == FellowClaim
		if isClaim != (out.claimant != nil) || isClaim && (target != vip6 || !isStation(out.claimant)) {
			t.Fatalf("%s of %s by %s", verdict, target, out.claimant)
		}
		if verdict != Answered {
			return
		}
		b = withoutExtensions(b)
		wellFormed := len(b) >= 14+40+24 && b[offIPv6+7] == 255 && b[offICMPv6] == 135 && b[offICMPv6+1] == 0 &&
			bytes.Equal(b[offNDPTarget:offNDPTarget+16], vip6.AsSlice())
		if !wellFormed || target != vip6 {
			t.Fatalf("answered % x", b)
		}
		checkAdvertisement(t, reply, netip.AddrFrom16([16]byte(reply[38:54])), net.HardwareAddr(reply[:6]), reply[offICMPv6+4]&0x40 != 0)
	})
}

// withoutExtensions takes extension headers off in the naive way.
func withoutExtensions(b []byte) []byte {
	b = bytes.Clone(b)
	for len(b) > offICMPv6+8 && (b[offIPv6+6] == 0 || b[offIPv6+6] == 60) {
		b[offIPv6+6] = b[offICMPv6]
		b = slices.Delete(b, offICMPv6, offICMPv6+8*(1+int(b[offICMPv6+1])))
	}
	return b
}

func FuzzParseICMPv6(f *testing.F) {
	ask := solicit(f, solicitOptions{})
	for _, seed := range [][]byte{nil, ask[14:], ask[14:60], advertise(f, advertisement{})[14:], extend(ask, 60, 0, 1, 4, 0, 0, 0, 0)[14:], extend(ask, 0, 31)[14:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		packet, verdict := parseICMPv6(&ethernet.Frame{Source: clientMAC, Payload: b})
		if !bytes.Equal(before, b) {
			t.Fatal("the packet was changed")
		}
		if packet == nil {
			if verdict != Malformed && verdict != NotRequest {
				t.Fatalf("nothing and %s", verdict)
			}
			return
		}
		if len(packet.message) < 24 || b[7] != 255 || packet.source.IsMulticast() {
			t.Fatalf("took % x", b)
		}
		if ns, _ := packet.solicitation(); ns != nil && (!isStation(ns.sender) || ns.target.IsMulticast() || packet.message[0] != 135) {
			t.Fatalf("%+v from % x", ns, b)
		}
		if na, _ := packet.advertisement(); na != nil && (!isStation(na.mac) || na.target.IsMulticast() || packet.message[0] != 136) {
			t.Fatalf("%+v from % x", na, b)
		}
	})
}

// fixChecksum puts the right checksum into an ICMPv6 message, by trial of the
// verifier's own complement.
func fixChecksum(addresses, message []byte) {
	message[2], message[3] = 0, 0
	sum := uint32(58) + uint32(len(message))
	for _, part := range [][]byte{addresses, message} {
		for i, b := range part {
			if i%2 == 0 {
				sum += uint32(b) << 8
			} else {
				sum += uint32(b)
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum))
}
