package announcer

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ethernet"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// ourStation announces the given addresses.
func ourStation(addrs ...netip.Addr) station {
	return station{
		mac:      ourMAC,
		lookup:   func(a netip.Addr) (answering, bool) { return answering{}, slices.Contains(addrs, a) },
		isOurs:   func(mac net.HardwareAddr) bool { return bytes.Equal(mac, ourOtherMAC) },
		isMember: func(mac net.HardwareAddr) bool { return bytes.Equal(mac, memberMAC) },
	}
}

func TestHandleARP(t *testing.T) {
	request := arpRequest(t, client4, vip4)
	tagged := slices.Concat(request[:12], []byte{0x81, 0, 0, 7}, request[12:])
	tests := []struct {
		story string
		frame []byte
		want  Verdict
	}{
		{"a client asks for the address", request, Answered},
		{"without the padding", request[:42], Answered},
		{"with a check sequence behind it", append(bytes.Clone(request), 1, 2, 3, 4), Answered},
		{"a client verifies the address by unicast", at(request, 0, ourMAC...), Answered},
		{"a host probes whether the address is free", arpRequest(t, netip.IPv4Unspecified(), vip4), Answered},
		{"the asker's Ethernet source is a relay", at(request, 6, otherMAC...), Answered},
		{"a client asks for an address of somebody else", arpRequest(t, client4, foreign4), NotAnnounced},
		{"the request is for another host's Ethernet address", at(request, 0, otherMAC...), NotForUs},
		{"the frame has a VLAN tag", tagged, NotForUs},
		{"a reply", at(request, 21, 2), NotRequest},
		{"a reverse request", at(request, 21, 3), NotRequest},
		{"not ARP at all", at(request, 12, 0x08, 0x00), NotRequest},
		{"our own frame comes back", at(request, 6, ourMAC...), OwnFrame},
		{"our own packet comes back in another's frame", at(request, 22, ourMAC...), OwnFrame},
		{"another host announces our address", arpRequest(t, vip4, vip4), ForeignClaim},
		{"another host answers with our address", at(arpRequest(t, vip4, client4), 21, 2), ForeignClaim},
		{"another host asks for something else from our address",
			arpRequest(t, vip4, foreign4), ForeignClaim},
		{"an operation that nobody knows, from our address",
			at(arpRequest(t, vip4, foreign4), 20, 7, 7), ForeignClaim},
		{"a member announces our address", at(arpRequest(t, vip4, vip4), 22, memberMAC...), MemberClaim},
		{"another link of this node does", at(arpRequest(t, vip4, vip4), 22, ourOtherMAC...), OwnFrame},
		{"another link of this node asks", at(request, 22, ourOtherMAC...), Answered},
		{"a member asks", at(request, 22, memberMAC...), Answered},
		{"a claim of a group", at(arpRequest(t, vip4, vip4), 22, 0xff), Malformed},
		{"a claim that another host gets by unicast",
			at(arpRequest(t, vip4, vip4), 0, otherMAC...), NotForUs},
		{"nothing", nil, Malformed},
		{"half a header", request[:7], Malformed},
		{"half a VLAN tag", tagged[:15], Malformed},
		{"cut off", request[:41], Malformed},
		{"hardware addresses of 200 bytes", at(request, 18, 200), Malformed},
		{"IP addresses of 5 bytes", at(request, 19, 5), Malformed},
		{"IP addresses of 16 bytes", at(request, 19, 16), Malformed},
		{"another hardware type", at(request, 15, 6), Malformed},
		{"another protocol type", at(request, 16, 0x86, 0xdd), Malformed},
		{"the asker is a group", at(request, 22, 0xff), Malformed},
		{"the asker is nobody", at(request, 22, 0, 0, 0, 0, 0, 0), Malformed},
		{"the frame comes from a group", at(request, 6, 0xff), Malformed},
		{"the asker's address is multicast",
			arpRequest(t, netip.MustParseAddr("224.0.0.1"), vip4), Malformed},
		{"the asker's address is loopback", arpRequest(t, netip.MustParseAddr("127.0.0.1"), vip4), Malformed},
	}
	for _, tt := range tests {
		out := handle(tt.frame, ourStation(vip4))
		verdict, reply := out.verdict, out.reply
		if verdict != tt.want {
			t.Errorf("%s: %s, want %s", tt.story, verdict, tt.want)
		}
		if (verdict == Answered) != (reply != nil) {
			t.Errorf("%s: %s with a reply of %d bytes", tt.story, verdict, len(reply))
		}
	}
}

