// Package assignment is the controller's decision for one Service: which
// addresses it has, and why. It is pure: no clock, client, log or lock.
//
// The rules, in their order:
//
//  1. A Service keeps every address it has as long as that address is still
//     right: of a family it asks for, in a pool, what it requests if it
//     requests anything, and not in conflict with another Service.
//  2. For a family without an address: the requested address; else one of the
//     requested pool; else of the pools that select the Service by
//     serviceAllocation, by priority and then by name; else of the pools with
//     autoAssign and without serviceAllocation, by name. A dual-stack Service
//     takes both addresses from the first pool that has both, if one has:
//     they are then announced and filtered alike.
//  3. Of a pool: the lowest address that the Service may share, if it asks to
//     share; else the one it had before, if that rests; else the lowest that
//     is free and does not rest.
//  4. A RequireDualStack Service gets both families or nothing new.
package assignment

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/config"
)

// Addresses is what Decide asks of the record of addresses. It reads only.
// *allocator.Allocator is one, and tells what each method means.
type Addresses interface {
	PoolOf(netip.Addr) (string, bool)
	From(netip.Addr) string
	Has(pool string, is6 bool) bool
	Lowest(pool string, is6 bool, now time.Time) (netip.Addr, bool)
	Former(pool string, is6 bool, holder allocator.Holder, now time.Time) (netip.Addr, bool)
	Shareable(pool string, is6 bool, holder allocator.Holder, terms allocator.Terms) (netip.Addr, bool)
	FirstRested(pool string, is6 bool) (time.Time, bool)
	Used(pool, group string, holder allocator.Holder, has []netip.Addr) (used, quota int)
	Expelled(netip.Addr) bool
	Check(addr netip.Addr, holder allocator.Holder, terms allocator.Terms) error
	Holders(netip.Addr) []allocator.Holder
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
	Now       time.Time
	// Patient has addresses that no pool is known to have contained stay with
	// the Service: for a while after the controller started, when their pool
	// may be about to be created again.
	Patient bool
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
	// Wanted is the address whose holder is in the way, if it is only that.
	Wanted netip.Addr
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
		return tellKept(in, Decision{Addresses: keepHeld(in, has), Reason: v1beta1.ReasonInvalidRequest, Message: sentence(in.Invalid.Error())})
	}
	if len(in.Service.Families) == 0 {
		return Decision{Reason: v1beta1.ReasonNoClusterIP,
			Message: "The Service has no cluster IP, so it is not known which address families it needs."}
	}
	var d Decision
	kept := keepRight(in, has)
	c := choice{Input: in, has: kept, first: poolForAll(in, kept)}
	var missing Family // the first that there is no address of
	var then int       // how many addresses there were by then
	for _, family := range in.Service.Families {
		if i := slices.IndexFunc(kept, func(a netip.Addr) bool { return FamilyOf(a) == family }); i >= 0 {
			d.Addresses = append(d.Addresses, kept[i])
			continue
		}
		addr, refusal := c.pick(family)
		if addr.IsValid() {
			d.Addresses = append(d.Addresses, addr)
			c.has = append(slices.Clone(c.has), addr)
			continue
		}
		if d.Reason == "" {
			d.refused(refusal)
			missing, then = family, len(c.has)
		}
	}
	if missing != "" && len(c.has) > then {
		// What was found since counts too, as it will the next time.
		_, refusal := c.pick(missing)
		d.refused(refusal)
	}
	return conclude(in, tellGone(in, d, has), kept)
}

// refused takes over why there is no address of a family.
func (d *Decision) refused(why Decision) {
	d.Reason, d.Message, d.Rejections, d.Wanted = why.Reason, why.Message, why.Rejections, why.Wanted
}

// What the message of PoolGone says around the address; see Service.Lost.
const (
	lostBegins = "The pool that had "
	lostEnds   = " is gone or contains it no more."
)

// tellGone gives the reason PoolGone to a Service that has lost an address
// with its pool and gets no other of that family.
func tellGone(in Input, d Decision, has []netip.Addr) Decision {
	if d.Reason == "" || d.Reason == v1beta1.ReasonAddressInUse {
		return d
	}
	if in.Service.Lost.IsValid() {
		has = append(slices.Clone(has), in.Service.Lost)
	}
	for _, addr := range has {
		family := FamilyOf(addr)
		replaced := slices.ContainsFunc(d.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == family })
		if _, inPool := in.Addresses.PoolOf(addr); !inPool && !replaced && slices.Contains(in.Service.Families, family) {
			d.Reason = v1beta1.ReasonPoolGone
			d.Message = lostBegins + addr.String() + lostEnds + " " + d.Message
			break
		}
	}
	return d
}

