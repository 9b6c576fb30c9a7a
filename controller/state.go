package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// state is what the controller remembers: who holds which address, what the
// configuration is, who waits. A decision is taken and recorded under its
// lock; no call to the API server is made under it.
type state struct {
	// loops are the main loops of the process. Writes to the API server may wait
	// for long; decisions may not.
	loops kube.Loops

	mu        sync.Mutex
	addresses *allocator.Allocator
	config    config.Config
	problems  []config.Problem
	judged    map[objectKey]int64 // generation of each object that config is of
	// nodeLabels are the labels of each node when config was read. The map is
	// replaced, never changed.
	nodeLabels map[string]map[string]string
	waiters    *waiters
	// ofNodes are the addresses in pools that are not given out because of nodes,
	// external those that Services name in spec.externalIPs.
	ofNodes  map[netip.Addr]allocator.Withholding
	external assignment.ExternalIPs

	// left are Services that Berth's condition was found on although they are not
	// of type LoadBalancer.
	left map[types.NamespacedName]bool
	// seen is when a Service without an address was seen first.
	seen map[types.NamespacedName]time.Time
	// written is the resource version of the Service that the last status
	// write was based on. While the cache still shows that version, it does
	// not show the write.
	written map[types.NamespacedName]string

	// synced is closed when the caches are filled and the Services are read that
	// may name addresses in spec.externalIPs, leads when this replica leads.
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
		waiters:    newWaiters(),
		left:       map[types.NamespacedName]bool{},
		seen:       map[types.NamespacedName]time.Time{},
		written:    map[types.NamespacedName]string{},
		synced:     make(chan struct{}),
		leads:      make(chan struct{}),
		adopted:    make(chan struct{}),
		configured: make(chan struct{}),
	}
}

// setConfig makes a configuration the one in force. It returns when it must
// be read again although no object changes; zero for never.
func (s *state) setConfig(objects config.Objects, now time.Time) (recheck time.Time, problems []config.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.problems = config.Parse(objects, s.config, now)
	s.judged, s.nodeLabels = generations(objects), objects.NodeLabels
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
	if !isClosed(s.configured) {
		close(s.configured)
	}
	return s.config.Recheck, s.problems
}

// withhold has an address given out or not, as nodes and Services say. The caller
// holds the lock.
func (s *state) withhold(addr netip.Addr) {
	node, isOfNode := s.ofNodes[addr]
	if w, ok := assignment.Withholding(node, isOfNode, &s.external, addr); ok {
		s.addresses.Withhold(addr, w)
		return
	}
	s.addresses.Permit(addr)
}

// names notes which addresses a Service names in spec.externalIPs. Who has one of
// them is to be told, and who waits for one may have it now.
func (s *state) names(key types.NamespacedName, source string, addrs []netip.Addr) effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	var e effect
	const all = 1 << 62
	namer := assignment.Namer{Service: allocator.Holder(key.String()), Source: source}
	for _, addr := range s.external.Set(namer, addrs) {
		s.withhold(addr)
		for _, holder := range s.addresses.Holders(addr) {
			namespace, name, _ := strings.Cut(string(holder), "/")
			e.Wake = append(e.Wake, types.NamespacedName{Namespace: namespace, Name: name})
		}
		e.Wake = append(e.Wake, s.waiters.oldest(cause{address: addr}, all)...)
		if pool, ok := s.addresses.PoolOf(addr); ok {
			e.Wake = append(e.Wake, s.ready(pool)...)
			e.Pools = append(e.Pools, pool)
		}
	}
	return e
}

// configuration is the one in force, and the labels of the nodes. Neither is ever
// changed.
func (s *state) configuration() (*config.Config, map[string]map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.config
	return &c, s.nodeLabels
}

