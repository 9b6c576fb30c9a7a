// Package assignment is the controller's decision for one Service: which
// addresses it has, and why. It is pure: no clock, client, log or lock.
//
// The rules, in their order:
//
//  1. A Service keeps every address it has as long as that address is still
//     right: of a family it asks for, in a pool, what it requests if it
//     requests anything, and not in conflict with another Service.
//  2. For a family without an address: the requested address; else the
//     lowest address of the requested pool; else of the pools that select
//     the Service by serviceAllocation, by priority and then by name; else
//     of the pools with autoAssign and without serviceAllocation, by name.
//  3. A RequireDualStack Service gets both families or nothing new.
package assignment

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/config"
)

// Addresses is what Decide asks of the record of addresses. It reads only.
// *allocator.Allocator is one.
type Addresses interface {
	// PoolOf names the pool that contains an address.
	PoolOf(netip.Addr) (string, bool)
	// Has tells whether a pool has any address of a family.
	Has(pool string, is6 bool) bool
	// Lowest is the lowest free address of a pool's family.
	Lowest(pool string, is6 bool) (netip.Addr, bool)
	// Shareable is the lowest held address of a pool's family that holder may
	// join on the given terms.
	Shareable(pool string, is6 bool, holder allocator.Holder, terms allocator.Terms) (netip.Addr, bool)
	// Check tells whether holder may have an address on the given terms:
	// nil, allocator.ErrNotInPool or *allocator.ConflictError.
	Check(addr netip.Addr, holder allocator.Holder, terms allocator.Terms) error
}

// Input is everything that Decide looks at.
type Input struct {
	Service Service
	// Invalid is what ParseService found wrong with the Service, or nil.
	Invalid error
	// Held is what the Service holds by the controller's own record, which
	// may be ahead of the Service's status; nil when there is no record, and
	// the status counts.
	Held      []netip.Addr
	Config    *config.Config
	Addresses Addresses
}

// Decision is the outcome for one Service.
type Decision struct {
	// Addresses that the Service shall have, in the order of its families.
	Addresses []netip.Addr
	// Reason is ReasonAssigned when the Service has all it asks for.
	Reason v1beta1.Reason
	// Message is for the Service's condition: pool and addresses, or why
	// not, pool by pool.
	Message string
	// Rejections are the pools that were passed over for the first family
	// without an address, in the order of the rules.
	Rejections []Rejection
}

// Rejection says why one pool does not give a Service an address.
type Rejection struct {
	Pool    string
	Family  Family
	Reason  v1beta1.Reason
	Message string
}

// Assigned tells whether the Service has all it asks for.
func (d Decision) Assigned() bool { return d.Reason == v1beta1.ReasonAssigned }

// Decide says which addresses a Service shall have.
func Decide(in Input) Decision {
	has := in.Held
	if has == nil {
		has = in.Service.Status
	}
	if foreign(in) {
		return Decision{Addresses: in.Service.Status, Reason: v1beta1.ReasonForeignAddress, Message: fmt.Sprintf(
			"The Service has %v, which no pool contains and Berth did not give: it is left alone. "+
				"Add the address to an IPAddressPool, or take it out of the Service's status.", in.Service.Status)}
	}
	if in.Invalid != nil {
		return Decision{Addresses: keepHeld(in, has), Reason: v1beta1.ReasonInvalidRequest, Message: sentence(in.Invalid.Error())}
	}
	if len(in.Service.Families) == 0 {
		return Decision{Reason: v1beta1.ReasonNoClusterIP,
			Message: "The Service has no cluster IP, so it is not known which address families it needs."}
	}
	var d Decision
	kept := keepRight(in, has)
	for _, family := range in.Service.Families {
		if i := slices.IndexFunc(kept, func(a netip.Addr) bool { return FamilyOf(a) == family }); i >= 0 {
			d.Addresses = append(d.Addresses, kept[i])
			continue
		}
		addr, refusal := pick(in, family)
		if addr.IsValid() {
			d.Addresses = append(d.Addresses, addr)
			continue
		}
		if d.Reason == "" {
			d.Reason, d.Message, d.Rejections = refusal.Reason, refusal.Message, refusal.Rejections
		}
	}
	return conclude(in, d, kept)
}

