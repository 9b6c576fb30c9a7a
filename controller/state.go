package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// state is what the controller remembers: who holds which address, what the
// configuration is, who waits. A decision is taken and recorded under its
// lock; no call to the API server is made under it.
type state struct {
	mu        sync.Mutex
	addresses *allocator.Allocator
	config    config.Config
	problems  []config.Problem
	judged    map[objectKey]int64 // generation of each object that config is of

	// waiting are the Services without all the addresses they ask for, with
	// the time of their creation.
	waiting map[types.NamespacedName]time.Time

	// written is the resource version of the Service that the last status
	// write was based on. While the cache still shows that version, it does
	// not show the write.
	written map[types.NamespacedName]string

	// synced is closed when the caches are filled, leads when this replica
	// leads.
	synced, leads chan struct{}
	// adopted is closed when the addresses found in Service statuses are
	// recorded. Nothing is assigned before.
	adopted chan struct{}
	// configured is closed when the configuration was read for the first
	// time.
	configured chan struct{}
}

func newState() *state {
	return &state{
		addresses:  allocator.New(),
		waiting:    map[types.NamespacedName]time.Time{},
		written:    map[types.NamespacedName]string{},
		synced:     make(chan struct{}),
		leads:      make(chan struct{}),
		adopted:    make(chan struct{}),
		configured: make(chan struct{}),
	}
}

// setConfig makes a configuration the one in force and returns its problems.
func (s *state) setConfig(objects config.Objects) (config.Config, []config.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.problems = config.Parse(objects, s.config)
	s.judged = map[objectKey]int64{}
	for _, p := range objects.Pools {
		s.judged[objectKey{config.KindIPAddressPool, p.Name}] = p.Generation
	}
	for _, a := range objects.L2Advertisements {
		s.judged[objectKey{config.KindL2Advertisement, a.Name}] = a.Generation
	}
	pools := make([]allocator.Pool, 0, len(s.config.Pools))
	for _, p := range s.config.Pools {
		pools = append(pools, allocator.Pool{Name: p.Name, Ranges: p.Ranges, AvoidBuggy: p.AvoidBuggyIPs})
	}
	s.addresses.SetPools(pools)
	if !isClosed(s.configured) {
		close(s.configured)
	}
	return s.config, s.problems
}

// missing says what this replica waits for before it is of use: one that
// stands by must be able to take over, one that leads must have adopted the
// addresses that Services have. "" when for nothing.
func (s *state) missing() string {
	switch {
	case !isClosed(s.synced):
		return "the caches of API objects are not filled yet"
	case isClosed(s.leads) && !isClosed(s.adopted):
		return "the addresses that Services have are not adopted yet"
	}
	return ""
}

// decide takes the decision for a Service and records it. It returns what the
// Service held before and holds now. The decision is nil when the cache does
// not show the last write to the Service yet.
func (s *state) decide(service *corev1.Service, nsLabels labels.Set) (before, after allocator.Holding, _ *assignment.Decision, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.ObjectKeyFromObject(service)
	if s.written[key] == service.ResourceVersion {
		return before, after, nil, nil
	}
	delete(s.written, key)
	parsed, invalid := assignment.ParseService(service, nsLabels)
	before, held := s.addresses.Held(parsed.Holder)
	if held && invalid != nil {
		parsed.Terms = before.Terms // what cannot be read changes nothing
	}
	decision := assignment.Decide(assignment.Input{
		Service:   parsed,
		Invalid:   invalid,
		Held:      before.Addresses,
		Config:    &s.config,
		Addresses: s.addresses,
	})
	if err := s.addresses.Assign(parsed.Holder, decision.Addresses, parsed.Terms); err != nil {
		return before, after, nil, fmt.Errorf("record the decision for %s: %w", parsed.Holder, err)
	}
	if decision.Assigned() {
		delete(s.waiting, key)
	} else {
		s.waiting[key] = service.CreationTimestamp.Time
	}
	after, _ = s.addresses.Held(parsed.Holder)
	return before, after, &decision, nil
}

// adopt records the addresses in a Service's status, except those that
// another Service holds; these it returns.
func (s *state) adopt(service *corev1.Service) []*allocator.ConflictError {
	s.mu.Lock()
	defer s.mu.Unlock()
	parsed, _ := assignment.ParseService(service, nil) // what is wrong with it is told when it is looked at
	var conflicts []*allocator.ConflictError
	var undisputed []netip.Addr
	for _, addr := range parsed.Status {
		var conflict *allocator.ConflictError
		if errors.As(s.addresses.Check(addr, parsed.Holder, parsed.Terms), &conflict) {
			conflicts = append(conflicts, conflict)
			continue
		}
		undisputed = append(undisputed, addr)
	}
	_ = s.addresses.Assign(parsed.Holder, undisputed, parsed.Terms) // each was checked
	return conflicts
}

// held is what a Service holds.
func (s *state) held(key types.NamespacedName) allocator.Holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, _ := s.addresses.Held(allocator.Holder(key.String()))
	return h
}

// knows tells whether a Service holds or waits for addresses.
func (s *state) knows(key types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, waits := s.waiting[key]
	_, holds := s.addresses.Held(allocator.Holder(key.String()))
	return waits || holds
}

// waitingOldestFirst are the Services that wait for addresses, in the order
// of their creation.
func (s *state) waitingOldestFirst() []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]types.NamespacedName, 0, len(s.waiting))
	for key := range s.waiting {
		out = append(out, key)
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int {
		return cmp.Or(s.waiting[a].Compare(s.waiting[b]), cmp.Compare(a.String(), b.String()))
	})
	return out
}

// counts tells how full each pool is.
func (s *state) counts() map[string]allocator.Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]allocator.Counts{}
	for _, name := range s.addresses.Pools() {
		out[name] = s.addresses.Counts(name)
	}
	return out
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
