package state

import (
	"maps"
	"slices"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/config"
)

// ObjectKey names a configuration object.
type ObjectKey struct {
	Kind string
	Name string
}

// SetConfig makes a configuration the one in force. It returns when it must
// be read again although no object changes; zero for never.
func (s *State) SetConfig(
	objects config.Objects, now time.Time,
) (recheck time.Time, problems []config.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.problems = config.Parse(objects, s.config, now)
	s.judged, s.nodeLabels = generations(objects), objects.NodeLabels
	s.forgetReasons()
	pools := make([]allocator.Pool, 0, len(s.config.Pools))
	for _, p := range s.config.Pools {
		pools = append(pools, p.Allocatable())
	}
	before := s.ofNodes
	s.ofNodes = s.config.Withheld()
	for addr := range before {
		s.withhold(addr)
	}
	for addr := range s.ofNodes {
		s.withhold(addr)
	}
	s.addresses.SetPools(pools)
	s.Configured.Set()
	return s.config.Recheck, s.problems
}

// Configuration returns the one in force, and the labels of the nodes. Neither is ever
// changed.
func (s *State) Configuration() (*config.Config, map[string]map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.config
	return &c, s.nodeLabels
}

// generations returns those of all configuration objects.
func generations(o config.Objects) map[ObjectKey]int64 {
	out := map[ObjectKey]int64{}
	for _, p := range o.Pools {
		out[ObjectKey{config.KindIPAddressPool, p.Name}] = p.Generation
	}
	for _, a := range o.L2Advertisements {
		out[ObjectKey{config.KindL2Advertisement, a.Name}] = a.Generation
	}
	for _, p := range o.BGPPeers {
		out[ObjectKey{config.KindBGPPeer, p.Name}] = p.Generation
	}
	for _, a := range o.BGPAdvertisements {
		out[ObjectKey{config.KindBGPAdvertisement, a.Name}] = a.Generation
	}
	for _, p := range o.BFDProfiles {
		out[ObjectKey{config.KindBFDProfile, p.Name}] = p.Generation
	}
	for _, c := range o.Communities {
		out[ObjectKey{config.KindCommunity, c.Name}] = c.Generation
	}
	return out
}

// Objects returns the keys of all configuration objects that were read last.
func (s *State) Objects() []ObjectKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.judged))
}

// InForce is the message of an object of which nothing is wrong.
const InForce = "In force as written."

// ProblemOf returns what is wrong with an object, or that nothing is, and the
// generation of the object that this is said of.
func (s *State) ProblemOf(key ObjectKey) (p config.Problem, generation int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problemOf(key)
}

// problemOf is ProblemOf. The caller holds the lock.
func (s *State) problemOf(key ObjectKey) (p config.Problem, generation int64) {
	for _, p := range s.problems {
		if p.Kind == key.Kind && p.Name == key.Name {
			return p, s.judged[key]
		}
	}
	accepted := config.Problem{
		Kind:    key.Kind,
		Name:    key.Name,
		Reason:  v1beta1.ReasonAccepted,
		Message: InForce,
	}
	return accepted, s.judged[key]
}

// HasRead reports whether the configuration in force is made from a version of the
// object. Before, there is nothing to say of it.
func (s *State) HasRead(key ObjectKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.judged[key]
	return known
}