// choice is the search for addresses of one Service.
type choice struct {
	Input
	has   []netip.Addr // found so far, or kept
	first string       // the pool to try before all others, if any
}

// poolForAll names the pool in which a dual-stack Service finds every family
// that it has no address of: that of the address it asks for or has, or the
// first pool in order that has all; "" where there is no such pool.
func poolForAll(in Input, kept []netip.Addr) string {
	s := in.Service
	if len(s.Families) < 2 || len(kept) == len(s.Families) {
		return ""
	}
	if len(s.RequestedAddresses) > 0 {
		pool, _ := in.Addresses.PoolOf(s.RequestedAddresses[0])
		return pool
	}
	if len(kept) > 0 {
		pool, _ := in.Addresses.PoolOf(kept[0])
		return pool
	}
	c := choice{Input: in}
	for _, p := range inOrder(in.Config.Pools) {
		all := !slices.ContainsFunc(s.Families, func(f Family) bool {
			_, no := c.fromPool(p, f)
			return no.Reason != ""
		})
		if all && c.quotaLeaves(p.Name) >= len(s.Families) {
			return p.Name
		}
	}
	return ""
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
		return tellKept(in, d)
	}
	return d
}

// keptBegins begins the message of a Service that has not all it asks for and
// keeps what it had; see Service.From.
const keptBegins = "The Service keeps "

// tellKept has the message begin with the addresses that a Service keeps: the
// condition always tells which pool an address is from, and so does a controller
// that reads nothing else.
func tellKept(in Input, d Decision) Decision {
	if len(d.Addresses) > 0 {
		d.Message = keptBegins + describe(in, d.Addresses) + " " + d.Message
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
	err := in.Addresses.Check(addr, in.Service.Holder, in.Service.Terms)
	return err == nil || in.Patient && errors.Is(err, allocator.ErrNotInPool) && !in.Addresses.Expelled(addr)
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
func (c choice) pick(family Family) (netip.Addr, Decision) {
	s := c.Service
	if requested, ok := requestedOf(s, family); ok {
		return c.pickRequested(requested)
	}
	if s.RequestedPool != "" && c.Config.Pool(s.RequestedPool) == nil {
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonPoolNotFoundForService, Message: fmt.Sprintf(
			"The Service asks for pool %s, which does not exist. Create it, or change the annotation %s.",
			s.RequestedPool, v1beta1.AnnotationAddressPool)}
	}
	told := func(p *config.Pool) bool { // of the deleted nobody else expects an address
		return p.Gone.IsZero() || p.Name == s.RequestedPool
	}
	if !slices.ContainsFunc(c.Config.Pools, told) {
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonNoPools,
			Message: "There is no usable IPAddressPool. Create one, or look at the conditions of those there are."}
	}
	if p := c.Config.Pool(c.first); p != nil {
		if addr, no := c.fromPool(p, family); no.Reason == "" {
			return addr, Decision{}
		}
	}
	var rejections []Rejection
	for _, p := range inOrder(c.Config.Pools) {
		addr, no := c.fromPool(p, family)
		if no.Reason == "" {
			return addr, Decision{}
		}
		if told(p) {
			rejections = append(rejections, no)
		}
	}
	return netip.Addr{}, refuse(family, rejections)
}

