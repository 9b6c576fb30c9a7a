package neighbor

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
)

// maxRanges bounds the size of a filter. The kernel charges a filter to the
// socket's option memory, which is 20 KiB by default before Linux 6.8
// (net.core.optmem_max), and while one filter replaces another it charges both. A
// range takes at most 32 bytes there each time it is looked for, which is twice
// for ARP, so 128 of them fit twice. A foreign request costs at most two
// comparisons for each range and look.
const maxRanges = 128

// blockRanges is how many ranges are compared before the exits to which they
// jump: conditional jumps reach 255 instructions, and a range takes two.
const blockRanges = 120

// headerLen is the length of an Ethernet header without VLAN tags.
const headerLen = 14

// snapLen is how many bytes of a passed frame the kernel hands over: more than
// any request has.
const snapLen = 1 << 11

// The kernel's classes of received frames (if_packet.h), as far as they are for
// this host. Higher ones are for others or were sent by this host.
const (
	packetHost      = 0
	packetBroadcast = 1
	packetMulticast = 2
)

// Offsets in an Ethernet frame without VLAN tag.
const (
	offARP        = headerLen
	offARPSender  = offARP + 14
	offARPTarget  = offARP + 24
	offIPv6       = headerLen
	offICMPv6     = offIPv6 + ipv6Len
	offNDPTarget  = offICMPv6 + 8
	offEtherType  = 12
	arpHeaderWord = 0x0001_0800 // hardware type Ethernet, protocol type IPv4
	arpLengths    = 0x0604
)

// RequestFilter returns the program that passes, of what arrives on the link with that
// index, the requests for the addresses and whatever claims one of them, and as little
// else as can be.
//
// By ARP, what claims is a packet of any operation whose sender gives one of the
// addresses as its own; by NDP it is an advertisement. Some for other addresses may
// pass too: for ARP, when there are more than maxRanges ranges of addresses; for NDP,
// also for addresses that differ only in between of what all have in common and the
// last 32 bits, and whatever comes with an extension header, which with this hop limit
// hardly anything does.
func (p Protocol) RequestFilter(addrs []netip.Addr, ifindex int) []bpf.Instruction {
	if p == NDP {
		return append(arrivalFilter(packetMulticast, ifindex), ndpBody(addrs)...)
	}
	return append(arrivalFilter(packetBroadcast, ifindex), arpBody(addrs)...)
}

// AnswerFilter returns the program that passes what may answer this host's requests:
// ARP replies or Neighbor Advertisements to this host alone. It sees every frame of the
// protocol that arrives, so what is most frequent is rejected early.
func (p Protocol) AnswerFilter(ifindex int) []bpf.Instruction {
	return append(arrivalFilter(packetHost, ifindex), p.answerBody()...)
}

func (p Protocol) answerBody() []bpf.Instruction {
	if p == ARP {
		return slices.Concat(
			loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeARP)),
			loadAndRequire(offARP+6, 2, uint32(arp.OperationReply)),
			[]bpf.Instruction{bpf.RetConstant{Val: snapLen}},
		)
	}
	return slices.Concat(
		ndpHead(),
		loadAndRequire(offICMPv6, 2, typeAdvertisement<<8),
		[]bpf.Instruction{bpf.RetConstant{Val: snapLen}},
	)
}

// HolderFilter returns the program that passes what may tell who has an address: every
// ARP packet, or Neighbor Advertisements and Solicitations.
func (p Protocol) HolderFilter(ifindex int) []bpf.Instruction {
	return append(arrivalFilter(packetMulticast, ifindex), p.holderBody()...)
}

func (p Protocol) holderBody() []bpf.Instruction {
	if p == ARP {
		return slices.Concat(
			loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeARP)),
			[]bpf.Instruction{bpf.RetConstant{Val: snapLen}},
		)
	}
	return slices.Concat(
		ndpHead(),
		requireNDPType(),
		[]bpf.Instruction{bpf.RetConstant{Val: snapLen}},
	)
}

// arrivalFilter rejects frames by how they arrived: sent by or meant for another
// host, with a VLAN tag that the kernel has taken off, or on another device. The
// last is a VLAN or macvlan device on top of this one, whose frames a socket on
// the lower device sees as well after the tag is gone.
func arrivalFilter(highestClass uint32, ifindex int) []bpf.Instruction {
	return slices.Concat(
		[]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtType}},
		rejectUnless(bpf.JumpLessOrEqual, highestClass),
		[]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}},
		rejectUnless(bpf.JumpEqual, 0),
		[]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtInterfaceIndex}},
		rejectUnless(bpf.JumpEqual, uint32(ifindex)),
	)
}

// arpBody looks at the bytes of the frame. Loads beyond its end reject it.
func arpBody(addrs []netip.Addr) []bpf.Instruction {
	targets := make([]uint32, len(addrs))
	for i, a := range addrs {
		b := a.As4()
		targets[i] = binary.BigEndian.Uint32(b[:])
	}
	ranges := mergeRanges(targets, maxRanges)
	return slices.Concat(
		loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeARP)),
		loadAndRequire(offARP, 4, arpHeaderWord),
		loadAndRequire(offARP+4, 2, arpLengths),
		passRanges(offARPSender, ranges),
		loadAndRequire(offARP+6, 2, uint32(arp.OperationRequest)),
		passRanges(offARPTarget, ranges),
		[]bpf.Instruction{bpf.RetConstant{Val: 0}},
	)
}

