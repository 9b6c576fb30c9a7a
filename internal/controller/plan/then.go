package plan

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/configuration"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// mostRounds is how often the configuration may be read again before a plan is given up.
// Each deleted pool needs two more.
const mostRounds = 20

// Then returns what a controller comes to that has done all that p plans when the objects
// become those of in: it goes on until nothing is left to do, and so until the grace of
// deleted pools is over. Addresses that rest then go on resting. It takes over what p
// remembers, so p is not to be asked any more. It changes neither snapshot.
//
// It does what the controller does, in this order: the configuration comes in force, with
// what is known of nodes; Services that are gone give back what they have; those that wait
// are decided for, the oldest first, then those that have changed, then all others, the
// oldest first. A real controller may take the others in another order.
func (p Plan) Then(in Snapshot) (Plan, error) {
	d := newDecider(in, p.remembered, p.loadBalancers(in), p.now)
	objects := configuration.WithNodes(in.Objects, in.Namespace, in.Nodes, in.Speakers)
	objects.Pools = p.poolsOf(in.Objects.Pools)
	_, problems := d.remembered.SetConfig(objects, d.now)
	woken, others := d.leave(p, in)
	first := slices.Concat(woken, d.remembered.Waiting(), d.changed(p))
	if err := d.decide(append(first, d.served()...)); err != nil {
		return Plan{}, err
	}

	for round := 0; ; round++ {
		again := d.writePools(&objects)
		c, _ := d.remembered.Configuration()
		switch {
		case round == mostRounds:
			return Plan{}, errors.New("the configuration does not come to rest")
		case !again && c.Recheck.IsZero():
			out := Plan{
				Config:     c,
				Problems:   problems,
				Pools:      d.remembered.Counts(d.now),
				remembered: d.remembered,
				now:        d.now,
				services:   d.services,
				others:     others,
				pools:      objects.Pools,
			}
			out.take(d.decisions)
			return out, nil
		case !again:
			d.now = c.Recheck
		}
		_, problems = d.remembered.SetConfig(objects, d.now)
		if err := d.decide(append(d.remembered.Waiting(), d.served()...)); err != nil {
			return Plan{}, err
		}
	}
}

// At returns when all that is planned has happened.
func (p Plan) At() time.Time { return p.now }

// Ready returns what the Ready condition of each configuration object comes to say, as the
// speakers report, by kind and name.
func (p Plan) Ready(speakers []v1beta1.Speaker) []config.Problem {
	return configuration.Judge(p.remembered, speakers)
}

// Shown returns the Services of type LoadBalancer as their statuses come to be, in no
// order. They must not be changed.
func (p Plan) Shown() []corev1.Service {
	out := make([]corev1.Service, 0, len(p.services))
	for _, s := range p.services {
		out = append(out, *s)
	}
	return out
}