// fromPool finds an address of one pool, or says why it gives none: the
// Reason of the Rejection is then set.
func (c choice) fromPool(p *config.Pool, family Family) (netip.Addr, Rejection) {
	s, is6 := c.Service, family.Is6()
	reject := func(reason v1beta1.Reason, message string) (netip.Addr, Rejection) {
		return netip.Addr{}, Rejection{Pool: p.Name, Family: family, Reason: reason, Message: message}
	}
	if reason, message := eligible(p, s); reason != "" {
		return reject(reason, message)
	}
	if !c.Addresses.Has(p.Name, is6) {
		return reject(v1beta1.ReasonFamilyMissing, fmt.Sprintf("has no %s addresses", family))
	}
	shared, shares := c.Addresses.Shareable(p.Name, is6, s.Holder, s.Terms)
	if c.quotaLeaves(p.Name) < 1 && !shares {
		_, quota := c.Addresses.Used(p.Name, s.Terms.Group, s.Holder, nil)
		return reject(v1beta1.ReasonQuotaReached, fmt.Sprintf("namespace %s holds as many addresses as it may, %d", s.Namespace, quota))
	}
	if shares {
		return shared, Rejection{}
	}
	if addr, ok := c.Addresses.Former(p.Name, is6, s.Holder, c.Now); ok {
		return addr, Rejection{}
	}
	if addr, ok := c.Addresses.Lowest(p.Name, is6, c.Now); ok {
		return addr, Rejection{}
	}
	if until, rests := c.Addresses.FirstRested(p.Name, is6); rests {
		return reject(v1beta1.ReasonResting, fmt.Sprintf("every %s address is held or rests, the first until %s",
			family, until.UTC().Format(time.RFC3339)))
	}
	return reject(v1beta1.ReasonPoolFull, fmt.Sprintf("every %s address is held", family))
}

// quotaLeaves is how many more addresses of a pool the Service's namespace
// may hold.
func (c choice) quotaLeaves(pool string) int {
	used, quota := c.Addresses.Used(pool, c.Service.Terms.Group, c.Service.Holder, c.has)
	if quota == 0 {
		return math.MaxInt
	}
	return quota - used
}

func (c choice) pickRequested(addr netip.Addr) (netip.Addr, Decision) {
	s := c.Service
	pool, ok := c.Addresses.PoolOf(addr)
	// One that a pool keeps although it contains it no more is only for those
	// who have it.
	ok = ok && c.Config.Pool(pool).Contains(addr)
	refuse := func(reason v1beta1.Reason, format string, args ...any) (netip.Addr, Decision) {
		return netip.Addr{}, Decision{Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	if why := c.Config.Withheld(addr); !ok && why != "" {
		return refuse(v1beta1.ReasonAddressNotInPool, "The Service asks for %s, which is not given out: %s. Ask for another.", addr, why)
	}
	switch {
	case !ok:
		return refuse(v1beta1.ReasonAddressNotInPool,
			"The Service asks for %s, which no pool contains. Add it to an IPAddressPool, or ask for another.", addr)
	case s.RequestedPool != "" && s.RequestedPool != pool:
		return refuse(v1beta1.ReasonAddressNotInPool,
			"The Service asks for %s and for pool %s, but the address is in pool %s.", addr, s.RequestedPool, pool)
	}
	if reason, message := permitted(c.Config.Pool(pool), s); reason != "" {
		return refuse(v1beta1.ReasonNoEligiblePool, "The Service asks for %s of pool %s, which may not serve it: %s.", addr, pool, message)
	}
	var conflict *allocator.ConflictError
	if err := c.Addresses.Check(addr, s.Holder, s.Terms); errors.As(err, &conflict) {
		none, d := refuse(v1beta1.ReasonAddressInUse, "The Service asks for %s, which Service %s holds: %s.", addr, conflict.Holder, conflict.Why)
		d.Wanted = addr
		return none, d
	}
	if len(c.Addresses.Holders(addr)) == 0 && c.quotaLeaves(pool) < 1 {
		return refuse(v1beta1.ReasonNoEligiblePool,
			"The Service asks for %s, but namespace %s holds as many addresses of pool %s as it may.", addr, s.Namespace, pool)
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
	case p.Drain:
		return v1beta1.ReasonPoolDraining, "drain is true: the pool gives nothing new"
	case !p.Gone.IsZero():
		return v1beta1.ReasonPoolDraining, "the pool was deleted"
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
		if r.Reason == v1beta1.ReasonPoolFull || r.Reason == v1beta1.ReasonResting {
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

// What describe says around the name of a pool; see Service.From.
const (
	fromPool = "from pool "
	away     = "(not there at present)"
	ofNoPool = "of no pool at present"
)

// describe says which addresses come from which pools.
func describe(in Input, addrs []netip.Addr) string {
	var parts []string
	for _, addr := range addrs {
		pool, ok := in.Addresses.PoolOf(addr)
		switch last := in.Addresses.From(addr); {
		case ok:
			parts = append(parts, addr.String()+" "+fromPool+pool)
		case last != "":
			parts = append(parts, addr.String()+" "+fromPool+last+" "+away)
		default:
			parts = append(parts, addr.String()+" "+ofNoPool)
		}
	}
	return strings.Join(parts, ", ") + "."
}

// sentence makes an error's text a sentence for a condition.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