// foreign tells whether what the Service has was given by somebody else, such
// as another load balancer that Berth is to replace. Berth must not take away
// what it did not give.
func foreign(in Input) bool {
	if in.Service.Given || len(in.Service.Status) == 0 {
		return false
	}
	return !slices.ContainsFunc(in.Service.Status, func(addr netip.Addr) bool {
		_, ours := in.Addresses.PoolOf(addr)
		return ours
	})
}

// conclude turns what was found for each family into the outcome.
func conclude(in Input, d Decision, kept []netip.Addr) Decision {
	switch {
	case d.Reason == "":
		d.Reason = v1beta1.ReasonAssigned
		d.Message = describe(in, d.Addresses)
	case len(d.Addresses) > 0 && in.Service.Optional:
		d.Reason = v1beta1.ReasonPartlyAssigned
		d.Message = describe(in, d.Addresses) + " The other family is missing: " + d.Message
	case len(d.Addresses) > 0 && len(in.Service.Families) > 1:
		// RequireDualStack: half of what is asked for is of no use, but what
		// the Service had is not taken from it.
		d.Addresses = kept
	}
	return d
}

// keepHeld are the addresses a Service with an unreadable request goes on
// having: all that it may have, whatever it requests.
func keepHeld(in Input, has []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, addr := range has {
		if mayHave(in, addr) {
			kept = append(kept, addr)
		}
	}
	return kept
}

// mayHave tells whether the Service may go on having an address: a pool
// contains it, and nobody else has a right to it.
func mayHave(in Input, addr netip.Addr) bool {
	return in.Addresses.Check(addr, in.Service.Holder, in.Service.Terms) == nil
}

// keepRight are the addresses that the Service has and that are still right,
// at most one of a family.
func keepRight(in Input, has []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, addr := range has {
		family := FamilyOf(addr)
		same := func(a netip.Addr) bool { return FamilyOf(a) == family }
		if slices.Contains(in.Service.Families, family) && !slices.ContainsFunc(kept, same) && stillRight(in, addr) {
			kept = append(kept, addr)
		}
	}
	return kept
}

func stillRight(in Input, addr netip.Addr) bool {
	s := in.Service
	if requested, ok := requestedOf(s, FamilyOf(addr)); ok && requested != addr {
		return false
	}
	pool, inPool := in.Addresses.PoolOf(addr)
	if inPool && s.RequestedPool != "" && s.RequestedPool != pool {
		return false
	}
	return mayHave(in, addr)
}

// requestedOf is the address of a family that a Service asks for. Asking for
// an address of one family says nothing about the other.
func requestedOf(s Service, family Family) (netip.Addr, bool) {
	for _, addr := range s.RequestedAddresses {
		if FamilyOf(addr) == family {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// pick finds an address of a family that the Service does not have yet, or
// says why there is none.
func pick(in Input, family Family) (netip.Addr, Decision) {
	s := in.Service
	if requested, ok := requestedOf(s, family); ok {
		return pickRequested(in, requested)
	}
	if s.RequestedPool != "" && in.Config.Pool(s.RequestedPool) == nil {
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonPoolNotFoundForService, Message: fmt.Sprintf(
			"The Service asks for pool %s, which does not exist. Create it, or change the annotation %s.",
			s.RequestedPool, v1beta1.AnnotationAddressPool)}
	}
	if len(in.Config.Pools) == 0 {
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonNoPools,
			Message: "There is no usable IPAddressPool. Create one, or look at the conditions of those there are."}
	}
	var rejections []Rejection
	reject := func(p *config.Pool, reason v1beta1.Reason, message string) {
		rejections = append(rejections, Rejection{Pool: p.Name, Family: family, Reason: reason, Message: message})
	}
	for _, p := range inOrder(in.Config.Pools) {
		if reason, message := eligible(p, s); reason != "" {
			reject(p, reason, message)
			continue
		}
		if !in.Addresses.Has(p.Name, family.Is6()) {
			reject(p, v1beta1.ReasonFamilyMissing, fmt.Sprintf("has no %s addresses", family))
			continue
		}
		if addr, ok := in.Addresses.Shareable(p.Name, family.Is6(), s.Holder, s.Terms); ok {
			return addr, Decision{}
		}
		if addr, ok := in.Addresses.Lowest(p.Name, family.Is6()); ok {
			return addr, Decision{}
		}
		reject(p, v1beta1.ReasonPoolFull, fmt.Sprintf("every %s address is held", family))
	}
	return netip.Addr{}, refuse(family, rejections)
}

func pickRequested(in Input, addr netip.Addr) (netip.Addr, Decision) {
	s := in.Service
	pool, ok := in.Addresses.PoolOf(addr)
	switch {
	case !ok:
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonAddressNotInPool, Message: fmt.Sprintf(
			"The Service asks for %s, which no pool contains. Add it to an IPAddressPool, or ask for another.", addr)}
	case s.RequestedPool != "" && s.RequestedPool != pool:
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonAddressNotInPool, Message: fmt.Sprintf(
			"The Service asks for %s and for pool %s, but the address is in pool %s.", addr, s.RequestedPool, pool)}
	}
	if reason, message := permitted(in.Config.Pool(pool), s); reason != "" {
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonNoEligiblePool, Message: fmt.Sprintf(
			"The Service asks for %s of pool %s, which may not serve it: %s.", addr, pool, message)}
	}
	var conflict *allocator.ConflictError
	if err := in.Addresses.Check(addr, s.Holder, s.Terms); errors.As(err, &conflict) {
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonAddressInUse, Message: fmt.Sprintf(
			"The Service asks for %s, which Service %s holds: %s.", addr, conflict.Holder, conflict.Why)}
	}
	return addr, Decision{}
}