func TestARPReply(t *testing.T) {
	tests := []struct {
		story string
		frame []byte
		askIP netip.Addr
	}{
		{"to a client", arpRequest(t, client4, vip4), client4},
		{"to a probe", arpRequest(t, netip.IPv4Unspecified(), vip4), netip.IPv4Unspecified()},
		{"to the asker, not to its relay", at(arpRequest(t, client4, vip4), 6, otherMAC...), client4},
	}
	for _, tt := range tests {
		out := handle(tt.frame, ourStation(vip4))
		target, reply := out.addr, out.reply
		if target != vip4 {
			t.Errorf("%s: target %s", tt.story, target)
		}
		want := slices.Concat(
			clientMAC, ourMAC, []byte{0x08, 0x06},
			[]byte{0, 1, 8, 0, 6, 4, 0, 2},
			ourMAC, vip4.AsSlice(), clientMAC, tt.askIP.AsSlice(), make([]byte, 18))
		if !bytes.Equal(reply, want) {
			t.Errorf("%s: reply\n% x, want\n% x", tt.story, reply, want)
		}
	}
}

func TestClaimants(t *testing.T) {
	relayed := at(arpRequest(t, vip4, vip4), 6, otherMAC...)
	if out := handle(relayed, ourStation(vip4)); out.addr != vip4 || !bytes.Equal(out.claimant, clientMAC) {
		t.Errorf("ARP: %s is said to be at %s, want %s", out.addr, out.claimant, clientMAC)
	}
	relayed = at(advertise(t, advertisement{}), 6, otherMAC...)
	if out := handle(relayed, ourStation(vip6)); out.addr != vip6 || !bytes.Equal(out.claimant, clientMAC) {
		t.Errorf("NDP: %s is said to be at %s, want %s", out.addr, out.claimant, clientMAC)
	}
}

// asStandIn makes the station answer as another host.
func (s station) asStandIn(as net.HardwareAddr) station {
	lookup := s.lookup
	s.lookup = func(a netip.Addr) (answering, bool) { _, ok := lookup(a); return answering{as: as}, ok }
	return s
}

func TestAStandInAnswersAsTheOwner(t *testing.T) {
	on := ourStation(vip4, vip6).asStandIn(otherMAC)
	reply := handle(arpRequest(t, client4, vip4), on).reply
	if !bytes.Equal(reply[:12], slices.Concat(clientMAC, ourMAC)) ||
		!bytes.Equal(reply[22:32], slices.Concat(otherMAC, vip4.AsSlice())) {
		t.Errorf("ARP reply % x", reply)
	}
	reply = handle(solicit(t, solicitation{}), on).reply
	if !bytes.Equal(reply[:12], slices.Concat(clientMAC, ourMAC)) ||
		!bytes.HasSuffix(reply, slices.Concat([]byte{2, 1}, otherMAC)) {
		t.Errorf("NDP reply % x", reply)
	}
	if flags := reply[offICMPv6+4]; flags != 0x40 {
		t.Errorf("flags %#x, want Solicited and, as a proxy does, not Override", flags)
	}
	claim := at(arpRequest(t, vip4, vip4), 22, otherMAC...)
	if v := handle(claim, on).verdict; v != MemberClaim {
		t.Errorf("the owner announces its address: %s", v)
	}
}

