package neighbor

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

// passes runs the part of a filter that looks at bytes.
func passes(t testing.TB, program []bpf.Instruction, frame []byte) bool {
	t.Helper()
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func TestARPFilter(t *testing.T) {
	request := arpRequest(t, client4, vip4)
	tests := []struct {
		story string
		frame []byte
		want  bool
	}{
		{"a request", request, true},
		{"a request without padding", request[:42], true},
		{"a probe", arpRequest(t, netip.IPv4Unspecified(), vip4), true},
		{"a request for another address", arpRequest(t, client4, foreign4), false},
		{"a reply", at(request, 21, 2), false},
		{"a request from the address", arpRequest(t, vip4, foreign4), true},
		{"a reply from the address", at(arpRequest(t, vip4, foreign4), 21, 2), true},
		{"the address is announced", arpRequest(t, vip4, vip4), true},
		{"a reply from the address, cut off", arpRequest(t, vip4, foreign4)[:30], false},
		{"another protocol", at(request, 12, 8, 0), false},
		{"wrong lengths", at(request, 18, 200), false},
		{"cut off before the target", request[:41], false},
		{"nothing", nil, false},
	}
	for _, tt := range tests {
		if got := passes(t, arpBody([]netip.Addr{vip4}), tt.frame); got != tt.want {
			t.Errorf("%s: %t", tt.story, got)
		}
	}
}

func TestNDPFilter(t *testing.T) {
	ask := solicit(t, solicitation{})
	far := netip.MustParseAddr("2001:db9::10:1")
	tests := []struct {
		story string
		addrs []netip.Addr
		frame []byte
		want  bool
	}{
		{"a solicitation", []netip.Addr{vip6}, ask, true},
		{"a probe", []netip.Addr{vip6},
			solicit(t, solicitation{Source: netip.IPv6Unspecified(), NoOption: true}), true},
		{"for another address", []netip.Addr{vip6}, solicit(t, solicitation{Target: foreign6}), false},
		{"for another subnet", []netip.Addr{vip6}, solicit(t, solicitation{Target: far}), false},
		{"one of two subnets", []netip.Addr{vip6, far}, solicit(t, solicitation{Target: far}), true},
		{"from beyond a router", []netip.Addr{vip6}, solicit(t, solicitation{HopLimit: 64}), false},
		{"an advertisement", []netip.Addr{vip6}, at(ask, offICMPv6, 136), true},
		{"a router's advertisement", []netip.Addr{vip6}, at(ask, offICMPv6, 134), false},
		{"a wrong code", []netip.Addr{vip6}, at(ask, offICMPv6+1, 1), false},
		{"another protocol", []netip.Addr{vip6}, at(ask, offIPv6+6, 17), false},
		{"a fragment", []netip.Addr{vip6}, at(ask, offIPv6+6, 44), false},
		{"with options, whatever is behind them", []netip.Addr{foreign6}, at(ask, offIPv6+6, 60), true},
		{"with options for each hop", []netip.Addr{foreign6}, at(ask, offIPv6+6, 0), true},
		{"a group report, which has options and a low hop limit",
			[]netip.Addr{vip6}, at(ask, offIPv6+6, 0, 1), false},
		{"cut off", []netip.Addr{vip6}, ask[:70], false},
	}
	for _, tt := range tests {
		if got := passes(t, ndpBody(tt.addrs), tt.frame); got != tt.want {
			t.Errorf("%s: %t", tt.story, got)
		}
	}
}

func TestMergeRanges(t *testing.T) {
	tests := []struct {
		story  string
		values []uint32
		limit  int
		want   []wordRange
	}{
		{"nothing", nil, 4, nil},
		{"neighbours are one range, in any order and twice", []uint32{7, 5, 6, 6}, 4, []wordRange{{5, 7}}},
		{"the ends of the space", []uint32{0, 1<<32 - 1}, 4, []wordRange{{0, 0}, {1<<32 - 1, 1<<32 - 1}}},
		{"the nearest are merged over the limit",
			[]uint32{1, 3, 100, 103, 900}, 3, []wordRange{{1, 3}, {100, 103}, {900, 900}}},
		{"down to one", []uint32{1, 3, 100}, 1, []wordRange{{1, 100}}},
		{"of equal gaps the first stays", []uint32{10, 20, 30}, 2, []wordRange{{10, 10}, {20, 30}}},
	}
	for _, tt := range tests {
		if got := mergeRanges(tt.values, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.story, got, tt.want)
		}
	}
}