// inOrder are the pools in the order in which they are tried: those pinned
// to Services first, by priority, where 0 comes last; then by name.
func inOrder(pools []*config.Pool) []*config.Pool {
	rank := func(p *config.Pool) int64 {
		switch {
		case p.Allocation == nil:
			return math.MaxInt64
		case p.Allocation.Priority == 0:
			return math.MaxInt64 - 1
		}
		return int64(p.Allocation.Priority)
	}
	return slices.SortedFunc(slices.Values(pools), func(a, b *config.Pool) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
}

// eligible says why a pool is not to be tried for a Service, or "".
func eligible(p *config.Pool, s Service) (v1beta1.Reason, string) {
	if s.RequestedPool != "" && s.RequestedPool != p.Name {
		return v1beta1.ReasonNotRequested, fmt.Sprintf("the Service asks for pool %s", s.RequestedPool)
	}
	if s.RequestedPool == "" && !p.AutoAssign {
		return v1beta1.ReasonAutoAssignFalse, "autoAssign is false and the Service does not ask for this pool"
	}
	return permitted(p, s)
}

// permitted says why a pool may not serve a Service at all, or "".
func permitted(p *config.Pool, s Service) (v1beta1.Reason, string) {
	switch a := p.Allocation; {
	case p.Closed:
		return v1beta1.ReasonPoolInvalid, "it cannot be read whom the pool is for; see its Ready condition"
	case a == nil:
		return "", ""
	case !a.SelectsNamespace(s.Namespace, s.NamespaceLabels):
		return v1beta1.ReasonNamespaceNotSelected, fmt.Sprintf("serviceAllocation does not select namespace %s", s.Namespace)
	case !a.SelectsService(s.Labels):
		return v1beta1.ReasonServiceNotSelected, "serviceAllocation does not select the Service's labels"
	}
	return "", ""
}

// refuse sums up why no pool gives an address.
func refuse(family Family, rejections []Rejection) Decision {
	d := Decision{Reason: v1beta1.ReasonNoEligiblePool, Rejections: rejections}
	var told []string
	for _, r := range rejections {
		if r.Reason == v1beta1.ReasonPoolFull {
			d.Reason = v1beta1.ReasonPoolsExhausted
		}
		if len(told) == maxTold {
			told = append(told, fmt.Sprintf("and %d more pools", len(rejections)-maxTold))
		}
		if len(told) < maxTold {
			told = append(told, fmt.Sprintf("pool %s: %s (%s)", r.Pool, r.Message, r.Reason))
		}
	}
	d.Message = fmt.Sprintf("No pool gives an %s address: %s.", family, strings.Join(told, "; "))
	return d
}

// maxTold is how many pools a condition's message names: enough for a person,
// and well within the 32,768 characters that Kubernetes allows.
const maxTold = 20

// describe says which addresses come from which pools.
func describe(in Input, addrs []netip.Addr) string {
	var parts []string
	for _, addr := range addrs {
		pool, _ := in.Addresses.PoolOf(addr)
		parts = append(parts, fmt.Sprintf("%s from pool %s", addr, pool))
	}
	return strings.Join(parts, ", ") + "."
}

// sentence makes an error's text a sentence for a condition.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
