package announcer

import (
	"net"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

func TestTheOtherAddressOfAnAnnouncement(t *testing.T) {
	for _, tt := range []struct {
		story    string
		addr     string
		prefixes []string
		want     string
	}{
		{"its subnet's lowest", "192.0.2.240", []string{"192.0.2.7/24"}, "192.0.2.0"},
		{"its subnet's, and not that of the link's first",
			"192.0.2.240", []string{"10.0.0.7/8", "192.0.2.7/24"}, "192.0.2.0"},
		{"the address is the lowest itself", "192.0.2.0", []string{"192.0.2.7/24"}, "192.0.2.7"},
		{"of no subnet of the link", "198.51.100.1", []string{"192.0.2.7/24", "203.0.113.7/24"}, "192.0.2.0"},
		{"a link with an address and no subnet", "192.0.2.240", []string{"192.0.2.7/32"}, "192.0.2.7"},
		{"a link with nothing of the family", "192.0.2.240", []string{"2001:db8::7/64"}, ""},
		{"a link without addresses", "192.0.2.240", nil, ""},
	} {
		t.Run(tt.story, func(t *testing.T) {
			var prefixes []netip.Prefix
			for _, p := range tt.prefixes {
				prefixes = append(prefixes, netip.MustParsePrefix(p))
			}
			want, _ := netip.ParseAddr(tt.want)
			if got := subnetAddress(netip.MustParseAddr(tt.addr), prefixes); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestAnAnnouncementIsNoForeignClaim: whatever another node announces, a node that
// knows it as a member hears a member, one that does not announce the address hears
// nothing, and nobody answers.
func TestAnAnnouncementIsNoForeignClaim(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := rapid.SampledFrom([]netip.Addr{vip4, vip6}).Draw(t, "address")
		bits := rapid.IntRange(1, addr.BitLen()).Draw(t, "prefix length")
		to := neighbor.Beyond{Subnet: subnetAddress(addr,
			[]netip.Prefix{netip.PrefixFrom(addr.Next(), bits)})}
		if addr.Is6() && rapid.Bool().Draw(t, "we are its router") {
			to.Router = neighbor.Binding{IP: netip.MustParseAddr("fe80::1"), MAC: ourMAC}
		}
		frames, err := neighbor.Announcement(neighbor.Binding{IP: addr, MAC: otherMAC}, to)
		if err != nil {
			t.Fatal(err)
		}
		announces := rapid.Bool().Draw(t, "announced here too")
		on := ourStation(client4)
		if announces {
			on = ourStation(addr)
		}
		on.isMember = func(mac net.HardwareAddr) bool { return mac.String() == otherMAC.String() }
		for i, frame := range frames {
			out := handle(frame, on)
			switch {
			case out.verdict == Answered || out.verdict == ForeignClaim || out.verdict == Malformed:
				t.Fatalf("frame %d: %s", i, out.verdict)
			case !announces && out.verdict == MemberClaim:
				t.Fatalf("frame %d is a claim of what is not announced here", i)
			}
		}
	})
}
