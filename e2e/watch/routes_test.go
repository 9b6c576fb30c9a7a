package watch

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a kernel (Linux 6.18) sent when ip (iproute2 6.1) made and removed routes.
var routeMessages = []struct{ story, hex, want string }{
	{"a group of two next hops",
		"600000001800000657ef016bce25000002200000feba00010000000008000f00fe00000008000100c6336400" +
			"080006001400000008001e0019000000240009001000000003000000080005000a4d000d1000000003000000" +
			"080005000a4d000b",
		"198.51.100.0/32 by [10.77.0.13 10.77.0.11]"},
	{"it is replaced by a single one",
		"4c0000001800000157ef016bd925000002200000feba00010000000008000f00fe00000008000100c6336400" +
			"080006001400000008001e000b000000080005000a4d000d0800040003000000",
		"198.51.100.0/32 by [10.77.0.13]"},
	{"it is deleted",
		"4c0000001900000058ef016be325000002200000feba00010000000008000f00fe00000008000100c6336400" +
			"080006001400000008001e000b000000080005000a4d000d0800040003000000",
		"198.51.100.0/32 deleted, was by [10.77.0.13]"},
	{"a group of IPv6 is deleted",
		"b00000001900000059ef016b052600000a800000feba00010000000008000f00fe0000001400010020010db8" +
			"010000000000000000000000080006001400000008001e001e0000003c0009001c0000000300000014000500" +
			"fd7700000000000000000000000000131c0000000300000014000500fd770000000000000000000000000011" +
			"24000c0000000000000000000000000000000000000000000000000000000000000000000500140000000000",
		"2001:db8:100::/128 deleted, was by [fd77::13 fd77::11]"},
	{"one of two next hops of a route of IPv6 is deleted",
		"88000000190000005cef016bdc2600000a800000fe0300010000000008000f00fe0000001400010020010db8" +
			"000000000000000000000005080006000004000014000500fd77000000000000000000000000001108000400" +
			"0300000024000c00000000000000000000000000000000000000000000000000000000000000000005001400" +
			"00000000",
		"2001:db8::5/128 deleted, was by [fd77::11]"},
	{"a next hop of the other family",
		"4c000000180000065aef016b1126000002200000fe0300010000000008000f00fe00000008000100c6336401" +
			"160012000a00fd77000000000000000000000000001300000800040003000000",
		"198.51.100.1/32 by [fd77::13]"},
	{"the default route",
		"34000000180000065aef016b2d26000002000000fe0300010000000008000f00fe000000080005000a4d000d" +
			"0800040003000000",
		"0.0.0.0/0 by [10.77.0.13]"},
	{"a route on the link",
		"740000001900000000000000000000000a400000fe0200010000000008000f00fe00000014000100fd770000" +
			"0000000000000000000000000800060000010000080004000300000024000c00000000000000000000000000" +
			"00000000000000000000000000000000000000000500140000000000",
		"fd77::/64 deleted, was by []"},
	{"another table",
		"3c000000180000065aef016b62260000022000004d0300010000000008000f004d00000008000100c6336409" +
			"080005000a4d000d0800040003000000",
		""},
	{"an address of the host's own",
		"740000001800000600000000000000000a800000ff0200020000000008000f00ff00000014000100fe800000" +
			"00000000f43f8bfffef343610800060000000000080004000200000024000c00000000000000000000000000" +
			"00000000000000000000000000000000000000000500140000000000",
		""},
}

func describe(e RouteEvent) string {
	if e.Deleted {
		return fmt.Sprintf("%s deleted, was by %v", e.Prefix, e.Hops)
	}
	return fmt.Sprintf("%s by %v", e.Prefix, e.Hops)
}

func message(t testing.TB, text string) syscall.NetlinkMessage {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := syscall.ParseNetlinkMessage(raw)
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	return messages[0]
}

