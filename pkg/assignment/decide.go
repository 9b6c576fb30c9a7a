// Package assignment is the controller's decision for one Service: which
// addresses it has, and why. It is pure: no clock, client, log or lock.
//
// The rules, in their order:
//
//  1. A Service keeps every address it has as long as that address is still
//     right: of a family it asks for, in a pool, what it requests if it
//     requests anything, and not in conflict with another Service. What cannot be
//     judged takes nothing away: a pool that was not seen to go or to shrink, as
//     after a start before all pools are created again, and a request for a pool or
//     an address that is not there, or for a pool without addresses of the family.
//  2. For a family without an address: the requested address; else one of the
//     requested pool; else of the pools that select the Service by
//     serviceAllocation, by priority and then by name; else of the pools with
//     autoAssign and without serviceAllocation, by name. Among the former, and
//     then among the latter, the pool goes first that a dual-stack Service takes
//     both addresses from: they are then announced and filtered alike.
//  3. Of a pool: the lowest address that the Service may share, if it asks to
//     share; else the one it had before, if that rests; else the lowest that
//     is free and does not rest. What nodes have, and what other Services name in
//     spec.externalIPs, is not given out; but what a node only reports goes to
//     who asks for it. A pool may forbid to share across namespaces.
//  4. A RequireDualStack Service gets both families or nothing new.
//
// Before all of them: what somebody else has written into the Service's status is
// left alone; see other.
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
// *allocator.Allocator is one, and documents what each method means.
type Addresses interface {
	PoolOf(netip.Addr) (string, bool)
	From(netip.Addr) string
	Has(pool string, is6 bool) bool
	Lowest(pool string, is6 bool, now time.Time) (netip.Addr, bool)
	Former(pool string, is6 bool, holder allocator.Holder, now time.Time) (netip.Addr, bool)
	Shareable(
		pool string, is6 bool, holder allocator.Holder, terms allocator.Terms, counted bool,
	) (netip.Addr, bool)
	FirstRested(pool string, is6 bool) (time.Time, bool)
	Used(pool, group string, holder allocator.Holder, has []netip.Addr) (used, quota int)
	Expelled(netip.Addr) bool
	Check(addr netip.Addr, holder allocator.Holder, terms allocator.Terms) error
	Outsider(addr netip.Addr, holder allocator.Holder, group string) allocator.Holder
	HeldElsewhere(pool, key, group string) bool
	Withheld(netip.Addr) (allocator.Withholding, bool)
	WithheldOf(pool string, is6 bool) (lowest netip.Addr, n int)
	Counts(pool string, now time.Time) allocator.Counts
}

// Input is everything that Decide takes into account.
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
}

// Decision is the outcome for one Service.
type Decision struct {
	// Addresses that the Service shall have, in the order of its families.
	Addresses []netip.Addr
	// LeaveStatus is set when the Service's status is not to show them: somebody
	// else has written something else there.
	LeaveStatus bool
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
	// Leaving is what Message says of addresses that the Service is about to
	// lose, as their pool was deleted; "" where there are none.
	Leaving string
}

// Rejection says why one pool does not give a Service an address.
type Rejection struct {
	Pool    string
	Family  Family
	Reason  v1beta1.Reason
	Message string
}

// Assigned reports whether the Service has all it asks for.
func (d Decision) Assigned() bool { return d.Reason == v1beta1.ReasonAssigned }

// Decide says which addresses a Service shall have.
func Decide(in Input) Decision {
	d := withLeaving(in, decide(in))
	for _, more := range []string{besides(in, d), in.Service.Remark} {
		if more != "" {
			d.Message += " " + more
		}
	}
	return d
}

