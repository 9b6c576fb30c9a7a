// Package state is what the controller remembers: the configuration in force, who holds
// which address, who waits for what. A decision for a Service is taken and recorded
// here, under one lock.
package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// State is what the controller remembers: who holds which address, what the
// configuration is, who waits. A decision is taken and recorded under its
// lock; no call to the API server is made under it.
type State struct {
	mu        sync.Mutex
	addresses *allocator.Allocator
	config    config.Config
	problems  []config.Problem
	judged    map[ObjectKey]int64 // the generation of each object that config was made from
	// reasons are those of the Ready conditions of the objects in judged, as far as they
	// were evaluated, and counts how many objects have each.
	reasons map[ObjectKey]v1beta1.Reason
	counts  map[KindReason]int
	// outdated says of the kinds whose definition was read why it is outdated; "" if it is not.
	outdated map[string]string
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

	// Synced is set when the caches are filled and the Services are read that
	// may name addresses in spec.externalIPs, leads when this replica leads.
	Synced, Leads notify.Latch
	// Adopted is set when the addresses found in Service statuses are
	// recorded. Nothing is assigned before.
	Adopted notify.Latch
	// Configured is set when the configuration was read for the first
	// time.
	Configured notify.Latch
}

// New returns a State that remembers nothing and waits for everything.
func New() *State {
	return &State{
		addresses:  allocator.New(),
		waiters:    newWaiters(),
		left:       map[types.NamespacedName]bool{},
		seen:       map[types.NamespacedName]time.Time{},
		written:    map[types.NamespacedName]string{},
		reasons:    map[ObjectKey]v1beta1.Reason{},
		outdated:   map[string]string{},
		counts:     map[KindReason]int{},
		Synced:     notify.NewLatch(),
		Leads:      notify.NewLatch(),
		Adopted:    notify.NewLatch(),
		Configured: notify.NewLatch(),
	}
}

// withhold has an address given out or not, as nodes and Services say. The caller
// holds the lock.
func (s *State) withhold(addr netip.Addr) {
	node, isOfNode := s.ofNodes[addr]
	if w, ok := assignment.Withholding(node, isOfNode, &s.external, addr); ok {
		s.addresses.Withhold(addr, w)
		return
	}
	s.addresses.Permit(addr)
}

func keyOf(s *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}

// Sources of what Services name in spec.externalIPs.
const (
	SourceLoadBalancers = "" // those of type LoadBalancer
	SourceOthers        = "others"
)

// SetExternalIPs records which addresses a Service names in spec.externalIPs. A Service that
// has one of them is to be reconciled, and one that waits for one may have it now.
func (s *State) SetExternalIPs(
	key types.NamespacedName, source string, addrs []netip.Addr, now time.Time,
) Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	var e Effect
	const all = 1 << 62
	namer := assignment.Namer{Service: allocator.Holder(key.String()), Source: source}
	for _, addr := range s.external.Set(namer, addrs) {
		s.withhold(addr)
		for _, holder := range s.addresses.Holders(addr) {
			namespace, name, _ := strings.Cut(string(holder), "/")
			e.Wake = append(e.Wake, types.NamespacedName{Namespace: namespace, Name: name})
		}
		e.Wake = append(e.Wake, s.waiters.oldest(waitKey{address: addr}, all)...)
		if pool, ok := s.addresses.PoolOf(addr); ok {
			e.Wake = append(e.Wake, s.ready(pool, now)...)
			e.Pools = append(e.Pools, pool)
		}
	}
	return e
}

// PassBy returns when the lock is free: decisions are taken.
func (s *State) PassBy(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock() //nolint:gocritic // to have had it is all
}

// Missing says what this replica waits for before it is of use: one that
// stands by must be able to take over, one that leads must have adopted the
// addresses that Services have. "" when for nothing.
func (s *State) Missing() string {
	switch {
	case !s.Synced.IsSet():
		return "the caches of API objects are not filled yet"
	case s.Leads.IsSet() && !s.Adopted.IsSet():
		return "the addresses that Services have are not adopted yet"
	}
	return ""
}

