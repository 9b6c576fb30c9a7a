package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
)

// Parse turns objects into values. last is what Parse returned before, or the
// zero Config: where an object cannot be understood, its version in last stays
// in force as long as it is the same object (by UID). Of a pool without such a
// version, what can be understood is in force. Problems are sorted by kind and
// name, at most one for an object.
//
// Where pools overlap, the older object (by creation time, then by name)
// keeps the addresses. A pool of last that is no longer among the objects
// stays for ReplaceGrace: it gives nothing new, takes nothing away, and has no
// address that a pool contains which exists. Where two Community objects
// give the same alias, or two BGPAdvertisements the same routes with other
// attributes, the older object's count too.
func Parse(objects Objects, last Config, now time.Time) (Config, []Problem) {
	c := Config{nodes: objects.NodeAddresses}
	problems := parsePools(&c, objects, last, now)
	problems = append(problems, parseL2Advertisements(&c, objects.L2Advertisements, last)...)
	problems = append(problems, parseBFDProfiles(&c, objects.BFDProfiles, last)...)
	problems = append(problems, parseBGPPeers(&c, objects, last)...)
	problems = append(problems, parseCommunities(&c, objects.Communities, last)...)
	problems = append(problems, parseBGPAdvertisements(&c, objects, last)...)
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return c, problems
}

func parsePools(c *Config, objects Objects, last Config, now time.Time) []Problem {
	problems := map[string]Problem{}
	for i := range objects.Pools {
		o := &objects.Pools[i]
		p, err := parsePool(o)
		namesake := last.Pool(o.Name)
		before := namesake
		if before != nil && (before.partial || before.object.UID != o.UID) {
			before = nil // it was never good
		}
		if err != nil {
			inForce := "What can be understood of it is in force."
			switch {
			case before != nil:
				again := *before
				again.Outside = p.Outside
				p, inForce = &again, "Its last good version stays in force."
			case p.Closed:
				inForce = "As it cannot be read whom the pool is for, it gives nothing new; " +
					"Services keep what they have of it."
				p.partial, p.KeepOutside = true, true
			default:
				// What the rest of it says is not known, so nothing is moved.
				p.partial, p.KeepOutside = true, true
			}
			problems[o.Name] = invalid(KindIPAddressPool, o.Name, err, inForce)
		}
		if (err == nil || p.partial) && namesake != nil && !judged(o) {
			p.before = namesake.allBefore() // also of one that this one replaces
		}
		c.Pools = append(c.Pools, p)
	}
	c.Pools = append(c.Pools, stillThere(c, last, now)...)
	for name, lost := range settleOverlaps(c.Pools) {
		if _, worse := problems[name]; !worse {
			problems[name] = Problem{KindIPAddressPool, name, v1beta1.ReasonOverlapping, lost}
		}
	}
	slices.SortFunc(c.Pools, func(a, b *Pool) int { return cmp.Compare(a.Name, b.Name) })
	c.withhold()
	for _, p := range c.Pools {
		told := c.onlyOfNodes(p)
		if _, worse := problems[p.Name]; told != "" && !worse {
			problems[p.Name] = Problem{KindIPAddressPool, p.Name, v1beta1.ReasonNodeAddresses, told}
		}
	}
	c.index()
	return slices.Collect(maps.Values(problems))
}

// judged tells whether the controller has seen the newest version of a pool.
// Until then it has not told which addresses an edit leaves outside, so those
// that were in the pool before still count.
func judged(o *v1beta1.IPAddressPool) bool {
	ready := meta.FindStatusCondition(o.Status.Conditions, v1beta1.ConditionReady)
	return ready != nil && ready.ObservedGeneration >= o.Generation
}

// allBefore is what a pool contained, over all edits that are not judged yet.
func (p *Pool) allBefore() *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, r := range p.Ranges {
		b.AddRange(r)
	}
	if p.before != nil {
		b.AddSet(p.before)
	}
	set, _ := b.IPSet()
	return set
}

