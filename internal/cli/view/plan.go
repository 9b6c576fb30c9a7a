package view

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	controllerplan "github.com/berth-lb/berth/internal/controller/plan"
	speakerplan "github.com/berth-lb/berth/internal/speaker/plan"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// PlanKinds are the kinds that plans need.
var PlanKinds = ServiceKinds

// Verdicts of plans.
const (
	VerdictNoDifference = "NoDifference"
	VerdictDifferences  = "Differences"
)

// Change is what a snapshot becomes.
type Change struct {
	// After are the objects then.
	After snapshot.Objects
	// Failed are nodes that have died. Added are new ones, each with the name of the one
	// whose links it has.
	Failed []string
	Added  map[string]string
	// Said is what is to be done.
	Said v1alpha1.Plan
}

// Plannable returns an error if it cannot be said what becomes of the cluster: not all that decides could be
// read.
func (f *Facts) Plannable() error {
	if f.planned == nil {
		return fmt.Errorf("what becomes of the cluster cannot be computed: %s", f.notPlanned)
	}
	return nil
}

// Plan says what becomes of the cluster by a change: what its controller and its speakers
// come to by the change, compared with what they come to without it. It uses up what f knows
// of the controller's decisions: nothing else is to be asked of f then.
func (f *Facts) Plan(c Change) (v1alpha1.Plan, error) {
	out := c.Said
	out.TypeMeta = v1alpha1.TypeMeta("Plan")
	out.Unread = f.Unread()
	out.Remarks = append(f.listMeta().Remarks, out.Remarks...)
	if err := f.Plannable(); err != nil {
		return out, err
	}
	changed := f.With(c.After)
	p := planning{Facts: f, change: c, out: &out}
	if err := p.decide(changed); err != nil {
		return out, err
	}

	p.invalid()
	p.services()
	p.pools()
	p.ready(changed)
	if err := p.announcements(); err != nil {
		return out, err
	}
	p.conclude()
	return out, nil
}

// planning is a Plan in the making.
type planning struct {
	*Facts
	change        Change
	before, after controllerplan.Plan
	// shownBefore and shownAfter are the Services, as they come to be.
	shownBefore, shownAfter []corev1.Service
	// nodes are what the speakers come to, before and after; nil if it is not known.
	nodesBefore, nodesAfter *speakerplan.Plan
	held, holds             map[netip.Addr][]string // Services by address, before and after
	readyBefore             []config.Problem
	out                     *v1alpha1.Plan
}

// remark says what was assumed, unknown what is not known.
func (p *planning) remark(format string, args ...any) {
	p.out.Remarks = append(p.out.Remarks, fmt.Sprintf(format, args...))
}
func (p *planning) unknown(format string, args ...any) {
	p.out.Unknown = append(p.out.Unknown, fmt.Sprintf(format, args...))
}

// snapshotOf returns what the controller decides by.
func (p *planning) snapshotOf(s *snapshot.Snapshot) controllerplan.Snapshot {
	return controllerplan.Snapshot{
		Objects:    s.Config(),
		Services:   slices.Clone(s.Services),
		Namespaces: s.NamespaceLabels(),
		Nodes:      s.Nodes,
		Speakers:   s.Speakers,
		Class:      p.Settings.Class,
		Namespace:  p.Berth,
	}
}

// speakersOf returns what the speakers decide by, once the controller has done what it
// plans.
func (p *planning) speakersOf(
	s *snapshot.Snapshot, planned controllerplan.Plan, shown []corev1.Service,
) speakerplan.Snapshot {
	return speakerplan.Snapshot{
		Services:       shown,
		EndpointSlices: s.EndpointSlices,
		Nodes:          s.Nodes,
		Speakers:       s.Speakers,
		Config:         planned.Config,
		Class:          p.Settings.Class,
		Namespace:      p.Berth,
	}
}