// Outcome is a decision that was recorded, and whom it concerns.
type Outcome struct {
	assignment.Decision
	// Stale is set when there is no decision, because the cache does not show
	// the last write to the Service yet.
	Stale bool
	Effect
}

// Effect is what a change of holdings brings about.
type Effect struct {
	Wake  []types.NamespacedName // who may have an address now
	Pools []string               // whose counts have changed
}

// Decide takes the decision for a Service and records it.
func (s *State) Decide(service *corev1.Service, nsLabels labels.Set, now time.Time) (Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(service)
	if basedOn, wrote := s.written[key]; wrote && basedOn == service.ResourceVersion {
		return Outcome{Stale: true}, nil
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
	waited := s.waiters.keysOf(key)
	if decision.Assigned() {
		s.waiters.remove(key)
	} else {
		s.waiters.set(waiter{
			waiting: waiting{service.CreationTimestamp.Time, key},
			keys:    waitKeysOf(parsed, decision),
			reason:  decision.Reason,
		})
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
		return Outcome{}, fmt.Errorf("record the decision for %s: %w", parsed.Holder, err)
	}
	after, _ := s.addresses.Held(parsed.Holder)
	e := s.effect(before, after, pools, now)
	// What this Service was woken for and has not taken is for the next.
	for _, c := range waited {
		if c.family != "" && !slices.Contains(s.waiters.keysOf(key), c) {
			e.Wake = append(e.Wake, s.ready(c.pool, now)...)
		}
	}
	return Outcome{Decision: decision, Effect: e}, nil
}

// Release gives back what a Service holds, and forgets it.
func (s *State) Release(key types.NamespacedName, now time.Time) ([]netip.Addr, Effect) {
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
	return freed, s.effect(before, allocator.Holding{}, pools, now)
}

// poolsOf names the pool of each address, "" for none. The caller holds the
// lock.
func (s *State) poolsOf(addrs []netip.Addr) []string {
	var out []string
	for _, addr := range addrs {
		pool, _ := s.addresses.PoolOf(addr)
		out = append(out, pool)
	}
	return out
}

// effect returns what a change of one Service's holding brings about; pools are
// those of the addresses before. The caller holds the lock.
func (s *State) effect(before, after allocator.Holding, pools []string, now time.Time) Effect {
	var e Effect
	termsChanged := !reflect.DeepEqual(before.Terms, after.Terms)
	for i, addr := range before.Addresses {
		gone := !slices.Contains(after.Addresses, addr)
		if gone {
			e.Pools = append(e.Pools, pools[i])
			e.Wake = append(e.Wake, s.ready(pools[i], now)...)
			quota := waitKey{pool: pools[i], group: before.Terms.Group}
			e.Wake = append(e.Wake, s.waiters.oldest(quota, 1)...)
		}
		if gone || termsChanged {
			const all = 1 << 62
			e.Wake = append(e.Wake, s.waiters.oldest(waitKey{address: addr}, all)...)
			if before.Terms.SharingKey != "" {
				e.Wake = append(e.Wake, s.waiters.oldest(waitKey{sharing: before.Terms.SharingKey}, all)...)
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

// Adopt records the addresses in a Service's status, except those that
// another Service holds; these it returns. Each stays with the pool that the
// Service's condition names, or else the status of a pool, as if the controller
// had seen all edits of that pool.
func (s *State) Adopt(service *corev1.Service, now time.Time) []*allocator.ConflictError {
	s.mu.Lock()
	defer s.mu.Unlock()
	parsed, _ := assignment.ParseService(service,
		nil) // what is wrong with it is reported when it is reconciled
	free, conflicts := s.undisputed(assignment.Had(parsed, &s.config, s.addresses), parsed.Holder,
		parsed.Terms)
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

// Conflict is an address in the status of a Service that another one has a right to.
type Conflict struct {
	Service types.NamespacedName
	*allocator.ConflictError
}

// AdoptAll records what Services have and name as their API objects say it, before
// anything is assigned: what they name in spec.externalIPs, and the addresses in their
// statuses. What Berth gave counts before what others did, and the older Service before
// the younger. It returns the Services that Berth serves among those with addresses.
func (s *State) AdoptAll(
	services []corev1.Service, class string, now time.Time,
) (adopted []types.NamespacedName, conflicts []Conflict) {
	slices.SortFunc(services, func(a, b corev1.Service) int {
		ours, theirs := assignment.Serves(&a, class), assignment.Serves(&b, class)
		if ours != theirs {
			return map[bool]int{true: -1, false: 1}[ours]
		}
		return cmp.Or(
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name),
		)
	})
	for i := range services {
		o := &services[i]
		s.SetExternalIPs(keyOf(o), SourceLoadBalancers, assignment.ExternalIPsOf(o), now)
	}

	for i := range services {
		o := &services[i]
		key := keyOf(o)
		switch {
		case len(o.Status.LoadBalancer.Ingress) == 0:
		case assignment.Serves(o, class):
			for _, c := range s.Adopt(o, now) {
				conflicts = append(conflicts, Conflict{key, c})
			}
			adopted = append(adopted, key)
		default:
			s.Reserve(o, now)
		}
	}
	return adopted, conflicts
}

// undisputed returns the addresses that no other holder has a right to, and
// whose the others are. The caller holds the lock.
func (s *State) undisputed(
	addrs []netip.Addr, holder allocator.Holder, terms allocator.Terms,
) (free []netip.Addr, others []*allocator.ConflictError) {
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

// Given returns what Berth has given to a Service.
func (s *State) Given(key types.NamespacedName) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, _ := s.addresses.Held(allocator.Holder(key.String()))
	if h.Terms.Foreign {
		return nil
	}
	return h.Addresses
}

// Reserve records what another load balancer has given a Service, so that
// Berth does not give it to anybody. It returns false when there is nothing.
func (s *State) Reserve(service *corev1.Service, now time.Time) bool {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	holder, terms := assignment.HolderOf(service), allocator.Terms{Foreign: true}
	h, _ := s.addresses.Held(holder)
	theirs := slices.DeleteFunc(assignment.StatusAddresses(service), func(addr netip.Addr) bool {
		return !h.Terms.Foreign && slices.Contains(h.Addresses, addr) // Berth gave it, and has taken it back
	})
	free, _ := s.undisputed(theirs, holder, terms)
	if len(free) == 0 {
		return false // what it had is released, and those who wait are woken
	}
	_ = s.addresses.Assign(holder, free, terms, now) // each was checked
	return true
}

// SetLeft remembers whether Berth has still to leave a Service.
func (s *State) SetLeft(key types.NamespacedName, left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !left {
		delete(s.left, key)
		return
	}
	s.left[key] = true
}

// Left returns the Services that Berth has still to leave, sorted.
func (s *State) Left() []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.left), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// Knows reports whether a Service holds or waits for addresses, or is to be left.
func (s *State) Knows(key types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, waits := s.waiters.services[key]
	_, holds := s.addresses.Held(allocator.Holder(key.String()))
	return waits || holds || s.left[key]
}

// Waiting returns the Services that wait for addresses, in the order
// of their creation.
func (s *State) Waiting() []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiters.all()
}

// CountWaiting returns how many Services wait for addresses, by why they do. It has the
// reasons for which some have waited, too.
func (s *State) CountWaiting() map[v1beta1.Reason]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.waiters.reasons)
}

// Wrote remembers which version of a Service the write of its status was
// based on.
func (s *State) Wrote(key types.NamespacedName, basedOn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written[key] = basedOn
}

// EndWait ends a Service's wait for its first address and reports how long it
// was; ok is false when it had one before.
func (s *State) EndWait(key types.NamespacedName, now time.Time) (wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.seen[key]
	delete(s.seen, key)
	return now.Sub(since), ok
}