// decide decides between what others have written into the Service's status and
// what Berth would.
func decide(in Input) Decision {
	s := in.Service
	has := in.Held
	if has == nil {
		has = Had(s, in.Config, in.Addresses)
	}
	switch other := otherOf(s, in.Config, in.Addresses); other {
	case overwritten:
		d := own(in, has)
		d.LeaveStatus, d.Reason = true, v1beta1.ReasonStatusOverwritten
		d.Message = fmt.Sprintf("The status has %s instead of what Berth wrote: another load balancer "+
			"serves the Service too, and the two would write in turn for ever. Give one of them a "+
			"spec.loadBalancerClass, or end the other (k3s: --disable=servicelb). Then clear the status, "+
			"and Berth writes it: %s.", entries(s), ClearCommand(s.Holder))
		return withKept(in, d)
	case foreign:
		var why string
		if len(s.RequestedAddresses) > 0 || s.RequestedPool != "" {
			d := own(in, inPools(in, has))
			refused := func(addr netip.Addr) bool { return !slices.Contains(d.Addresses, addr) }
			if len(d.Addresses) > 0 && !slices.ContainsFunc(s.RequestedAddresses, refused) {
				return d
			}
			why = " What it asks for, it does not get: " + d.Message
		}
		return Decision{
			Addresses:   s.Status,
			LeaveStatus: true,
			Reason:      v1beta1.ReasonForeignAddress,
			Message: fmt.Sprintf("The Service has %s, which no pool contains and Berth did not give: it is "+
				"left alone. To have Berth serve the Service, ask for an address or a pool by annotation, "+
				"or add the address to an IPAddressPool. Where the other load balancer is gone, clear the "+
				"status: %s.%s",
				entries(s), ClearCommand(s.Holder), why),
		}
	case ofNodes:
		d := own(in, inPools(in, has))
		// While there is nothing better, they stay: they may well work.
		d.LeaveStatus = len(d.Addresses) == 0
		return d
	}
	return own(in, has)
}

// other is what somebody else has written into a Service's status, where nothing of
// Berth's is beside it.
type other int

const (
	nothing     other = iota
	overwritten       // something in the place of what Berth wrote
	foreign           // addresses or host names, of another load balancer
	ofNodes           // addresses of nodes only, as k3s's ServiceLB writes them
)

// otherOf says what somebody else has written into a Service's status. Where there
// is an address that a pool contains, or that Berth wrote, the Service is Berth's.
func otherOf(s Service, c *config.Config, a Addresses) other {
	if len(s.Status) == 0 && len(s.Hostnames) == 0 {
		return nothing
	}
	nodesOnly := len(s.Hostnames) == 0
	for _, addr := range s.Status {
		own := ofNode(c, addr)
		if _, inPool := a.PoolOf(addr); inPool && !own || slices.Contains(s.Wrote, addr) {
			return nothing
		}
		nodesOnly = nodesOnly && own
	}
	switch {
	case len(s.Wrote) > 0:
		return overwritten
	case s.Given: // Berth wrote what is not known any more, so it may be this
		return nothing
	case nodesOnly:
		return ofNodes
	}
	return foreign
}