// stillThere returns the pools of last that were deleted, but not long ago, and
// not created again.
func stillThere(c *Config, last Config, now time.Time) []*Pool {
	var out []*Pool
	for _, p := range last.Pools {
		if slices.ContainsFunc(c.Pools, func(q *Pool) bool { return q.Name == p.Name }) {
			continue
		}
		ghost := *p
		if ghost.Exists() {
			ghost.Gone = now
			ghost.had = p.all()
			ghost.set = p.withoutOthers(last.Pools)
			ghost.KeepOutside = true
		}
		next := ghost.GraceEnds()
		if !next.After(now) {
			continue
		}
		if tell := ghost.Gone.Add(ReplaceQuiet); tell.After(now) {
			next = tell
		} else {
			ghost.Told = true
		}
		if c.Recheck.IsZero() || next.Before(c.Recheck) {
			c.Recheck = next
		}
		out = append(out, &ghost)
	}
	return out
}

// all is everything that a pool has: what it contains, did so before edits that
// are not judged yet, or keeps although it does not.
func (p *Pool) all() *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(p.allBefore())
	for _, r := range p.Outside {
		b.AddRange(r)
	}
	set, _ := b.IPSet()
	return set
}

// withoutOthers is what a pool lists but for what other pools contain. A deleted
// pool gives nothing new, and takes nothing over: not what an older pool had of
// it and gives up.
func (p *Pool) withoutOthers(pools []*Pool) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(p.set)
	for _, other := range pools {
		if other.Name == p.Name {
			continue
		}
		for _, r := range other.Ranges {
			b.RemoveRange(r)
		}
	}
	set, _ := b.IPSet()
	return set
}

// withhold takes out of each pool what it excludes, counts it, and finds out what
// nodes have of the rest.
func (c *Config) withhold() {
	for _, p := range c.Pools {
		all4, all6 := allocator.Size(p.Ranges)
		var b netipx.IPSetBuilder
		for _, r := range p.Ranges {
			b.AddRange(r)
		}
		b.RemoveSet(p.exclude)
		rest, _ := b.IPSet()
		p.Ranges = rest.Ranges()
		left4, left6 := allocator.Size(p.Ranges)
		p.Excluded4, p.Excluded6 = all4-left4, all6-left6
		p.OfNodes = nil
		for addr := range c.nodes {
			if rest.Contains(addr) {
				p.OfNodes = append(p.OfNodes, addr)
			}
		}
		slices.SortFunc(p.OfNodes, netip.Addr.Compare)
	}
}

// onlyOfNodes says of which family nodes have every address of a pool, so that it
// gives none; "" where that is not so.
func (c *Config) onlyOfNodes(p *Pool) string {
	if p.AllowNodeAddresses || !p.Gone.IsZero() {
		return ""
	}
	// What a node only reports may be what Services have.
	onlyReported := func(addr netip.Addr) bool { return c.nodes[addr].Reported }
	sure := slices.DeleteFunc(slices.Clone(p.OfNodes), onlyReported)
	of4 := slices.DeleteFunc(slices.Clone(sure), netip.Addr.Is6)
	size4, size6 := allocator.Size(p.Ranges)
	var none []string
	var addrs []netip.Addr
	if size4 > 0 && size4 == int64(len(of4)) {
		none, addrs = append(none, "IPv4"), append(addrs, of4...)
	}
	if size6 > 0 && size6 == int64(len(sure)-len(of4)) {
		none, addrs = append(none, "IPv6"), append(addrs, sure[len(of4):]...)
	}
	if len(none) == 0 {
		return ""
	}
	return fmt.Sprintf("Nodes have every %s address of the pool, so none is given out: %s. "+
		"List addresses that no node has; or set allowNodeAddresses to have them given out "+
		"and announced by nobody, as a cluster of one node may want.",
		strings.Join(none, " and "), c.TellNodes(addrs))
}

