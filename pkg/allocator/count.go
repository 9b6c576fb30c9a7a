package allocator

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"

	"go4.org/netipx"
)

// count is a number of addresses below 2^128; the whole of IPv6, which is one
// more, counts one too few.
type count struct{ hi, lo uint64 }

// size returns the number of addresses in a valid range.
func size(r netipx.IPRange) count {
	from, to := r.From().As16(), r.To().As16()
	lo, borrow := bits.Sub64(binary.BigEndian.Uint64(to[8:]), binary.BigEndian.Uint64(from[8:]), 0)
	hi, _ := bits.Sub64(binary.BigEndian.Uint64(to[:8]), binary.BigEndian.Uint64(from[:8]), borrow)
	return count{hi, lo}.plus(count{0, 1})
}

// plus adds and stays at the greatest count when the sum does not fit.
func (c count) plus(d count) count {
	lo, carry := bits.Add64(c.lo, d.lo, 0)
	hi, carry := bits.Add64(c.hi, d.hi, carry)
	if carry != 0 {
		return count{math.MaxUint64, math.MaxUint64}
	}
	return count{hi, lo}
}

// minus subtracts a number that is not negative and not greater than c.
func (c count) minus(n int64) count {
	lo, borrow := bits.Sub64(c.lo, uint64(n), 0)
	return count{c.hi - borrow, lo}
}

// compare orders counts.
func (c count) compare(d count) int { return cmp.Or(cmp.Compare(c.hi, d.hi), cmp.Compare(c.lo, d.lo)) }

// capped returns the count as an int64, at most math.MaxInt64.
func (c count) capped() int64 {
	if c.hi != 0 || c.lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(c.lo)
}

// Size counts the addresses of ranges that do not overlap, by family and
// capped at math.MaxInt64.
func Size(ranges []netipx.IPRange) (v4, v6 int64) {
	var four, six count
	for _, r := range ranges {
		if r.From().Is4() {
			four = four.plus(size(r))
		} else {
			six = six.plus(size(r))
		}
	}
	return four.capped(), six.capped()
}

// buggy reports whether an address is one that avoidBuggyIPs keeps back: IPv4,
// ending in .0 or .255.
func buggy(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	last := addr.As4()[3]
	return last == 0 || last == 255
}

// buggyIn counts the addresses of an IPv4 range that are buggy.
func buggyIn(r netipx.IPRange) int64 {
	below := func(n int64) int64 { // buggy addresses less than n
		return (n+255)/256 + n/256
	}
	from, to := r.From().As4(), r.To().As4()
	return below(int64(binary.BigEndian.Uint32(to[:]))+1) - below(int64(binary.BigEndian.Uint32(from[:])))
}