// passBy returns when the lock is free: decisions are taken.
func (s *state) passBy(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock() //nolint:gocritic // to have had it is all
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

// outcome is a decision that was recorded, and whom it concerns.
type outcome struct {
	assignment.Decision
	// Stale is set when there is no decision, because the cache does not show
	// the last write to the Service yet.
	Stale bool
	effect
}

// effect is what a change of holdings brings about.
type effect struct {
	Wake  []types.NamespacedName // who may have an address now
	Pools []string               // whose counts have changed
}

// decide takes the decision for a Service and records it.
func (s *state) decide(service *corev1.Service, nsLabels labels.Set, now time.Time) (outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.ObjectKeyFromObject(service)
	if s.written[key] == service.ResourceVersion {
		return outcome{Stale: true}, nil
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
		Now:       now,
	})
	waited := s.waiters.causesOf(key)
	if decision.Assigned() {
		s.waiters.remove(key)
	} else {
		s.waiters.set(key, service.CreationTimestamp.Time, causesOf(parsed, decision))
	}
	if _, known := s.seen[key]; !known && !held && len(parsed.Status) == 0 {
		s.seen[key] = now
	}
	pools := s.poolsOf(before.Addresses)
	record := decision.Addresses
	if decision.Reason == v1beta1.ReasonForeignAddress {
		// Another load balancer may give one address to many Services.
		record, _ = s.undisputed(record, parsed.Holder, parsed.Terms)
	}
	if err := s.addresses.Assign(parsed.Holder, record, parsed.Terms, now); err != nil {
		return outcome{}, fmt.Errorf("record the decision for %s: %w", parsed.Holder, err)
	}
	after, _ := s.addresses.Held(parsed.Holder)
	e := s.effect(before, after, pools)
	// What this Service was woken for and has not taken is for the next.
	for _, c := range waited {
		if c.family != "" && !slices.Contains(s.waiters.causesOf(key), c) {
			e.Wake = append(e.Wake, s.ready(c.pool)...)
		}
	}
	return outcome{Decision: decision, effect: e}, nil
}

// release gives back what a Service holds, and forgets it.
func (s *state) release(key types.NamespacedName, now time.Time) ([]netip.Addr, effect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	holder := allocator.Holder(key.String())
	before, _ := s.addresses.Held(holder)
	pools := s.poolsOf(before.Addresses)
	freed := s.addresses.Release(holder, now)
	s.waiters.remove(key)
	delete(s.written, key)
	delete(s.seen, key)
	delete(s.left, key)
	return freed, s.effect(before, allocator.Holding{}, pools)
}

// poolsOf names the pool of each address, "" for none. The caller holds the
// lock.
func (s *state) poolsOf(addrs []netip.Addr) []string {
	var out []string
	for _, addr := range addrs {
		pool, _ := s.addresses.PoolOf(addr)
		out = append(out, pool)
	}
	return out
}

// effect is what a change of one Service's holding brings about; pools are
// those of the addresses before. The caller holds the lock.
func (s *state) effect(before, after allocator.Holding, pools []string) effect {
	var e effect
	termsChanged := !reflect.DeepEqual(before.Terms, after.Terms)
	for i, addr := range before.Addresses {
		gone := !slices.Contains(after.Addresses, addr)
		if gone {
			e.Pools = append(e.Pools, pools[i])
			e.Wake = append(e.Wake, s.ready(pools[i])...)
			e.Wake = append(e.Wake, s.waiters.oldest(cause{pool: pools[i], group: before.Terms.Group}, 1)...)
		}
		if gone || termsChanged {
			const all = 1 << 62
			e.Wake = append(e.Wake, s.waiters.oldest(cause{address: addr}, all)...)
			if before.Terms.SharingKey != "" {
				e.Wake = append(e.Wake, s.waiters.oldest(cause{sharing: before.Terms.SharingKey}, all)...)
			}
		}
	}
	for _, addr := range after.Addresses {
		if slices.Contains(before.Addresses, addr) {
			continue
		}
		pool, ok := s.addresses.PoolOf(addr)
		if !ok { // it must not be taken for one that a pool keeps
			e.Pools = append(e.Pools, s.addresses.Keeping()...)
			continue
		}
		e.Pools = append(e.Pools, pool)
	}
	return e
}

// ready are the oldest Services that wait for addresses of a pool, as many as
// it has. The caller holds the lock.
func (s *state) ready(pool string) []types.NamespacedName {
	c := s.addresses.Counts(pool, time.Now())
	return append(s.waiters.oldest(cause{pool: pool, family: assignment.IPv4}, c.Available4),
		s.waiters.oldest(cause{pool: pool, family: assignment.IPv6}, c.Available6)...)
}

// adopt records the addresses in a Service's status, except those that
// another Service holds; these it returns. Each stays with the pool that the
// Service's condition names, or else the status of a pool, as if the controller
// had seen all edits of that pool.
func (s *state) adopt(service *corev1.Service, now time.Time) []*allocator.ConflictError {
	s.mu.Lock()
	defer s.mu.Unlock()
	parsed, _ := assignment.ParseService(service, nil) // what is wrong with it is told when it is looked at
	free, conflicts := s.undisputed(assignment.Had(parsed, &s.config, s.addresses), parsed.Holder, parsed.Terms)
	from := map[netip.Addr]string{}
	for _, addr := range free {
		if from[addr] = parsed.From[addr]; from[addr] != "" || !parsed.Given {
			continue
		}
		if p := s.config.KeptBy(addr); p != nil {
			from[addr] = p.Name
		}
	}
	_ = s.addresses.Adopt(parsed.Holder, free, parsed.Terms, from, now) // each was checked
	return conflicts
}