// Had returns the addresses that a Service has by its status, where there is no record
// of what it holds: those that Berth wrote, where somebody else has overwritten them,
// and else those that stand there, but for those of nodes that Berth did not give.
func Had(s Service, c *config.Config, a Addresses) []netip.Addr {
	if otherOf(s, c, a) == overwritten {
		return s.Wrote
	}
	var out []netip.Addr
	for _, addr := range s.Status {
		if !ofNode(c, addr) || slices.Contains(s.Wrote, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// ofNode reports whether an address is a node's own, and no pool gives it out all the
// same. What a node only reports may be what another load balancer gave.
func ofNode(c *config.Config, addr netip.Addr) bool {
	node, has := c.OfNode(addr)
	p := c.PoolOf(addr)
	return has && (p == nil || !node.Reported && !p.AllowNodeAddresses)
}

// inPools returns those addresses that a pool contains and no node has. The others, of
// another load balancer, are nothing that a Service could keep.
func inPools(in Input, addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, addr := range addrs {
		if _, ok := in.Addresses.PoolOf(addr); ok && !ofNode(in.Config, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// entries writes for a person what is in a Service's status.
func entries(s Service) string {
	var out []string
	for _, addr := range s.Status {
		out = append(out, addr.String())
	}
	return strings.Join(append(out, s.Hostnames...), ", ")
}

// besides names the host names that stand in the status beside what Berth writes; ""
// when there are none.
func besides(in Input, d Decision) string {
	if len(in.Service.Hostnames) == 0 || d.LeaveStatus || len(d.Addresses) == 0 {
		return ""
	}
	var ours []string
	for _, addr := range d.Addresses {
		ours = append(ours, fmt.Sprintf(`{"ip":%q,"ipMode":"VIP"}`, addr))
	}
	clean := patchCommand(in.Service.Holder, "["+strings.Join(ours, ",")+"]")
	return fmt.Sprintf("The status also names %s, which Berth did not write and leaves there. If no other "+
		"load balancer serves the Service, take it out: %s.", strings.Join(in.Service.Hostnames, ", "), clean)
}

// ClearCommand returns the command, between backquotes, that takes everything out of a
// Service's load balancer status: kubectl edit does not reach it.
func ClearCommand(holder allocator.Holder) string { return patchCommand(holder, "null") }

func patchCommand(holder allocator.Holder, ingress string) string {
	namespace, name, _ := strings.Cut(string(holder), "/")
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":%s}}}`, ingress)
	return fmt.Sprintf("`kubectl -n %s patch service %s --subresource=status --type=merge -p '%s'`",
		namespace, name, patch)
}

// own says which addresses a Service that has some shall have by the rules.
func own(in Input, has []netip.Addr) Decision {
	if in.Invalid != nil {
		return withKept(in, Decision{
			Addresses: keepHeld(in, has),
			Reason:    v1beta1.ReasonInvalidRequest,
			Message:   sentence(in.Invalid.Error()),
		})
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
	return c.conclude(withPoolGone(in, d, has), kept)
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

// withPoolGone returns the decision with the reason PoolGone for a Service that has lost an address
// with its pool and gets no other of that family.
func withPoolGone(in Input, d Decision, has []netip.Addr) Decision {
	if d.Reason == "" || d.Reason == v1beta1.ReasonAddressInUse {
		return d
	}
	if in.Service.Lost.IsValid() {
		has = append(slices.Clone(has), in.Service.Lost)
	}
	for _, addr := range has {
		family := FamilyOf(addr)
		replaced := slices.ContainsFunc(d.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == family })
		if _, inPool := in.Addresses.PoolOf(addr); !inPool && !replaced &&
			slices.Contains(in.Service.Families, family) {
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
	first string       // the pool to try before others, if any: see order
}

// order returns the pools in the order in which they are tried. The first comes before
// all others when the Service asks for an address of it, and before all others
// that are not pinned when it is not pinned either: whoever pins a pool wants its
// addresses to be used.
func (c choice) order() []*config.Pool {
	pools := inOrder(c.Config.Pools)
	p := c.Config.Pool(c.first)
	if p == nil {
		return pools
	}
	pools = slices.DeleteFunc(pools, func(q *config.Pool) bool { return q == p })
	at := 0
	if p.Allocation == nil && len(c.Service.RequestedAddresses) == 0 {
		at = slices.IndexFunc(pools, func(q *config.Pool) bool { return q.Allocation == nil })
		if at < 0 {
			at = len(pools)
		}
	}
	return slices.Insert(pools, at, p)
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

// conclude turns what was found for each family into the outcome.
func (c choice) conclude(d Decision, kept []netip.Addr) Decision {
	in := c.Input
	switch {
	case d.Reason == "":
		d.refused(c.incomplete(kept))
		if d.Reason != "" {
			return withKept(in, d)
		}
		d.Reason = v1beta1.ReasonAssigned
		d.Message = describe(in, d.Addresses)
	case len(d.Addresses) > 0 && in.Service.Optional:
		d.Reason = v1beta1.ReasonPartlyAssigned
		d.Message = describe(in, d.Addresses) + " The other family is missing: " + d.Message
	case len(d.Addresses) > 0 && len(in.Service.Families) > 1:
		// RequireDualStack: half of what is asked for is of no use, but what
		// the Service had is not taken from it.
		d.Addresses = kept
		return withKept(in, d)
	}
	return d
}

// incomplete returns why a Service that keeps an address of each family does not have all
// it asks for: what it asks for, or the pool of an address, does not exist, which takes
// nothing away. The Reason of the Decision is "" if nothing is missing.
func (c choice) incomplete(kept []netip.Addr) Decision {
	s := c.Service
	var poolless []string
	for _, addr := range slices.SortedFunc(slices.Values(kept), netip.Addr.Compare) {
		if requested, ok := requestedOf(s, FamilyOf(addr)); ok && requested != addr {
			_, refusal := c.pickRequested(requested)
			return refusal
		}
		pool, inPool := c.Addresses.PoolOf(addr)
		switch {
		case s.RequestedPool == "" || inPool && pool == s.RequestedPool:
		case !exists(c.Config, s.RequestedPool):
			return poolNotFound(s)
		case !c.Addresses.Has(s.RequestedPool, FamilyOf(addr).Is6()):
			_, refusal := c.pick(FamilyOf(addr))
			return refusal
		}
		if !inPool {
			poolless = append(poolless, addr.String())
		}
	}
	if len(poolless) == 0 {
		return Decision{}
	}
	return Decision{Reason: v1beta1.ReasonPoolMissing, Message: fmt.Sprintf(
		"Nobody announces %s, which no IPAddressPool contains. Create the pool again, or add this to "+
			"another. Until then the Service keeps it, unless it asks for another address.",
		strings.Join(poolless, " and "))}
}

// exists reports whether there is a pool of a name, and it was not deleted.
func exists(c *config.Config, name string) bool {
	p := c.Pool(name)
	return p != nil && p.Exists()
}

// poolNotFound returns the refusal of a request for a pool that is not there.
func poolNotFound(s Service) Decision {
	return Decision{Reason: v1beta1.ReasonPoolNotFoundForService, Message: fmt.Sprintf(
		"The Service asks for pool %s, which does not exist. Create it, or change the annotation %s.",
		s.RequestedPool, v1beta1.AnnotationAddressPool)}
}

// withLeaving returns the decision with a message that ends with the addresses that the Service is about to
// lose, and when. Nothing is said of a pool that may still be about to be created
// again.
func withLeaving(in Input, d Decision) Decision {
	var sentences []string
	for _, addr := range d.Addresses {
		name, _ := in.Addresses.PoolOf(addr)
		if p := in.Config.Pool(name); p != nil && p.Told {
			sentences = append(sentences, fmt.Sprintf("Pool %s was deleted: the Service loses %s at %s, "+
				"unless a pool contains it by then.",
				name, addr, p.GraceEnds().UTC().Format(time.RFC3339)))
		}
	}
	if len(sentences) > 0 {
		d.Leaving = strings.Join(sentences, " ")
		d.Message += " " + d.Leaving
	}
	return d
}

// keptBegins begins the message of a Service that has not all it asks for and
// keeps what it had; see Service.From.
const keptBegins = "The Service keeps "

// withKept returns the decision with a message that begins with the addresses that a Service keeps: the
// condition always says which pool an address is from, and so does a controller
// that reads nothing else.
func withKept(in Input, d Decision) Decision {
	if len(d.Addresses) > 0 {
		d.Message = keptBegins + describe(in, d.Addresses) + " " + d.Message
	}
	return d
}

// keepHeld returns the addresses a Service with an unreadable request goes on
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

// mayHave reports whether the Service may go on having an address: nobody else has
// a right to it, and a pool contains it, or none was seen to lose it. What only its
// status says that it has counts as long as a pool contains it.
func mayHave(in Input, addr netip.Addr) bool {
	err := in.Addresses.Check(addr, in.Service.Holder, in.Service.Terms)
	return err == nil ||
		errors.Is(err, allocator.ErrNotInPool) && slices.Contains(in.Held, addr) &&
			!in.Addresses.Expelled(addr)
}

// keepRight returns the addresses that the Service has and that are still right,
// at most one of a family: one that a pool contains before one that none does.
func keepRight(in Input, has []netip.Addr) []netip.Addr {
	poolless := func(addr netip.Addr) int {
		if _, inPool := in.Addresses.PoolOf(addr); inPool {
			return 0
		}
		return 1
	}
	byPool := slices.SortedStableFunc(slices.Values(has),
		func(a, b netip.Addr) int { return poolless(a) - poolless(b) })
	var kept []netip.Addr
	for _, addr := range byPool {
		family := FamilyOf(addr)
		same := func(a netip.Addr) bool { return FamilyOf(a) == family }
		if slices.Contains(in.Service.Families, family) && !slices.ContainsFunc(kept, same) &&
			stillRight(in, addr) {
			kept = append(kept, addr)
		}
	}
	return kept
}

func stillRight(in Input, addr netip.Addr) bool {
	s, family := in.Service, FamilyOf(addr)
	if requested, ok := requestedOf(s, family); ok && requested != addr && !unknown(in, requested) {
		return false
	}
	pool, inPool := in.Addresses.PoolOf(addr)
	if s.RequestedPool != "" && s.RequestedPool != pool && offers(in, s.RequestedPool, family) {
		// Berth leaves to the Service what was not Berth's to give.
		if inPool || in.Addresses.From(addr) != "" {
			return false
		}
	}
	return mayHave(in, addr)
}

// offers reports whether a pool that a Service asks for is there and has addresses of
// a family. It has none while an older pool has all that it lists.
func offers(in Input, pool string, family Family) bool {
	return exists(in.Config, pool) && in.Addresses.Has(pool, family.Is6())
}

// unknown reports whether no pool that exists lists an address. A Service that asks for
// it has mistyped it, or its pool is yet to be created.
func unknown(in Input, addr netip.Addr) bool {
	pool, ok := in.Addresses.PoolOf(addr)
	return !(ok && exists(in.Config, pool)) && in.Config.Excluded(addr) == ""
}

// requestedOf returns the address of a family that a Service asks for. Asking for
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
		return netip.Addr{}, poolNotFound(s)
	}
	named := func(p *config.Pool) bool { // of the deleted nobody else expects an address
		return p.Gone.IsZero() || p.Name == s.RequestedPool
	}
	if !slices.ContainsFunc(c.Config.Pools, named) {
		return netip.Addr{}, Decision{Reason: v1beta1.ReasonNoPools,
			Message: "There is no usable IPAddressPool. Create one, or look at the conditions of those " +
				"there are."}
	}
	rejected := map[string]Rejection{}
	for _, p := range c.order() {
		addr, no := c.fromPool(p, family)
		if no.Reason == "" {
			return addr, Decision{}
		}
		rejected[p.Name] = no
	}
	var rejections []Rejection
	for _, p := range inOrder(c.Config.Pools) { // which pool goes first changes with what the Service has
		if named(p) {
			rejections = append(rejections, rejected[p.Name])
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
	if reason, message := Eligible(p, s); reason != "" {
		return reject(reason, message)
	}
	if !c.Addresses.Has(p.Name, is6) {
		if is6 && p.Excluded6 > 0 || !is6 && p.Excluded4 > 0 {
			return reject(v1beta1.ReasonFamilyMissing,
				fmt.Sprintf("exclude takes every %s address out of it", family))
		}
		return reject(v1beta1.ReasonFamilyMissing, fmt.Sprintf("has no %s addresses", family))
	}
	atQuota := c.quotaLeaves(p.Name) < 1
	shared, shares := c.Addresses.Shareable(p.Name, is6, s.Holder, s.Terms, atQuota)
	if atQuota && !shares {
		_, quota := c.Addresses.Used(p.Name, s.Terms.Group, s.Holder, nil)
		return reject(v1beta1.ReasonQuotaReached,
			fmt.Sprintf("namespace %s holds as many of its addresses as quotaPerNamespace allows, %d",
				s.Namespace, quota))
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
		return reject(v1beta1.ReasonResting,
			fmt.Sprintf("every %s address is held or rests, the first until %s",
				family, until.UTC().Format(time.RFC3339)))
	}
	reason, message := c.full(p.Name, family)
	if c.Addresses.HeldElsewhere(p.Name, s.Terms.SharingKey, s.Terms.Group) {
		message += ", those under the same sharing key by other namespaces, " +
			"with which none is shared (sharing: Namespace)"
	}
	return reject(reason, message)
}

// full says why a pool has no free address of a family, and none that rests.
func (c choice) full(pool string, family Family) (v1beta1.Reason, string) {
	lowest, n := c.Addresses.WithheldOf(pool, family.Is6())
	if n == 0 {
		return v1beta1.ReasonPoolFull, fmt.Sprintf("every %s address is held", family)
	}
	w, _ := c.Addresses.Withheld(lowest)
	why := fmt.Sprintf("such as %s: %s", lowest, w.Why)
	counts := c.Addresses.Counts(pool, c.Now)
	if family.Is6() && counts.Assigned6 > 0 || !family.Is6() && counts.Assigned4 > 0 {
		return v1beta1.ReasonPoolFull,
			fmt.Sprintf("every %s address is held or not given out, %s", family, why)
	}
	reason := v1beta1.ReasonNodeAddresses
	if w.Reason == string(v1beta1.ReasonExternalIP) {
		reason = v1beta1.ReasonExternalIP
	}
	return reason, fmt.Sprintf("no %s address is given out, %s", family, why)
}

// quotaLeaves returns how many more addresses of a pool the Service's namespace
// may hold.
func (c choice) quotaLeaves(pool string) int {
	used, quota := c.Addresses.Used(pool, c.Service.Terms.Group, c.Service.Holder, c.has)
	if quota == 0 {
		return math.MaxInt
	}
	return quota - used
}

// quotaAllows reports whether the Service's namespace may hold an address of a pool:
// the quota leaves one more, or the namespace holds it already.
func (c choice) quotaAllows(pool string, addr netip.Addr) bool {
	s, has := c.Service, append(slices.Clone(c.has), addr)
	before, quota := c.Addresses.Used(pool, s.Terms.Group, s.Holder, c.has)
	after, _ := c.Addresses.Used(pool, s.Terms.Group, s.Holder, has)
	return after <= max(before, quota)
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
	if why := c.Config.Excluded(addr); !ok && why != "" {
		return refuse(v1beta1.ReasonAddressNotInPool,
			"The Service asks for %s, which is not given out: %s. Ask for another.", addr, why)
	}
	switch {
	case !ok:
		return refuse(v1beta1.ReasonAddressNotInPool,
			"The Service asks for %s, which no pool contains. Add it to an IPAddressPool, or ask for "+
				"another.",
			addr)
	case s.RequestedPool != "" && s.RequestedPool != pool:
		return refuse(v1beta1.ReasonAddressNotInPool,
			"The Service asks for %s and for pool %s, but the address is in pool %s.",
			addr, s.RequestedPool, pool)
	}
	if reason, message := permitted(c.Config.Pool(pool), s); reason != "" {
		return refuse(v1beta1.ReasonNoEligiblePool,
			"The Service asks for %s of pool %s, which may not serve it: %s.", addr, pool, message)
	}
	if w, withheld := c.Addresses.Withheld(addr); withheld && !w.OnRequest && w.For != s.Holder {
		none, d := refuse(v1beta1.Reason(w.Reason),
			"The Service asks for %s, which is not given out: %s. Ask for another.", addr, w.Why)
		d.Wanted = addr
		return none, d
	}
	var conflict *allocator.ConflictError
	if err := c.Addresses.Check(addr, s.Holder, s.Terms); errors.As(err, &conflict) {
		if conflict.Foreign {
			none, d := refuse(v1beta1.ReasonAddressInUse, "The Service asks for %s, which is in the status "+
				"of Service %s, where another load balancer than Berth has put it. If that is gone, clear "+
				"the status: %s.", addr, conflict.Holder, ClearCommand(conflict.Holder))
			d.Wanted = addr
			return none, d
		}
		none, d := refuse(v1beta1.ReasonAddressInUse, "The Service asks for %s, which Service %s holds: %s.",
			addr, conflict.Holder, conflict.Why)
		d.Wanted = addr
		return none, d
	}
	if other := c.Addresses.Outsider(addr, s.Holder, s.Terms.Group); other != "" {
		none, d := refuse(v1beta1.ReasonAddressInUse, "The Service asks for %s, which Service %s of another "+
			"namespace holds: pool %s is shared within a namespace only (sharing: Namespace).",
			addr, other, pool)
		d.Wanted = addr
		return none, d
	}
	if !c.quotaAllows(pool, addr) {
		return refuse(v1beta1.ReasonNoEligiblePool,
			"The Service asks for %s, but namespace %s holds as many addresses of pool %s as its "+
				"quotaPerNamespace allows.", addr, s.Namespace, pool)
	}
	return addr, Decision{}
}

// inOrder returns the pools in the order in which they are tried: those pinned
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

// Eligible says why a pool is not to be tried for a Service, or "".
func Eligible(p *config.Pool, s Service) (v1beta1.Reason, string) {
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
		return v1beta1.ReasonNamespaceNotSelected,
			fmt.Sprintf("serviceAllocation does not select namespace %s", s.Namespace)
	case !a.SelectsService(s.Labels):
		return v1beta1.ReasonServiceNotSelected, "serviceAllocation does not select the Service's labels"
	}
	return "", ""
}

// nearestFirst are the reasons for which pools are passed over, those first of which
// least is missing: what comes by itself, what comes when others give something
// back, what an edit of the pool would change, and what is meant to be so.
var nearestFirst = []v1beta1.Reason{
	v1beta1.ReasonResting,
	v1beta1.ReasonPoolFull,
	v1beta1.ReasonExternalIP,
	v1beta1.ReasonQuotaReached,
	v1beta1.ReasonPoolDraining,
	v1beta1.ReasonPoolInvalid,
	v1beta1.ReasonServiceNotSelected,
	v1beta1.ReasonNamespaceNotSelected,
	v1beta1.ReasonAutoAssignFalse,
	v1beta1.ReasonNodeAddresses,
	v1beta1.ReasonFamilyMissing,
	v1beta1.ReasonNotRequested,
}

// refuse sums up why no pool gives an address, the nearest to it first.
func refuse(family Family, rejections []Rejection) Decision {
	d := Decision{Reason: v1beta1.ReasonNoEligiblePool, Rejections: rejections}
	rank := func(r Rejection) int {
		if i := slices.Index(nearestFirst, r.Reason); i >= 0 {
			return i
		}
		return len(nearestFirst)
	}
	inOrder := slices.SortedStableFunc(slices.Values(rejections),
		func(a, b Rejection) int { return rank(a) - rank(b) })
	var parts []string
	for _, r := range inOrder {
		switch r.Reason {
		case v1beta1.ReasonPoolFull, v1beta1.ReasonResting, v1beta1.ReasonExternalIP:
			d.Reason = v1beta1.ReasonPoolsExhausted
		}
		if len(parts) == mostPools {
			parts = append(parts, fmt.Sprintf("and %d more pools", len(rejections)-mostPools))
		}
		if len(parts) < mostPools {
			parts = append(parts, fmt.Sprintf("pool %s: %s (%s)", r.Pool, r.Message, r.Reason))
		}
	}
	d.Message = fmt.Sprintf("No pool gives an %s address: %s.", family, strings.Join(parts, "; "))
	return d
}

// mostPools is how many pools a condition's message names: enough for a person,
// and well within the 32,768 characters that Kubernetes allows.
const mostPools = 20

// What describe says around the name of a pool; see Service.From.
const (
	fromPool = "from pool "
	away     = "(not there at present)"
	ofNoPool = "of no pool at present"
)

// describe says which addresses come from which pools, and then what is special
// about them.
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
	return strings.Join(append([]string{strings.Join(parts, ", ") + "."}, remarks(in, addrs)...), " ")
}

// remarks returns what the owner of a Service may not expect of the addresses that it has or gets.
func remarks(in Input, addrs []netip.Addr) []string {
	var out []string
	s := in.Service
	for _, addr := range addrs {
		pool, _ := in.Addresses.PoolOf(addr)
		p := in.Config.Pool(pool)
		if p == nil {
			continue
		}
		if node, ok := in.Config.OfNode(addr); ok && p.AllowNodeAddresses {
			out = append(out, fmt.Sprintf("%s is an address of node %s: nobody announces it, "+
				"and that node's service proxy serves it.", addr, node.Node))
		}
		if w, ok := in.Addresses.Withheld(addr); ok && w.For != s.Holder {
			out = append(out, fmt.Sprintf("%s is not given out to others, as %s. The Service keeps it.",
				addr, w.Why))
		}
		switch {
		case in.Addresses.Outsider(addr, s.Holder, s.Terms.Group) != "":
			out = append(out, fmt.Sprintf("Services of other namespaces have %s too, which they keep "+
				"although pool %s is shared within a namespace only (sharing: Namespace).", addr, pool))
		case in.Addresses.HeldElsewhere(pool, s.Terms.SharingKey, s.Terms.Group):
			out = append(out, fmt.Sprintf("It is not shared with other namespaces, "+
				"which hold addresses under the same sharing key: "+
				"pool %s is shared within a namespace only (sharing: Namespace).", pool))
		}
	}
	return out
}

// sentence makes an error's text a sentence for a condition.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