func TestARPAnnouncement(t *testing.T) {
	subnet := netip.MustParseAddr("192.0.2.0")
	frames, err := neighbor.Announcement(neighbor.Binding{IP: vip4, MAC: ourMAC},
		neighbor.Beyond{Subnet: subnet})
	if err != nil || len(frames) != 3 {
		t.Fatalf("%d frames, error %v", len(frames), err)
	}
	third := slices.Concat(
		ethernet.Broadcast, ourMAC, []byte{0x08, 0x06}, []byte{0, 1, 8, 0, 6, 4, 0, 1},
		ourMAC, vip4.AsSlice(), make([]byte, neighbor.MACLen), subnet.AsSlice(), make([]byte, 18))
	if !bytes.Equal(frames[2], third) {
		t.Errorf("the third frame\n% x, want\n% x", frames[2], third)
	}
	frames, err = neighbor.Announcement(neighbor.Binding{IP: vip4, MAC: ourMAC}, neighbor.Beyond{})
	if err != nil || len(frames) != 2 {
		t.Errorf("without another address: %d frames, error %v", len(frames), err)
	}
	for i, op := range []byte{1, 2} {
		want := slices.Concat(
			ethernet.Broadcast, ourMAC, []byte{0x08, 0x06},
			[]byte{0, 1, 8, 0, 6, 4, 0, op},
			ourMAC, vip4.AsSlice(), ethernet.Broadcast, vip4.AsSlice(), make([]byte, 18))
		if !bytes.Equal(frames[i], want) {
			t.Errorf("frame %d\n% x, want\n% x", i, frames[i], want)
		}
	}
}

func FuzzHandleARP(f *testing.F) {
	request := arpRequest(f, client4, vip4)
	for _, seed := range [][]byte{
		nil, request, request[:42], request[:20],
		arpRequest(f, netip.IPv4Unspecified(), vip4), arpRequest(f, vip4, vip4),
		arpRequest(f, vip4, foreign4), at(arpRequest(f, vip4, client4), 21, 2),
		at(arpRequest(f, vip4, vip4), 22, memberMAC...), at(arpRequest(f, vip4, vip4), 22, ourOtherMAC...),
		at(request, 0, ourMAC...), at(request, 20, 0xff, 0xff),
		append(bytes.Clone(request), make([]byte, 2000)...),
		at(request, 18, 200), at(request, 19, 5),
		at(request, 12, 0x81, 0x00), at(request, 12, 0x88, 0xa8, 0, 1, 0x81, 0),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		out := handle(b, ourStation(vip4))
		verdict, target, reply := out.verdict, out.addr, out.reply
		if !bytes.Equal(before, b) {
			t.Fatal("the received frame was changed")
		}
		if verdict >= verdictCount {
			t.Fatalf("verdict %d", verdict)
		}
		isClaim := verdict == ForeignClaim || verdict == MemberClaim
		if isClaim != (out.claimant != nil) ||
			isClaim && (target != vip4 || !neighbor.IsStation(out.claimant)) {
			t.Fatalf("%s of %s by %s", verdict, target, out.claimant)
		}
		if verdict != Answered {
			if reply != nil {
				t.Fatalf("%s with a reply", verdict)
			}
			return
		}
		// The naive reading of RFC 826: only this may be answered.
		wellFormed := len(b) >= 42 && bytes.Equal(b[12:22], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}) &&
			bytes.Equal(b[38:42], vip4.AsSlice()) && !bytes.Equal(b[28:32], vip4.AsSlice()) &&
			(b[0]&1 == 1 || bytes.Equal(b[:6], ourMAC))
		if !wellFormed || target != vip4 {
			t.Fatalf("answered % x", b)
		}
		if len(reply) != 60 || !bytes.Equal(reply[:6], b[22:28]) || !bytes.Equal(reply[6:12], ourMAC) ||
			!bytes.Equal(reply[12:32],
				slices.Concat([]byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 2}, ourMAC, vip4.AsSlice())) ||
			!bytes.Equal(reply[32:42], b[22:32]) {
			t.Fatalf("reply % x to % x", reply, b)
		}
	})
}

func BenchmarkReply(b *testing.B) {
	b.Run("arp", func(b *testing.B) {
		request, on := arpRequest(b, client4, vip4), ourStation(vip4)
		b.ReportAllocs()
		for b.Loop() {
			if v := handle(request, on).verdict; v != Answered {
				b.Fatal(v)
			}
		}
	})
	b.Run("ndp", func(b *testing.B) {
		request, on := solicit(b, solicitation{}), ourStation(vip6)
		b.ReportAllocs()
		for b.Loop() {
			if v := handle(request, on).verdict; v != Answered {
				b.Fatal(v)
			}
		}
	})
}