// loadBalancers returns the Services of type LoadBalancer of a snapshot, with the statuses
// that p plans, the oldest first.
func (p Plan) loadBalancers(in Snapshot) []corev1.Service {
	var out []corev1.Service
	for i := range in.Services {
		s := in.Services[i]
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		if before := p.services[keyOf(&s)]; before != nil && before.UID == s.UID {
			s.Status = before.Status
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b corev1.Service) int {
		return cmp.Or(
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return out
}

// poolsOf returns pools with the statuses that p plans.
func (p Plan) poolsOf(pools []v1beta1.IPAddressPool) []v1beta1.IPAddressPool {
	before := map[string]*v1beta1.IPAddressPool{}
	for i := range p.pools {
		before[p.pools[i].Name] = &p.pools[i]
	}
	out := slices.Clone(pools)
	for i := range out {
		if b := before[out[i].Name]; b != nil && b.UID == out[i].UID {
			out[i].Status = b.Status
		}
	}
	return out
}

// leave ends Berth's part in Services that are gone, were made anew or are not served any
// more, and records what all name in spec.externalIPs. It returns the Services that this
// concerns, and those of other types that name something.
func (d *decider) leave(
	p Plan, in Snapshot,
) (woken []types.NamespacedName, others map[types.NamespacedName]bool) {
	note := func(e state.Effect) { woken = append(woken, e.Wake...) }
	others = map[types.NamespacedName]bool{}
	for i := range in.Services {
		s := &in.Services[i]
		key, addrs := keyOf(s), assignment.ExternalIPsOf(s)
		source := state.SourceLoadBalancers
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			if source = state.SourceOthers; len(addrs) == 0 && !p.others[key] {
				continue
			}
			others[key] = len(addrs) > 0
		}
		note(d.remembered.SetExternalIPs(key, source, addrs, d.now))
	}
	for _, key := range sortedKeys(p.others) {
		if _, still := others[key]; !still {
			note(d.remembered.SetExternalIPs(key, state.SourceOthers, nil, d.now))
		}
	}
	for _, key := range sortedKeys(p.services) {
		after := d.services[key]
		switch {
		case after == nil:
			note(d.remembered.SetExternalIPs(key, state.SourceLoadBalancers, nil, d.now))
		case after.UID == p.services[key].UID:
			continue
		}
		_, e := d.remembered.Release(key, d.now)
		note(e)
	}
	for _, key := range d.order {
		if s := d.services[key]; !assignment.Serves(s, d.in.Class) {
			note(d.unserve(s))
		}
	}
	return woken, others
}

// unserve takes what Berth gave out of the status of a Service that it does not serve. What
// another load balancer gave is in use all the same.
func (d *decider) unserve(s *corev1.Service) state.Effect {
	given := d.remembered.Given(keyOf(s))
	if len(given) > 0 && slices.Equal(assignment.StatusAddresses(s), given) {
		s.Status.LoadBalancer.Ingress = slices.DeleteFunc(slices.Clone(s.Status.LoadBalancer.Ingress),
			func(i corev1.LoadBalancerIngress) bool {
				addr, err := netip.ParseAddr(i.IP)
				return err == nil && slices.Contains(given, addr.Unmap())
			})
	}
	if d.remembered.Reserve(s, d.now) {
		return state.Effect{}
	}
	_, e := d.remembered.Release(keyOf(s), d.now)
	return e
}

// changed returns the Services that p does not know as they are now, in their order.
func (d *decider) changed(p Plan) []types.NamespacedName {
	var out []types.NamespacedName
	for _, key := range d.order {
		s, before := d.services[key], p.services[key]
		if before == nil || before.UID != s.UID || before.Generation != s.Generation ||
			before.ResourceVersion != s.ResourceVersion {
			out = append(out, key)
		}
	}
	return out
}

// writePools writes into the statuses of pools what the controller does, and reports
// whether the configuration is to be read again because of that.
func (d *decider) writePools(objects *config.Objects) (again bool) {
	pools := slices.Clone(objects.Pools)
	for i := range pools {
		known, inForce := d.remembered.Pool(pools[i].Name, d.now)
		if !inForce {
			continue
		}
		written := pools[i].DeepCopy()
		configuration.WritePool(written, known)
		again = again || !slices.Equal(pools[i].Status.OutOfRange, written.Status.OutOfRange) ||
			observed(&pools[i]) != observed(written)
		pools[i] = *written
	}
	objects.Pools = pools
	return again
}

// observed returns the generation of a pool that its Ready condition is of.
func observed(p *v1beta1.IPAddressPool) int64 {
	if c := meta.FindStatusCondition(p.Status.Conditions, v1beta1.ConditionReady); c != nil {
		return c.ObservedGeneration
	}
	return 0
}

func sortedKeys[V any](m map[types.NamespacedName]V) []types.NamespacedName {
	out := make([]types.NamespacedName, 0, len(m))
	for key := range m {
		out = append(out, key)
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}