func TestParseRoute(t *testing.T) {
	for _, test := range routeMessages {
		t.Run(test.story, func(t *testing.T) {
			got := ""
			if e, ok := parseRoute(message(t, test.hex)); ok {
				got = describe(e)
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func FuzzParseRoute(f *testing.F) {
	for _, test := range routeMessages {
		f.Add(uint16(unix.RTM_NEWROUTE), message(f, test.hex).Data)
	}
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		e, ok := parseRoute(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: data})
		if ok && (!e.Prefix.IsValid() || kind != unix.RTM_NEWROUTE && kind != unix.RTM_DELROUTE) {
			t.Errorf("read %s from a message of type %d", describe(e), kind)
		}
	})
}

// events reads lines such as "250 del 198.51.100.1 10.77.0.11": milliseconds, what happened, the address and
// the next hops.
func events(t *testing.T, begin time.Time, lines ...string) []RouteEvent {
	t.Helper()
	var out []RouteEvent
	for _, line := range lines {
		fields := strings.Fields(line)
		after, err := time.ParseDuration(fields[0] + "ms")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddr(fields[2])
		e := RouteEvent{
			At:      begin.Add(after),
			Prefix:  netip.PrefixFrom(addr, addr.BitLen()),
			Deleted: fields[1] == "del",
		}
		for _, hop := range fields[3:] {
			e.Hops = append(e.Hops, netip.MustParseAddr(hop))
		}
		out = append(out, e)
	}
	return out
}

func TestDepartures(t *testing.T) {
	begin := time.Now()
	isDead := func(hop netip.Addr) bool {
		return hop == netip.MustParseAddr("10.77.0.11") || hop == netip.MustParseAddr("fd77::11")
	}
	for _, test := range []struct {
		story string
		lines []string
		want  time.Duration // 0: it never ceased to
		end   bool          // it is listed then
	}{
		{"nothing happens", nil, 0, true},
		{"it leaves", []string{"250 new 198.51.100.1 10.77.0.12"}, 250 * time.Millisecond, false},
		{"others leave", []string{
			"250 new 198.51.100.1 10.77.0.11 10.77.0.12", "260 new 198.51.100.1 10.77.0.11",
		}, 0, true},
		{"others leave later",
			[]string{
				"250 new 198.51.100.1 10.77.0.12 10.77.0.13", "260 new 198.51.100.1 10.77.0.12",
			}, 250 * time.Millisecond, false},
		{"it comes back",
			[]string{
				"250 new 198.51.100.1 10.77.0.12", "300 new 198.51.100.1 10.77.0.12 10.77.0.11",
			}, 250 * time.Millisecond, true},
		{"it comes back and leaves again",
			[]string{"250 new 198.51.100.1 10.77.0.12", "900 new 198.51.100.1 10.77.0.11",
				"990 new 198.51.100.1 10.77.0.12"},
			250 * time.Millisecond, false},
		{"the route goes for want of any next hop",
			[]string{"280 del 198.51.100.1 10.77.0.11"}, 280 * time.Millisecond, false},
		{"the route goes, and comes back later",
			[]string{
				"280 del 198.51.100.1 10.77.0.11", "1280 new 198.51.100.1 10.77.0.11",
			}, 280 * time.Millisecond, true},
		{"FRR replaces by deleting: it is gone for good",
			[]string{
				"300 del 198.51.100.1 10.77.0.11 10.77.0.12", "301 new 198.51.100.1 10.77.0.12",
			}, 300 * time.Millisecond, false},
		{"FRR replaces by deleting: it is gone for a moment",
			[]string{"300 del 198.51.100.1 10.77.0.11 10.77.0.12", "301 new 198.51.100.1 10.77.0.12",
				"310 del 198.51.100.1 10.77.0.12", "311 new 198.51.100.1 10.77.0.11 10.77.0.12"},
			300 * time.Millisecond, true},
		{"FRR replaces by deleting: it stays",
			[]string{
				"200 del 198.51.100.1 10.77.0.11 10.77.0.12", "201 new 198.51.100.1 10.77.0.11",
			}, 0, true},
		{"FRR replaces by deleting: it stays and leaves later",
			[]string{"200 del 198.51.100.1 10.77.0.11 10.77.0.12",
				"201 new 198.51.100.1 10.77.0.11", "300 new 198.51.100.1 10.77.0.12"},
			300 * time.Millisecond, false},
		{"another route to the address is deleted", []string{"250 del 198.51.100.1 10.77.0.12"}, 0, true},
		{"another address", []string{"250 new 198.51.100.9 10.77.0.12"}, 0, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			addr := netip.MustParseAddr("198.51.100.1")
			got := Departures(events(t, begin, test.lines...), isDead, []netip.Addr{addr})
			var after time.Duration
			if first := got[addr].First; !first.IsZero() {
				after = first.Sub(begin)
			}
			if len(got) != 1 || after != test.want || got[addr].Listed != test.end {
				t.Errorf("left after %s, listed at the end: %t; want %s and %t",
					after, got[addr].Listed, test.want, test.end)
			}
		})
	}
}

func TestArrivals(t *testing.T) {
	begin := time.Now()
	arrivals := Arrivals(events(t, begin,
		"50 del 198.51.100.2 10.77.0.11",
		"100 new 198.51.100.1 10.77.0.11",
		"250 new 198.51.100.1 10.77.0.11 10.77.0.12",
		"300 new 198.51.100.1 10.77.0.11",
		"350 new 198.51.100.1 10.77.0.11 10.77.0.12",
	), 2)
	want := Arrival{First: begin.Add(100 * time.Millisecond), Full: begin.Add(250 * time.Millisecond)}
	if got := arrivals[netip.MustParseAddr("198.51.100.1")]; len(arrivals) != 1 || got != want {
		t.Errorf("seen %v, want %v only", arrivals, want)
	}
}