// decide has the controller's and the speakers' code decide, first about what is, then about
// what becomes of it.
func (p *planning) decide(changed *snapshot.Snapshot) (err error) {
	if p.before, err = p.planned.Then(p.snapshotOf(p.Snapshot)); err != nil {
		return fmt.Errorf("decide as the controller does: %w", err)
	}
	p.shownBefore = p.before.Shown()
	p.held = holdersOf(p.shownBefore, p.Settings.Class)
	if p.speakers != nil {
		in := p.speakersOf(p.Snapshot, p.before, p.shownBefore)
		p.nodesBefore = p.speakers.Then(in, speakerplan.Fate{}, p.before.At())
	}
	p.readyBefore = p.readyOf(p.before, p.nodesBefore, p.Snapshot)

	if p.after, err = p.before.Then(p.snapshotOf(changed)); err != nil {
		return fmt.Errorf("decide as the controller does: %w", err)
	}
	p.shownAfter = p.after.Shown()
	p.holds = holdersOf(p.shownAfter, p.Settings.Class)
	if p.speakers != nil {
		fate := speakerplan.Fate{Failed: p.change.Failed, Added: p.change.Added}
		p.nodesAfter = p.speakers.Then(p.speakersOf(changed, p.after, p.shownAfter), fate, p.after.At())
	}
	return nil
}

// readyOf returns what the Ready conditions come to say.
func (p *planning) readyOf(
	planned controllerplan.Plan, nodes *speakerplan.Plan, s *snapshot.Snapshot,
) []config.Problem {
	if nodes == nil {
		return planned.Ready(s.Speakers)
	}
	return planned.Ready(nodes.Sessions(s.Speakers))
}

// holdersOf returns the Services that have each address.
func holdersOf(shown []corev1.Service, class string) map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for i := range shown {
		s := &shown[i]
		if assignment.Serves(s, class) {
			for _, addr := range assignment.StatusAddresses(s) {
				out[addr] = append(out[addr], s.Namespace+"/"+s.Name)
			}
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// assignedOf is what becomes of one Service.
type assignedOf struct {
	reason, message string
	addresses       []string
}

// assignments returns what becomes of each Service that is handled.
func assignments(
	planned controllerplan.Plan, shown []corev1.Service,
) map[types.NamespacedName]assignedOf {
	out := map[types.NamespacedName]assignedOf{}
	for _, s := range planned.Services {
		out[s.Key] = assignedOf{reason: string(s.Reason), message: s.Message}
	}
	for i := range shown {
		s := &shown[i]
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		one, handled := out[key]
		if !handled {
			continue
		}
		for _, addr := range assignment.StatusAddresses(s) {
			one.addresses = append(one.addresses, addr.String())
		}
		out[key] = one
	}
	return out
}

// services says which Services get, lose or change addresses.
func (p *planning) services() {
	before, after := assignments(p.before, p.shownBefore), assignments(p.after, p.shownAfter)
	all := map[types.NamespacedName]bool{}
	for _, of := range []map[types.NamespacedName]assignedOf{before, after} {
		for key := range of {
			all[key] = true
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(all), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}) {
		was, is := before[key], after[key]
		if was.reason == is.reason && slices.Equal(was.addresses, is.addresses) {
			continue
		}
		row := v1alpha1.ServiceChange{
			Namespace:    key.Namespace,
			Name:         key.Name,
			Change:       "Changes",
			Before:       was.addresses,
			After:        is.addresses,
			ReasonBefore: was.reason,
			Reason:       is.reason,
			Message:      is.message,
		}
		switch {
		case slices.Equal(was.addresses, is.addresses):
			row.Change = "Stays"
		case containsAll(is.addresses, was.addresses):
			row.Change = "Gets"
		case containsAll(was.addresses, is.addresses):
			row.Change = "Loses"
		}
		if is.reason == "" {
			row.Message = "It is deleted, or Berth no longer handles it."
		}
		p.out.Services = append(p.out.Services, row)
	}
}

// lastGood is what the condition of an invalid object says that had been valid.
const lastGood = "last good version stays in force"

// invalid says of which objects it is not known what of them is in force.
func (p *planning) invalid() {
	for ref, conditions := range p.conditions() {
		c := meta.FindStatusCondition(conditions, v1beta1.ConditionReady)
		if c != nil && c.Reason == string(v1beta1.ReasonInvalid) && strings.Contains(c.Message, lastGood) {
			p.unknown("%s is invalid, and its last good version is in force, which no object says: what "+
				"depends on it is not known.", ref)
		}
	}
	slices.Sort(p.out.Unknown)
}

// containsAll reports whether all words of some are among all.
func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(one string) bool { return !slices.Contains(all, one) })
}