// undisputed are the addresses that no other holder has a right to, and
// whose the others are. The caller holds the lock.
func (s *state) undisputed(addrs []netip.Addr, holder allocator.Holder, terms allocator.Terms) (free []netip.Addr, others []*allocator.ConflictError) {
	for _, addr := range addrs {
		var conflict *allocator.ConflictError
		if errors.As(s.addresses.Check(addr, holder, terms), &conflict) {
			others = append(others, conflict)
			continue
		}
		free = append(free, addr)
	}
	return free, others
}

// given is what Berth has given to a Service.
func (s *state) given(key types.NamespacedName) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, _ := s.addresses.Held(allocator.Holder(key.String()))
	if h.Terms.Group == assignment.InUse {
		return nil
	}
	return h.Addresses
}

// reserve records what another load balancer has given a Service, so that
// Berth does not give it to anybody. It returns false when there is nothing.
func (s *state) reserve(service *corev1.Service, now time.Time) bool {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	holder, terms := assignment.HolderOf(service), allocator.Terms{Group: assignment.InUse}
	h, _ := s.addresses.Held(holder)
	theirs := slices.DeleteFunc(assignment.StatusAddresses(service), func(addr netip.Addr) bool {
		return h.Terms.Group != assignment.InUse && slices.Contains(h.Addresses, addr) // Berth gave it, and has taken it back
	})
	free, _ := s.undisputed(theirs, holder, terms)
	if len(free) == 0 {
		return false // what it had is released, and those who wait are told
	}
	_ = s.addresses.Assign(holder, free, terms, now) // each was checked
	return true
}

// leave remembers Services that Berth is to leave.
func (s *state) leave(keys []types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		s.left[key] = true
	}
}

// knows tells whether a Service holds or waits for addresses, or is to be left.
func (s *state) knows(key types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, waits := s.waiters.services[key]
	_, holds := s.addresses.Held(allocator.Holder(key.String()))
	return waits || holds || s.left[key]
}

// waitingOldestFirst are the Services that wait for addresses, in the order
// of their creation.
func (s *state) waitingOldestFirst() []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiters.all()
}

// wrote remembers which version of a Service the write of its status was
// based on.
func (s *state) wrote(key types.NamespacedName, basedOn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written[key] = basedOn
}

// waited ends a Service's wait for its first address and tells how long it
// was; ok is false when it had one before.
func (s *state) waited(key types.NamespacedName, now time.Time) (wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.seen[key]
	delete(s.seen, key)
	return now.Sub(since), ok
}

// counts tells how full each pool is.
func (s *state) counts(now time.Time) map[string]poolCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]poolCounts{}
	for _, p := range s.config.Pools {
		out[p.Name] = s.countsLocked(p, now)
	}
	return out
}

// poolCounts is how full a pool is.
type poolCounts struct {
	allocator.Counts
	Excluded4, Excluded6 int64
	OfNodesTold          string       // addresses of it that nodes have, "" for none
	GivesOfNodes         bool         // it gives them out
	Outside              []netip.Addr // held, though no longer in the pool
	OutsideRanges        []netipx.IPRange
	OutsideTold          string    // some of them with their holders, "" for none
	Rested               time.Time // when the first resting address is free; zero for none
}

// countsLocked counts one pool. The caller holds the lock.
func (s *state) countsLocked(p *config.Pool, now time.Time) poolCounts {
	c := poolCounts{
		Counts:        s.addresses.Counts(p.Name, now),
		Outside:       s.addresses.Outside(p.Name),
		OutsideRanges: s.addresses.OutsideRanges(p.Name, v1beta1.MaxOutOfRange),
	}
	c.OutsideTold = s.holdersOf(c.Outside)
	c.Excluded4, c.Excluded6 = sum(p.Excluded4, c.KeptBack4), sum(p.Excluded6, c.KeptBack6)
	c.OfNodesTold, c.GivesOfNodes = s.config.TellNodes(p.OfNodes), p.AllowNodeAddresses
	if p.Closed { // what is free is for nobody
		c.Available4, c.Available6 = 0, 0
	}
	c.Rested, _ = s.addresses.Rested(p.Name)
	return c
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sum adds two counts that are not negative, capped at the greatest int64.
func sum(a, b int64) int64 {
	if s := a + b; s >= 0 {
		return s
	}
	return 1<<63 - 1
}
