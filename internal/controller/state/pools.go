package state

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// ready returns the oldest Services that wait for addresses of a pool, as many as
// it has. The caller holds the lock.
func (s *State) ready(pool string, now time.Time) []types.NamespacedName {
	c := s.addresses.Counts(pool, now)
	return append(s.waiters.oldest(waitKey{pool: pool, family: assignment.IPv4}, c.Available4),
		s.waiters.oldest(waitKey{pool: pool, family: assignment.IPv6}, c.Available6)...)
}

// Pool is what is known of a pool in force, all of one configuration.
type Pool struct {
	PoolCounts
	Ready      []types.NamespacedName // the oldest Services that may have its free addresses
	Problem    config.Problem         // what is wrong with it, or that nothing is
	Generation int64                  // the generation of the object that all this is said of
}

// Pool returns what is known of a pool; ok is false when no pool of that name is in force.
func (s *State) Pool(name string, now time.Time) (p Pool, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inForce := s.config.Pool(name)
	if inForce == nil {
		return Pool{}, false
	}
	p = Pool{PoolCounts: s.countsLocked(inForce, now), Ready: s.ready(name, now)}
	p.Problem, p.Generation = s.problemOf(ObjectKey{config.KindIPAddressPool, name})
	return p, true
}

// Counts returns how full each pool is.
func (s *State) Counts(now time.Time) map[string]PoolCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]PoolCounts{}
	for _, p := range s.config.Pools {
		out[p.Name] = s.countsLocked(p, now)
	}
	return out
}

// PoolCounts is how full a pool is.
type PoolCounts struct {
	allocator.Counts
	Excluded4, Excluded6 int64
	OfNodes              string       // addresses of it that nodes have, "" for none
	GivesOfNodes         bool         // it gives them out
	Outside              []netip.Addr // held, though no longer in the pool
	OutsideRanges        []netipx.IPRange
	OutsideHolders       string    // some of them with their holders, "" for none
	Rested               time.Time // when the first resting address is free; zero for none
}

// countsLocked counts one pool. The caller holds the lock.
func (s *State) countsLocked(p *config.Pool, now time.Time) PoolCounts {
	c := PoolCounts{
		Counts:        s.addresses.Counts(p.Name, now),
		Outside:       s.addresses.Outside(p.Name),
		OutsideRanges: s.addresses.OutsideRanges(p.Name, v1beta1.MaxOutOfRange),
	}
	c.OutsideHolders = s.holdersOf(c.Outside)
	c.Excluded4, c.Excluded6 = sum(p.Excluded4, c.KeptBack4), sum(p.Excluded6, c.KeptBack6)
	c.OfNodes, c.GivesOfNodes = s.config.TellNodes(p.OfNodes), p.AllowNodeAddresses
	if p.Closed { // what is free is for nobody
		c.Available4, c.Available6 = 0, 0
	}
	c.Rested, _ = s.addresses.Rested(p.Name)
	return c
}

// sum adds two counts that are not negative, capped at the greatest int64.
func sum(a, b int64) int64 {
	if s := a + b; s >= 0 {
		return s
	}
	return 1<<63 - 1
}

// mostOutOfRange is how many addresses that a pool no longer contains its condition
// names, with the Services that hold them.
const mostOutOfRange = 5

// holdersOf returns addresses and the Services that hold them, the first of many. The
// caller holds the lock.
func (s *State) holdersOf(addrs []netip.Addr) string {
	var out []string
	for i, addr := range addrs {
		if i == mostOutOfRange {
			out = append(out, fmt.Sprintf("and %d more", len(addrs)-i))
			break
		}
		text := addr.String()
		switch holders := s.addresses.Holders(addr); len(holders) {
		case 0:
		case 1:
			text += fmt.Sprintf(" (%s)", holders[0])
		default:
			text += fmt.Sprintf(" (%s and %d more)", holders[0], len(holders)-1)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
