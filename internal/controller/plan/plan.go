// Package plan says what the controller would decide about a snapshot of API objects:
// it runs the same code on them, and needs no cluster.
package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/internal/controller/configuration"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// Snapshot is a cluster at one moment, as its API objects show it.
type Snapshot struct {
	// Objects are what users configure Berth with. What is to be known of nodes need not
	// be in it.
	Objects    config.Objects
	Services   []corev1.Service      // of all types
	Namespaces map[string]labels.Set // the labels of each, by name
	Nodes      []corev1.Node
	Speakers   []v1beta1.Speaker

	Class     string // spec.loadBalancerClass of the Services that Berth serves
	Namespace string // Berth's own
}

// Plan is what the controller makes of a Snapshot.
type Plan struct {
	Config   *config.Config // what is in force
	Problems []config.Problem
	Services []Service // that Berth serves, by namespace and name
	// Pools are the counts of each pool in force, by name. What was released lately is not
	// known to rest: no API object lists that.
	Pools map[string]state.PoolCounts

	remembered *state.State
	now        time.Time
	// services are those of type LoadBalancer, as their statuses come to be, by name;
	// others names the rest, as far as they name external IPs.
	services map[types.NamespacedName]*corev1.Service
	others   map[types.NamespacedName]bool
	// pools are the IPAddressPools, as their statuses come to be.
	pools []v1beta1.IPAddressPool
}

// Service is what becomes of one Service.
type Service struct {
	Key types.NamespacedName
	assignment.Decision
	// Announced is what becomes of it by BGP, judged from what the speakers list now. Its
	// reason is "" where BGP has no part in it.
	Announced announced.Outcome
}

// Of returns the plan for a snapshot, as a controller makes it that starts at the time
// now: it adopts the addresses that Services have, then decides for the oldest Service
// first, and again for those that a decision concerns, until nothing changes. It does
// not change the snapshot.
func Of(in Snapshot, now time.Time) (Plan, error) {
	objects := configuration.WithNodes(in.Objects, in.Namespace, in.Nodes, in.Speakers)
	remembered := state.New()
	_, problems := remembered.SetConfig(objects, now)
	var services []corev1.Service // of type LoadBalancer
	others := map[types.NamespacedName]bool{}
	for i := range in.Services {
		s := &in.Services[i]
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			services = append(services, *s)
			continue
		}
		if addrs := assignment.ExternalIPsOf(s); len(addrs) > 0 {
			remembered.SetExternalIPs(keyOf(s), state.SourceOthers, addrs, now)
			others[keyOf(s)] = true
		}
	}
	remembered.AdoptAll(services, in.Class, now)

	d := newDecider(in, remembered, services, now)
	if err := d.decide(d.served()); err != nil {
		return Plan{}, err
	}
	c, nodes := remembered.Configuration()
	outcomes := announced.Evaluate(announced.InputOf(c, nodes, in.Class, services, in.Speakers))

	out := Plan{
		Config:     c,
		Problems:   problems,
		Pools:      remembered.Counts(now),
		remembered: remembered,
		now:        now,
		services:   d.services,
		others:     others,
		pools:      in.Objects.Pools,
	}
	out.take(d.decisions)
	for i := range out.Services {
		out.Services[i].Announced = outcomes[out.Services[i].Key]
	}
	return out, nil
}

// take takes over the decisions for Services, by name.
func (p *Plan) take(decisions map[types.NamespacedName]assignment.Decision) {
	for key, d := range decisions {
		p.Services = append(p.Services, Service{Key: key, Decision: d})
	}
	slices.SortFunc(p.Services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
}

// asker is the name of a Service that nobody can have: it holds no valid characters.
const asker = "(kubectl berth)"

// Ask says what would be decided for a Service that asks for an address, once all that is
// planned is done. It is of no sharing key, no labels, and of the namespace "default". It
// changes nothing.
func (p Plan) Ask(addr netip.Addr) (assignment.Decision, error) {
	clusterIP := "127.0.0.1" // it tells the family
	if addr.Is6() {
		clusterIP = "::1"
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         metav1.NamespaceDefault,
			Name:              asker,
			CreationTimestamp: metav1.NewTime(p.now),
			Annotations:       map[string]string{v1beta1.AnnotationLoadBalancerIPs: addr.String()},
		},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeLoadBalancer,
			ClusterIPs: []string{clusterIP},
		},
	}
	decided, err := p.remembered.Decide(service, nil, p.now)
	p.remembered.Release(keyOf(service), p.now)
	return decided.Decision, err
}

// mostDecisions is how many decisions there may be for each Service on average before
// the plan is given up. Few Services need a second one.
const mostDecisions = 100

// decider decides for Services, one after the other.
type decider struct {
	in         Snapshot
	remembered *state.State
	now        time.Time
	// services are those of type LoadBalancer, which it changes, and order their names,
	// those that are served in the order in which a controller adopts them.
	services  map[types.NamespacedName]*corev1.Service
	order     []types.NamespacedName
	decisions map[types.NamespacedName]assignment.Decision
}

// newDecider returns a decider for these Services, which it changes.
func newDecider(in Snapshot, remembered *state.State, services []corev1.Service, now time.Time) *decider {
	d := &decider{
		in:         in,
		remembered: remembered,
		now:        now,
		services:   map[types.NamespacedName]*corev1.Service{},
		decisions:  map[types.NamespacedName]assignment.Decision{},
	}
	for i := range services {
		s := &services[i]
		d.services[keyOf(s)] = s
		d.order = append(d.order, keyOf(s))
	}
	return d
}

// served returns the Services that are served, in their order.
func (d *decider) served() []types.NamespacedName {
	return slices.DeleteFunc(slices.Clone(d.order), func(key types.NamespacedName) bool {
		return !assignment.Serves(d.services[key], d.in.Class)
	})
}

// decide decides for Services in this order, each once, and then for those that this
// concerns.
func (d *decider) decide(keys []types.NamespacedName) error {
	var queue []types.NamespacedName
	queued := map[types.NamespacedName]bool{}
	add := func(key types.NamespacedName) {
		s := d.services[key]
		if !queued[key] && s != nil && assignment.Serves(s, d.in.Class) {
			queue, queued[key] = append(queue, key), true
		}
	}
	for _, key := range keys {
		add(key)
	}
	for n := 0; len(queue) > 0; n++ {
		if n > mostDecisions*len(d.services) {
			return fmt.Errorf("the decisions for %d Services do not come to an end", len(d.services))
		}
		key := queue[0]
		queue, queued[key] = queue[1:], false
		s := d.services[key]
		decided, err := d.remembered.Decide(s, d.in.Namespaces[s.Namespace], d.now)
		if err != nil {
			return err
		}
		d.decisions[key] = decided.Decision
		show(s, decided.Decision)
		for _, other := range decided.Wake {
			add(other)
		}
	}
	return nil
}

// show writes a decision into the status of a Service, as the controller does before it
// decides about the Service again.
func show(s *corev1.Service, d assignment.Decision) {
	if !d.LeaveStatus {
		s.Status.LoadBalancer.Ingress = nil
		for _, addr := range d.Addresses {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress,
				corev1.LoadBalancerIngress{IP: addr.String()})
		}
	}
	status := metav1.ConditionFalse
	if d.Assigned() {
		status = metav1.ConditionTrue
	}
	s.Status.Conditions = slices.Clone(s.Status.Conditions) // they are the snapshot's
	meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{
		Type:    v1beta1.ConditionAddressAssigned,
		Status:  status,
		Reason:  string(d.Reason),
		Message: d.Message,
	})
}

func keyOf(s *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}