// pools says how full pools are, before and after.
func (p *planning) pools() {
	names := map[string]bool{}
	for _, planned := range []controllerplan.Plan{p.before, p.after} {
		for name := range planned.Pools {
			names[name] = true
		}
	}
	for _, name := range sortedKeys(names) {
		was, is := p.before.Pools[name], p.after.Pools[name]
		row := v1alpha1.PoolChange{
			Name:             name,
			Before:           useOf(name, p.before),
			After:            useOf(name, p.after),
			OutOfRangeBefore: len(was.Outside),
			OutOfRange:       len(is.Outside),
		}
		row.Differs = (row.Before == nil) != (row.After == nil) || was.Counts != is.Counts ||
			was.Excluded4 != is.Excluded4 || was.Excluded6 != is.Excluded6 ||
			len(was.Outside) != len(is.Outside)
		p.out.Pools = append(p.out.Pools, row)
		if !is.Rested.IsZero() && is.Resting4+is.Resting6 > was.Resting4+was.Resting6 {
			p.remark("Addresses of pool %s that are given back rest (reuseDelay), the first for %s: who "+
				"waits for one gets it then.", name, is.Rested.Sub(p.after.At()).Round(time.Second))
		}
	}
}

// useOf returns how full a pool is, nil if there is none.
func useOf(name string, planned controllerplan.Plan) *v1alpha1.PoolUse {
	c, there := planned.Pools[name]
	if !there {
		return nil
	}
	return &v1alpha1.PoolUse{
		Name: name,
		IPv4: sized(v1alpha1.PoolSize{
			Assigned: c.Assigned4,
			Free:     c.Available4,
			Resting:  c.Resting4,
			Excluded: c.Excluded4,
		}),
		IPv6: sized(v1alpha1.PoolSize{
			Assigned: c.Assigned6,
			Free:     c.Available6,
			Resting:  c.Resting6,
			Excluded: c.Excluded6,
		}),
	}
}

// ready says which objects come to be in force or not.
func (p *planning) ready(changed *snapshot.Snapshot) {
	type key struct{ kind, name string }
	before := map[key]config.Problem{}
	for _, b := range p.readyBefore {
		before[key{b.Kind, b.Name}] = b
	}
	for _, is := range p.readyOf(p.after, p.nodesAfter, changed) {
		was, had := before[key{is.Kind, is.Name}]
		accepted := is.Reason == v1beta1.ReasonAccepted
		if was.Reason == is.Reason && (accepted || was.Message == is.Message) || !had && accepted {
			continue
		}
		p.out.Objects = append(p.out.Objects, v1alpha1.ReadyChange{
			Object:  v1alpha1.Ref{Kind: strings.ToLower(is.Kind), Name: is.Name},
			Before:  string(was.Reason),
			Reason:  string(is.Reason),
			Message: is.Message,
		})
	}
}

// announcements says which addresses move, and what routers are told.
func (p *planning) announcements() error {
	if p.nodesBefore == nil {
		p.unknown("Which nodes announce addresses and routes is not known: %s.", p.whyNoSpeakers())
		return nil
	}
	was := slices.SortedFunc(maps.Keys(p.held), netip.Addr.Compare)
	is := slices.SortedFunc(maps.Keys(p.holds), netip.Addr.Compare)
	if err := p.moves(was, is); err != nil {
		return err
	}
	routes, err := speakerplan.RouteChanges(p.nodesBefore, p.nodesAfter, was, is)
	if err != nil {
		return fmt.Errorf("decide as the speakers do: %w", err)
	}
	for i, r := range routes {
		row := v1alpha1.RouteChange{
			Peer:    r.Peer,
			Prefix:  r.Prefix.String(),
			Before:  r.Before,
			After:   r.After,
			Gained:  someOf(r.Gained),
			Lost:    someOf(r.Lost),
			Changed: someOf(r.Changed),
			As:      attributesOf(r.As),
		}
		at, _ := slices.BinarySearchFunc(was, r.Prefix.Addr(), netip.Addr.Compare)
		if len(r.Lost) > 0 && i < mostDecided && at < len(was) && r.Prefix.Contains(was[at]) {
			reason, err := p.nodesAfter.WhyNotTold(was[at], r.Lost[0])
			if err != nil {
				return fmt.Errorf("decide as the speakers do: %w", err)
			}
			row.Reason = string(reason)
		}
		p.out.Routes = append(p.out.Routes, row)
	}
	return nil
}