// index prepares PoolOf.
func (c *Config) index() {
	for _, p := range c.Pools {
		for _, r := range p.Ranges {
			c.spans = append(c.spans, span{r, p})
		}
	}
	slices.SortFunc(c.spans, func(a, b span) int { return a.From().Compare(b.From()) })
}

// settleOverlaps takes from each pool what older ones hold, and from deleted ones
// what those hold that exist. It returns for each pool that lost something which
// addresses went to whom.
func settleOverlaps(pools []*Pool) map[string]string {
	deleted := func(p *Pool) int {
		if p.Exists() {
			return 0
		}
		return 1
	}
	byAge := slices.Clone(pools)
	slices.SortFunc(byAge, func(a, b *Pool) int {
		return cmp.Or(
			deleted(a)-deleted(b),
			a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
	told := map[string]string{}
	for i, p := range byAge {
		var rest netipx.IPSetBuilder
		rest.AddSet(p.set)
		var lost []string
		for _, older := range byAge[:i] {
			var both netipx.IPSetBuilder
			both.AddSet(p.set)
			both.Intersect(older.set)
			common, _ := both.IPSet()
			if len(common.Ranges()) == 0 {
				continue
			}
			rest.RemoveSet(common)
			lost = append(lost, fmt.Sprintf("%s to pool %s", ranges(common.Ranges()), older.Name))
		}
		left, _ := rest.IPSet()
		p.Ranges = left.Ranges()
		if len(lost) == 0 || !p.Exists() {
			continue
		}
		told[p.Name] = fmt.Sprintf("Addresses belong to older pools, which keep them: %s. %s "+
			"Remove them from spec.addresses of one of the pools.", strings.Join(lost, ", "), whatIsLeft(p))
	}
	return told
}

func whatIsLeft(p *Pool) string {
	if len(p.Ranges) == 0 {
		return "Nothing is left of this pool."
	}
	return "The rest of this pool is in use."
}

// ranges writes at most five ranges for a person.
func ranges(rs []netipx.IPRange) string {
	var out []string
	for i, r := range rs {
		if i == 5 {
			out = append(out, fmt.Sprintf("and %d more", len(rs)-i))
			break
		}
		if prefix, ok := r.Prefix(); ok {
			out = append(out, prefix.String())
			continue
		}
		out = append(out, r.String())
	}
	return strings.Join(out, " ")
}

// parsePool reads a pool. With an error it returns what can be understood.
func parsePool(o *v1beta1.IPAddressPool) (*Pool, error) {
	p := &Pool{
		Name:          o.Name,
		Labels:        o.Labels,
		AutoAssign:    o.Spec.AutoAssign == nil || *o.Spec.AutoAssign,
		AvoidBuggyIPs: o.Spec.AvoidBuggyIPs,
		Drain:         o.Spec.Drain,
		Quota:         int(o.Spec.QuotaPerNamespace),
		KeepOutside:   o.Spec.OnShrink != v1beta1.OnShrinkMove,

		AllowNodeAddresses: o.Spec.AllowNodeAddresses,
		ShareInNamespace:   o.Spec.Sharing == v1beta1.SharingNamespace,

		object: o,
	}
	if o.Spec.ReuseDelay != nil {
		p.ReuseDelay = o.Spec.ReuseDelay.Duration
	}
	var outside netipx.IPSetBuilder
	for _, text := range o.Status.OutOfRange {
		if r, err := ParseExcluded(text); err == nil {
			outside.AddRange(r)
		}
	}
	var errs []error
	if len(o.Spec.Addresses) == 0 {
		errs = append(errs, errors.New("spec.addresses is empty"))
	}
	var b netipx.IPSetBuilder
	for i, text := range o.Spec.Addresses {
		r, err := ParseRange(string(text))
		if errors.Is(err, errLinkLocal4) {
			// Earlier versions gave these out. Services that have one keep it.
			if r, err := parseRange(string(text)); err == nil {
				outside.AddRange(r)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.addresses[%d]: %w", i, err))
			continue
		}
		b.AddRange(r)
	}
	kept, _ := outside.IPSet()
	p.Outside = kept.Ranges()
	set, err := b.IPSet()
	if err != nil {
		errs = append(errs, fmt.Errorf("spec.addresses: %w", err))
	}
	p.set = set
	var x netipx.IPSetBuilder
	for i, text := range o.Spec.Exclude {
		r, err := ParseExcluded(string(text))
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.exclude[%d]: %w", i, err))
			continue
		}
		x.AddRange(r)
	}
	p.exclude, _ = x.IPSet()
	if a := o.Spec.ServiceAllocation; a != nil {
		if p.Allocation, err = parseAllocation(a); err != nil {
			p.Closed = true
			errs = append(errs, err)
		}
	}
	return p, errors.Join(errs...)
}

func parseAllocation(a *v1beta1.ServiceAllocation) (*Allocation, error) {
	nss, err := selectors("spec.serviceAllocation.namespaceSelectors", a.NamespaceSelectors)
	if err != nil {
		return nil, err
	}
	svcs, err := selectors("spec.serviceAllocation.serviceSelectors", a.ServiceSelectors)
	if err != nil {
		return nil, err
	}
	return &Allocation{
		Priority:           a.Priority,
		Namespaces:         sets.New(a.Namespaces...),
		NamespaceSelectors: nss,
		ServiceSelectors:   svcs,
	}, nil
}

func parseL2Advertisements(c *Config, objects []v1beta1.L2Advertisement, last Config) []Problem {
	var problems []Problem
	for i := range objects {
		o := &objects[i]
		a, err := parseL2Advertisement(o)
		if err != nil {
			at := slices.IndexFunc(last.L2Advertisements, func(b *L2Advertisement) bool {
				return b.object.UID == o.UID
			})
			inForce := "It is not in force."
			if at >= 0 {
				inForce = "Its last good version stays in force."
			}
			problems = append(problems, invalid(KindL2Advertisement, o.Name, err, inForce))
			if at < 0 {
				continue
			}
			a = last.L2Advertisements[at]
		} else if missing := missingPools(c, objects[i].Spec.IPAddressPools); missing != "" {
			problem := Problem{KindL2Advertisement, o.Name, v1beta1.ReasonPoolNotFound, missing}
			problems = append(problems, problem)
		}
		c.L2Advertisements = append(c.L2Advertisements, a)
	}
	slices.SortFunc(c.L2Advertisements, func(a, b *L2Advertisement) int {
		return cmp.Compare(a.Name, b.Name)
	})
	return problems
}

// missingPools says which of the pools that spec.ipAddressPools names are not
// there, or "". One that was deleted lately counts once that is to be told.
func missingPools(c *Config, names []string) string {
	var missing, deleted []string
	for _, name := range slices.Sorted(slices.Values(names)) {
		switch p := c.Pool(name); {
		case p == nil:
			missing = append(missing, name)
		case p.Told:
			deleted = append(deleted, fmt.Sprintf("%s, whose addresses are announced until %s",
				name, p.GraceEnds().UTC().Format(time.RFC3339)))
		}
	}
	var parts []string
	if len(missing) > 0 {
		parts = append(parts, fmt.Sprintf("spec.ipAddressPools names what is not there or not valid: %s.",
			strings.Join(missing, ", ")))
	}
	if len(deleted) > 0 {
		parts = append(parts, "spec.ipAddressPools names what was deleted: "+strings.Join(deleted, "; ")+".")
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " ") + " The other pools are announced. Create the pool or correct the name."
}

// maxLingerPeriod is the longest spec.handOver.lingerPeriod.
const maxLingerPeriod = time.Hour

func parseL2Advertisement(o *v1beta1.L2Advertisement) (*L2Advertisement, error) {
	a := &L2Advertisement{
		Name:              o.Name,
		Pools:             sets.New(o.Spec.IPAddressPools...),
		Interfaces:        slices.Sorted(slices.Values(o.Spec.Interfaces)),
		FailbackImmediate: o.Spec.Failback == v1beta1.FailbackImmediate,
		Announcement:      parseAnnouncement(o.Spec.Announcement),
		Promiscuous:       o.Spec.Promiscuous,
		object:            o,
	}
	var err error
	if a.LingerPeriod, err = parseLingerPeriod(o.Spec.HandOver); err != nil {
		return nil, err
	}
	if a.InterfacePatterns, err = interfacePatterns(o.Spec.InterfacePatterns); err != nil {
		return nil, err
	}
	a.PoolSelectors, err = selectors("spec.ipAddressPoolSelectors", o.Spec.IPAddressPoolSelectors)
	if err != nil {
		return nil, err
	}
	if a.Nodes, err = selectors("spec.nodeSelectors", o.Spec.NodeSelectors); err != nil {
		return nil, err
	}
	if a.Services, err = selectors("spec.serviceSelectors", o.Spec.ServiceSelectors); err != nil {
		return nil, err
	}
	for i, p := range o.Spec.PreferredNodeSelectors {
		s, err := metav1.LabelSelectorAsSelector(&p.Preference)
		if err != nil {
			return nil, fmt.Errorf("spec.preferredNodeSelectors[%d].preference: %w", i, err)
		}
		a.PreferredNodes = append(a.PreferredNodes, PreferredNodes{Weight: int64(p.Weight), Nodes: s})
	}
	return a, nil
}

// parseLingerPeriod reads how long the owner before may linger; nil says not at all. The
// API refuses what is out of range, but not in an object that was stored before the
// definition had the range.
func parseLingerPeriod(h *v1beta1.HandOverPolicy) (time.Duration, error) {
	if h == nil || h.LingerPeriod == nil {
		return 0, nil
	}
	period := h.LingerPeriod.Duration
	if period < 0 || period > maxLingerPeriod {
		return 0, fmt.Errorf("spec.handOver.lingerPeriod: %s is not from 0s to %s", period, maxLingerPeriod)
	}
	return period, nil
}

// interfacePatterns compiles expressions so that they match whole names only.
// The error names every one that cannot be understood.
func interfacePatterns(texts []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	var errs []error
	for i, text := range texts {
		// First as it is: between the parentheses, a)|(b would be understood.
		_, err := regexp.Compile(text)
		var whole *regexp.Regexp
		if err == nil {
			whole, err = regexp.Compile("^(?:" + text + ")$")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf(
				"spec.interfacePatterns[%d]: %q is no regular expression: %w", i, text, err))
			continue
		}
		out = append(out, whole)
	}
	return out, errors.Join(errs...)
}

// parseAnnouncement reads how addresses are announced; nil says nothing.
func parseAnnouncement(o *v1beta1.AnnouncementPolicy) AnnouncementPolicy {
	if o == nil {
		return AnnouncementPolicy{}
	}
	p := AnnouncementPolicy{Count: int(o.Count)}
	if o.Interval != nil {
		p.Interval = o.Interval.Duration
	}
	if o.RefreshInterval != nil {
		p.Refresh = cmp.Or(o.RefreshInterval.Duration, -1) // 0s is never
	}
	return p
}

func selectors(field string, in []metav1.LabelSelector) ([]labels.Selector, error) {
	var out []labels.Selector
	for i := range in {
		s, err := metav1.LabelSelectorAsSelector(&in[i])
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// invalid is the problem of an object that cannot be understood.
func invalid(kind, name string, err error, inForce string) Problem {
	message := fmt.Sprintf("%s: %s. Correct the object. %s", kind, sentence(err), inForce)
	return Problem{kind, name, v1beta1.ReasonInvalid, message}
}

// sentence writes errors in one line.
func sentence(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
