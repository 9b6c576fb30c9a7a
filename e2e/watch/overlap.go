package watch

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// An Overlap is a time in which two places were stated for one address.
type Overlap struct {
	Addr netip.Addr
	// First was there before Second; either may have prevailed.
	First, Second MAC
	From, To      time.Time
}

// Length is how long both were stated.
func (o Overlap) Length() time.Duration { return o.To.Sub(o.From) }

// A session is a time in which one place was stated for an address, with no pause of more than quiet.
type session struct {
	mac      MAC
	from, to time.Time
}

// Overlaps finds all times in which two places were stated for one address, sorted by their beginning. A
// place whose claims pause for longer than quiet has stopped being stated with the last before the pause, so
// quiet must be some times longer than the interval in which the addresses are asked for. An overlap begins
// with the first word of the second. It ends with the last word of the first; or, when it is the second that
// falls silent, with the next word of the first, because so long a client may have believed the second.
func Overlaps(claims []Claim, quiet time.Duration) []Overlap {
	var out []Overlap
	grouped := byAddress(claims)
	for _, addr := range slices.SortedFunc(maps.Keys(grouped), netip.Addr.Compare) {
		mine := grouped[addr]
		sessions := sessionsOf(mine, quiet)
		for i, a := range sessions {
			for _, b := range sessions[i+1:] {
				if b.from.After(a.to) || a.mac == b.mac {
					continue
				}
				end := b.to
				if a.to.Before(b.to) {
					end = a.to
				} else {
					// b was silenced: a's next word.
					for _, c := range mine {
						if c.MAC == a.mac && c.At.After(b.to) {
							end = c.At
							break
						}
					}
				}
				out = append(out, Overlap{Addr: addr, First: a.mac, Second: b.mac, From: b.from, To: end})
			}
		}
	}
	slices.SortStableFunc(out, func(x, y Overlap) int { return x.From.Compare(y.From) })
	return out
}

// sessionsOf returns the sessions of all places that were stated for one address, sorted by their beginning.
func sessionsOf(claims []Claim, quiet time.Duration) []session {
	var all []session
	open := map[MAC]int{}
	for _, c := range claims {
		if i, known := open[c.MAC]; known && c.At.Sub(all[i].to) <= quiet {
			all[i].to = c.At
			continue
		}
		open[c.MAC] = len(all)
		all = append(all, session{c.MAC, c.At, c.At})
	}
	return all
}

// A Change is a claim that states another place than the one before it.
type Change struct {
	Addr     netip.Addr
	At       time.Time
	From, To MAC
}

// Changes lists all changes, sorted by time. While two places are stated for an address, each word of the
// other is one.
func Changes(claims []Claim) []Change {
	last := map[netip.Addr]MAC{}
	var out []Change
	for _, c := range byTime(claims) {
		if before, known := last[c.Addr]; known && before != c.MAC {
			out = append(out, Change{Addr: c.Addr, At: c.At, From: before, To: c.MAC})
		}
		last[c.Addr] = c.MAC
	}
	return out
}

// Owners returns the places last stated after since.
func Owners(claims []Claim, since time.Time) map[netip.Addr]MAC {
	out := map[netip.Addr]MAC{}
	for _, c := range byTime(claims) {
		if c.At.After(since) {
			out[c.Addr] = c.MAC
		}
	}
	return out
}

func byTime(claims []Claim) []Claim {
	if slices.IsSortedFunc(claims, compareTime) {
		return claims
	}
	return slices.SortedStableFunc(slices.Values(claims), compareTime)
}

func compareTime(a, b Claim) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) }

// byAddress groups claims, each group sorted by time.
func byAddress(claims []Claim) map[netip.Addr][]Claim {
	out := map[netip.Addr][]Claim{}
	for _, c := range byTime(claims) {
		out[c.Addr] = append(out[c.Addr], c)
	}
	return out
}