// ndpHead goes on with what may be a Neighbor Solicitation or Advertisement, passes
// what has options before it, for [Parse] to look at, and rejects the rest.
func ndpHead() []bpf.Instruction {
	return slices.Concat(
		loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeIPv6)),
		loadAndRequire(offIPv6+7, 1, ndpHopLimit),
		passOneOf(offIPv6+6, 1, headerHopByHop, headerDestination),
		loadAndRequire(offIPv6+6, 1, protocolICMPv6),
	)
}

// requireNDPType goes on with solicitations and advertisements.
func requireNDPType() []bpf.Instruction {
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offICMPv6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeSolicitation << 8, SkipTrue: 2},
	}, rejectUnless(bpf.JumpEqual, typeAdvertisement<<8)...)
}

func ndpBody(addrs []netip.Addr) []bpf.Instruction {
	program := slices.Concat(ndpHead(), requireNDPType())
	words := make([][]uint32, 4)
	for _, a := range addrs {
		b := a.As16()
		for w := range words {
			words[w] = append(words[w], binary.BigEndian.Uint32(b[4*w:]))
		}
	}
	for w, values := range words[:3] {
		if len(values) > 0 && !slices.ContainsFunc(values, func(v uint32) bool { return v != values[0] }) {
			program = append(program, loadAndRequire(uint32(offNDPTarget+4*w), 4, values[0])...)
		}
	}
	program = append(program, passRanges(offNDPTarget+12, mergeRanges(words[3], maxRanges))...)
	return append(program, bpf.RetConstant{Val: 0})
}

// rejectUnless goes on when the loaded value passes the test. Conditional jumps
// reach 255 instructions, so each rejection returns at its own place.
func rejectUnless(test bpf.JumpTest, value uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

func loadAndRequire(offset uint32, size int, value uint32) []bpf.Instruction {
	return append([]bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: size}},
		rejectUnless(bpf.JumpEqual, value)...)
}

// passOneOf passes the frame when what is at the offset is one of the values, and
// goes on otherwise.
func passOneOf(offset uint32, size int, values ...uint32) []bpf.Instruction {
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: size}}
	for _, v := range values {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1},
			bpf.RetConstant{Val: snapLen},
		)
	}
	return program
}

// passRanges passes the frame when the word at the offset is in one of the ranges,
// which are in ascending order and do not touch, and goes on otherwise. Ranges
// stand in blocks that share their exits.
func passRanges(offset uint32, ranges []wordRange) []bpf.Instruction {
	var blocks []bpf.Instruction
	for _, block := range slices.Backward(slices.Collect(slices.Chunk(ranges, blockRanges))) {
		// Behind the comparisons: go to the next block, miss, and pass.
		n := 2 * len(block)
		var program []bpf.Instruction
		for i, r := range block {
			left := n - 2*i - 1
			program = append(program,
				bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: r.low, SkipFalse: uint8(left + 1)},
				bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: r.high, SkipFalse: uint8(left + 1)},
			)
		}
		program = append(program,
			bpf.Jump{Skip: 2},
			bpf.Jump{Skip: uint32(1 + len(blocks))},
			bpf.RetConstant{Val: snapLen},
		)
		blocks = append(program, blocks...)
	}
	return append([]bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: 4}}, blocks...)
}

// wordRange is the 32-bit values from low to high, both included.
type wordRange struct{ low, high uint32 }

// mergeRanges returns the fewest ascending ranges that hold exactly the given
// values or, when those are more than limit, a superset: the ranges with the
// smallest gaps between them are made one until limit ranges are left.
func mergeRanges(values []uint32, limit int) []wordRange {
	values = slices.Clone(values)
	slices.Sort(values)
	var ranges []wordRange
	for _, v := range values {
		if n := len(ranges); n > 0 && uint64(v) <= uint64(ranges[n-1].high)+1 {
			ranges[n-1].high = v
			continue
		}
		ranges = append(ranges, wordRange{v, v})
	}
	if len(ranges) <= limit {
		return ranges
	}
	// gaps[i] lies before ranges[i+1]; the limit-1 widest stay, the first of
	// equals first.
	gaps := make([]int, len(ranges)-1)
	for i := range gaps {
		gaps[i] = i
	}
	width := func(gap int) uint32 { return ranges[gap+1].low - ranges[gap].high }
	slices.SortStableFunc(gaps, func(a, b int) int { return cmp.Compare(width(b), width(a)) })
	kept := gaps[:limit-1]
	slices.Sort(kept)
	out := make([]wordRange, 0, limit)
	low := ranges[0].low
	for _, gap := range kept {
		out = append(out, wordRange{low, ranges[gap].high})
		low = ranges[gap+1].low
	}
	return append(out, wordRange{low, ranges[len(ranges)-1].high})
}