// TestFilterAgainstOracle compares filters with plain membership: what is
// announced always passes, and nothing else does as long as the ranges fit.
func TestFilterAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint32().Draw(t, "base")
		spread := rapid.SampledFrom([]uint32{4, 64, 4096, 1<<32 - 1}).Draw(t, "spread")
		word := rapid.Map(rapid.Uint32Range(0, spread), func(d uint32) netip.Addr {
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, base+d)))
		})
		addrs := rapid.SliceOfN(word, 1, 3*maxRanges).Draw(t, "addrs")
		probe := rapid.OneOf(word, rapid.SampledFrom(addrs)).Draw(t, "probe")

		values := make([]uint32, len(addrs))
		for i, a := range addrs {
			b := a.As4()
			values[i] = binary.BigEndian.Uint32(b[:])
		}
		exact := len(mergeRanges(values, len(values))) <= maxRanges
		program := arpBody(addrs)
		if _, err := bpf.Assemble(program); err != nil {
			t.Fatal(err)
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatal(err)
		}
		sender := rapid.OneOf(word, rapid.SampledFrom(addrs)).Draw(t, "sender")
		operation := rapid.Byte().Draw(t, "operation")
		frame := slices.Concat(make([]byte, 12), []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, operation},
			clientMAC, sender.AsSlice(), make([]byte, 6), probe.AsSlice())
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		concerned := slices.Contains(addrs, sender) || operation == 1 && slices.Contains(addrs, probe)
		if concerned && n == 0 {
			t.Fatalf("operation %d from %s about %s did not pass", operation, sender, probe)
		}
		if exact && !concerned && n > 0 {
			t.Fatalf("operation %d from %s about %s passed", operation, sender, probe)
		}
	})
}

func TestNDPFilterAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			b := vip6.As16()
			b[rapid.SampledFrom([]int{3, 7, 11, 15}).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			return netip.AddrFrom16(b)
		})
		addrs := rapid.SliceOfN(addr, 1, 20).Draw(t, "addrs")
		probe := rapid.OneOf(addr, rapid.SampledFrom(addrs)).Draw(t, "probe")
		vm, err := bpf.NewVM(ndpBody(addrs))
		if err != nil {
			t.Fatal(err)
		}
		frame := slices.Concat(
			make([]byte, 12), []byte{0x86, 0xdd},
			make([]byte, 6), []byte{58, 255}, make([]byte, 32),
			[]byte{135, 0}, make([]byte, 6), probe.AsSlice())
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(addrs, probe) && n == 0 {
			t.Fatalf("%s is announced and did not pass", probe)
		}
		sameLast := slices.ContainsFunc(addrs, func(a netip.Addr) bool {
			x := a.As16()
			y := probe.As16()
			return x[15] == y[15]
		})
		if !sameLast && n > 0 {
			t.Fatalf("%s shares its end with no announced address and passed", probe)
		}
	})
}

func TestLargestFilterFitsTheKernel(t *testing.T) {
	var addrs []netip.Addr
	for i := range 2 * maxRanges {
		addrs = append(addrs, netip.AddrFrom4([4]byte{203, byte(i >> 8), byte(i), 7}))
	}
	for _, program := range [][]bpf.Instruction{
		ARP.RequestFilter(addrs, 7), NDP.RequestFilter(mapped(addrs), 7),
	} {
		if _, err := bpf.Assemble(program); err != nil {
			t.Fatal(err)
		}
		if len(program) > 4096 {
			t.Errorf("%d instructions", len(program))
		}
	}
}

// mapped returns an IPv6 address for each IPv4 address.
func mapped(addrs []netip.Addr) (out []netip.Addr) {
	for _, a := range addrs {
		b := vip6.As16()
		copy(b[12:], a.AsSlice())
		out = append(out, netip.AddrFrom16(b))
	}
	return out
}

func BenchmarkFilter2000Addresses(b *testing.B) {
	var addrs []netip.Addr
	for i := range 2000 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), 7}))
	}
	b.ReportAllocs()
	for b.Loop() {
		ARP.RequestFilter(addrs, 7)
	}
}

func TestAnswersAndHolders(t *testing.T) {
	us := netip.MustParseAddr("fe80::7")
	advertised := ndpAnswer(t, &ndp.NeighborAdvertisement{TargetAddress: client6}, us, ourMAC)
	tests := []struct {
		story           string
		on              Protocol
		frame           []byte
		answers, holder bool
	}{
		{"an ARP reply", ARP, arpAnswer(t), true, true},
		{"an ARP request", ARP, arpRequest(t, client4, vip4), false, true},
		{"an ARP Probe", ARP, arpRequest(t, netip.IPv4Unspecified(), vip4), false, true},
		{"IPv6 for ARP", ARP, advertised, false, false},
		{"an advertisement", NDP, advertised, true, true},
		{"a solicitation", NDP, dadSolicit(t), false, true},
		{"an echo request", NDP, at(advertised, offICMPv6, 128), false, false},
		{"with options, whatever is behind them", NDP, at(advertised, offIPv6+6, 60), true, true},
		{"a fragment", NDP, at(advertised, offIPv6+6, 44), false, false},
		{"TCP", NDP, at(advertised, offIPv6+6, 6), false, false},
		{"from beyond a router", NDP, at(advertised, offIPv6+7, 64), false, false},
		{"ARP for IPv6", NDP, arpAnswer(t), false, false},
		{"cut off", NDP, advertised[:50], false, false},
		{"nothing", ARP, nil, false, false},
	}
	for _, tt := range tests {
		if got := passes(t, tt.on.answerBody(), tt.frame); got != tt.answers {
			t.Errorf("%s: answers pass %t", tt.story, got)
		}
		if got := passes(t, tt.on.holderBody(), tt.frame); got != tt.holder {
			t.Errorf("%s: holders pass %t", tt.story, got)
		}
	}
	for _, p := range []Protocol{ARP, NDP} {
		for _, program := range [][]bpf.Instruction{p.AnswerFilter(7), p.HolderFilter(7)} {
			if _, err := bpf.Assemble(program); err != nil {
				t.Error(err)
			}
		}
	}
}