// moves says which addresses other nodes come to answer for.
func (p *planning) moves(was, is []netip.Addr) error {
	all := slices.Concat(was, is)
	slices.SortFunc(all, netip.Addr.Compare)
	unlisted, decided := 0, 0
	for _, addr := range slices.Compact(all) {
		if !p.layer2Complete && p.held[addr] != nil && len(p.speakers.Claims(addr)) == 0 {
			unlisted++
			continue
		}
		from, err := p.nodesBefore.Owner(addr)
		if err != nil {
			return fmt.Errorf("decide as the speakers do: %w", err)
		}
		to, err := p.nodesAfter.Owner(addr)
		if err != nil {
			return fmt.Errorf("decide as the speakers do: %w", err)
		}
		if from == to {
			continue
		}
		row := v1alpha1.AddressChange{Address: addr.String(), Services: p.holds[addr], From: from, To: to}
		if row.Services == nil {
			row.Services = p.held[addr]
		}
		if err := p.why(addr, &row, &decided); err != nil {
			return err
		}
		p.out.Addresses = append(p.out.Addresses, row)
	}
	if unlisted > 0 {
		p.unknown("Which nodes own %d of the addresses is not known, and so not whether they move: some "+
			"Speaker objects have no room to list all that their nodes own.", unlisted)
	}
	return nil
}

// why says why an address moves. decided counts the addresses of which it was asked why
// nobody has them.
func (p *planning) why(addr netip.Addr, row *v1alpha1.AddressChange, decided *int) error {
	if row.To == "" && *decided < mostDecided {
		*decided++
		d, err := p.nodesAfter.Layer2(addr)
		if err != nil {
			return fmt.Errorf("decide as the speakers do: %w", err)
		}
		row.Reason, row.Message = string(d.Reason), d.Message
		return nil
	}
	d, err := p.nodesAfter.Takes(addr, row.From, row.To)
	if err != nil {
		return fmt.Errorf("decide as the speakers do: %w", err)
	}
	row.Reason, row.Message = string(cmp.Or(v1beta1.Reason(d.Cause), d.Reason)), ""
	if not := d.WhyNot(row.From); not != "" {
		row.Message = fmt.Sprintf("Node %s: %s.", row.From, not)
	}
	return nil
}

// mostPlanned is how many nodes that tell a prefix are named.
const mostPlanned = 20

// someOf returns nodes, the first of many; nil for none.
func someOf(nodes []string) *v1alpha1.SomeOf {
	if len(nodes) == 0 {
		return nil
	}
	return &v1alpha1.SomeOf{Count: len(nodes), Nodes: nodes[:min(len(nodes), mostPlanned)]}
}

// attributesOf returns the attributes of a route.
func attributesOf(a bgp.Attributes) v1alpha1.RouteAttr {
	out := v1alpha1.RouteAttr{LocalPref: a.LocalPref, Prepend: a.Prepend}
	if a.HasMED {
		out.MED = &a.MED
	}
	for _, c := range a.Communities {
		out.Communities = append(out.Communities, c.String())
	}
	return out
}

// conclude says what all this comes to.
func (p *planning) conclude() {
	o := p.out
	differs := slices.ContainsFunc(o.Pools, func(r v1alpha1.PoolChange) bool { return r.Differs })
	switch {
	case differs || len(o.Services)+len(o.Addresses)+len(o.Routes)+len(o.Objects) > 0:
		o.Verdict = VerdictDifferences
	case len(o.Unknown) > 0 || p.Settings.ClassUnknown != "":
		o.Verdict = VerdictUnknown
	default:
		o.Verdict = VerdictNoDifference
	}
	if last := p.after.At().Sub(p.before.At()); last > 0 {
		p.remark("Deleted pools keep for %s what Services have of them: what is said here is what comes "+
			"after that.", last.Round(time.Second))
	}
}
