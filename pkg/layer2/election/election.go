package election

import (
	"cmp"
	"net/netip"
	"slices"
)

// Candidate is a node that could own an address. That it may (alive, selected,
// not excluded, with a link that carries the address, with an endpoint) is
// decided before the election.
type Candidate struct {
	// Name is the node's name, the same on every node.
	Name string
	// Weight is the preference for the node; a higher one always wins, the hash
	// decides among equals only.
	Weight int64
}

// Elect returns the name of the candidate that owns addr, and false when there
// are no candidates. It is the first of [Rank].
func Elect(addr netip.Addr, candidates []Candidate) (owner string, ok bool) {
	if len(candidates) == 0 {
		return "", false
	}
	s := newScorer(addr)
	best, bestScore := candidates[0], s.score(candidates[0].Name)
	for _, c := range candidates[1:] {
		if score := s.score(c.Name); compareCandidates(c, score, best, bestScore) < 0 {
			best, bestScore = c, score
		}
	}
	return best.Name, true
}

// Rank returns the candidates in the order in which they are to own addr: the
// owner first, then the node that takes over from it, and so on. The order is by
// weight, highest first, then by rendezvous hash, highest first, then by name;
// it does not depend on the order of the argument, which is not changed.
//
// Rendezvous hashing (Thaler and Ravishankar, 1998) gives each pair of node and
// address an independent score. So a node that goes takes with it only the
// addresses it owned, those spread evenly over the rest, and a node that comes
// draws an equal share from each.
//
// Every node computes this from the same inputs and must come to the same end,
// whatever its architecture and version of Berth: the score is part of the
// protocol between speakers and never changes. It is FNV-1a (64 bits) over the
// 16 bytes of the address (an IPv4 address in its IPv4-mapped form, RFC 4291
// 2.5.5.2; no zone) followed by the bytes of the name, mixed by the finaliser of
// MurmurHash3, which spreads the last bytes over the whole word as FNV does not.
func Rank(addr netip.Addr, candidates []Candidate) []Candidate {
	return rank(newScorer(addr), candidates)
}

// RankFor is [Rank] for something that has a name instead of an address; the
// score begins with the bytes of the name and a zero byte.
func RankFor(name string, candidates []Candidate) []Candidate {
	return rank(scorer(fnvOffset).add(name).add("\x00"), candidates)
}

// FirstFor returns the first names of [RankFor], at most so many, for candidates
// without weights. It costs less than to rank them all.
func FirstFor(name string, candidates []string, most int) []string {
	s := scorer(fnvOffset).add(name).add("\x00")
	first := make([]string, 0, most+1)
	scores := make([]uint64, 0, most+1)
	for _, candidate := range candidates {
		score := s.score(candidate)
		at := len(first)
		for at > 0 && cmp.Or(cmp.Compare(scores[at-1], score), cmp.Compare(candidate, first[at-1])) < 0 {
			at--
		}
		if at < most {
			first, scores = slices.Insert(first, at, candidate), slices.Insert(scores, at, score)
			first, scores = first[:min(len(first), most)], scores[:min(len(scores), most)]
		}
	}
	return first
}

func rank(s scorer, candidates []Candidate) []Candidate {
	type scored struct {
		Candidate
		score uint64
	}
	all := make([]scored, len(candidates))
	for i, c := range candidates {
		all[i] = scored{c, s.score(c.Name)}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return compareCandidates(a.Candidate, a.score, b.Candidate, b.score)
	})
	out := make([]Candidate, len(all))
	for i, c := range all {
		out[i] = c.Candidate
	}
	return out
}

// compareCandidates is negative when a comes before b.
func compareCandidates(a Candidate, aScore uint64, b Candidate, bScore uint64) int {
	return cmp.Or(
		cmp.Compare(b.Weight, a.Weight),
		cmp.Compare(bScore, aScore),
		cmp.Compare(a.Name, b.Name),
	)
}

// The parameters of FNV-1a with 64 bits.
const (
	fnvOffset uint64 = 14695981039346656037
	fnvPrime  uint64 = 1099511628211
)

// scorer is FNV-1a after the bytes that come before the name.
type scorer uint64

func newScorer(addr netip.Addr) scorer {
	h := fnvOffset
	for _, b := range addr.As16() {
		h = (h ^ uint64(b)) * fnvPrime
	}
	return scorer(h)
}

// add is the scorer after the bytes of a text.
func (s scorer) add(text string) scorer {
	h := uint64(s)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return scorer(h)
}

func (s scorer) score(name string) uint64 {
	h := uint64(s.add(name))
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h
}
