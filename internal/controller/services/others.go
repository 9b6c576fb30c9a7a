package services

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/assignment"
)

// Others follows the Services that are not of type LoadBalancer: for what they
// name in spec.externalIPs, and for Berth's condition, which one that was of type
// LoadBalancer carries until Berth has cleared its status. No selector of the API
// server finds either, so all are followed, and only those are remembered. It is a
// store of client-go, one goroutine of which reports what the API server sends.
type Others struct {
	state  *state.State
	queues *shared.Queues

	// naming are those that named something last, left those that carried Berth's
	// condition.
	naming, left map[types.NamespacedName]struct{}
}

// NewOthers returns a store that has seen no Service yet.
func NewOthers(with shared.Shared) *Others {
	return &Others{
		state:  with.State,
		queues: with.Queues,
		naming: map[types.NamespacedName]struct{}{},
		left:   map[types.NamespacedName]struct{}{},
	}
}

// Run follows the Services until ctx ends. While the API server is away, what was
// read last counts.
func (o *Others) Run(ctx context.Context, from toolscache.ListerWatcher) error {
	options := toolscache.ReflectorOptions{Name: "services with external IPs"}
	toolscache.NewReflectorWithOptions(from, &corev1.Service{}, o, options).RunWithContext(ctx)
	return nil
}

// OtherThanLoadBalancers lists and watches the Services of other types.
func OtherThanLoadBalancers(api client.WithWatch) *toolscache.ListWatch {
	selected := func(raw metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{
			FieldSelector: fields.OneTermNotEqualSelector("spec.type",
				string(corev1.ServiceTypeLoadBalancer)),
			Limit:    raw.Limit,
			Continue: raw.Continue,
			Raw:      &raw,
		}
	}
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			var list corev1.ServiceList
			err := api.List(ctx, &list, selected(raw))
			return &list, err
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (watch.Interface, error) {
			return api.Watch(ctx, &corev1.ServiceList{}, selected(raw))
		},
	}
}

// Transformer has client-go drop, of what it gathers, all that is not read.
func (o *Others) Transformer() toolscache.TransformFunc {
	return func(in any) (any, error) {
		s, ok := in.(*corev1.Service)
		if !ok {
			return in, nil
		}
		var ours []metav1.Condition
		if c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned); c != nil {
			ours = []metav1.Condition{{Type: c.Type}}
		}
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:       s.Namespace,
				Name:            s.Name,
				UID:             s.UID,
				ResourceVersion: s.ResourceVersion,
			},
			Spec: corev1.ServiceSpec{
				Type:        s.Spec.Type,
				ClusterIP:   s.Spec.ClusterIP,
				ExternalIPs: s.Spec.ExternalIPs,
			},
			Status: corev1.ServiceStatus{Conditions: ours},
		}, nil
	}
}

// Add implements toolscache.ReflectorStore, as do all that follow.
func (o *Others) Add(object any) error { return o.Update(object) }

// Update notes what a Service names now, and whether Berth has still to leave it.
func (o *Others) Update(object any) error {
	s, ok := object.(*corev1.Service)
	if !ok {
		return fmt.Errorf("a %T among Services", object)
	}
	o.set(client.ObjectKeyFromObject(s), assignment.ExternalIPsOf(s), carriesCondition(s))
	return nil
}

// carriesCondition reports whether Berth decided about a Service when it was of type
// LoadBalancer, and has not cleared its status since.
func carriesCondition(s *corev1.Service) bool {
	return meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned) != nil
}

// Delete notes that a Service is gone, or of type LoadBalancer now.
func (o *Others) Delete(object any) error {
	name, err := toolscache.DeletionHandlingObjectToName(object)
	if err != nil {
		return err
	}
	o.set(types.NamespacedName{Namespace: name.Namespace, Name: name.Name}, nil, false)
	return nil
}

// Replace notes what all Services name, and which of them Berth has still to leave.
func (o *Others) Replace(list []any, _ string) error {
	known := map[types.NamespacedName]*corev1.Service{}
	for _, object := range list {
		s, ok := object.(*corev1.Service)
		if !ok {
			return fmt.Errorf("a %T among Services", object)
		}
		known[client.ObjectKeyFromObject(s)] = s
	}
	for _, remembered := range []map[types.NamespacedName]struct{}{o.naming, o.left} {
		for key := range remembered {
			if known[key] == nil {
				o.set(key, nil, false)
			}
		}
	}
	for key, s := range known {
		o.set(key, assignment.ExternalIPsOf(s), carriesCondition(s))
	}
	o.state.Synced.Set()
	return nil
}

// Resync has nothing to do.
func (o *Others) Resync() error { return nil }

// set records what a Service names, and whether Berth has still to leave it, where
// either is so or was.
func (o *Others) set(key types.NamespacedName, addrs []netip.Addr, left bool) {
	if keep(o.naming, key, len(addrs) > 0) {
		o.queues.Propagate(o.state.SetExternalIPs(key, state.SourceOthers, addrs, time.Now()))
	}
	if !keep(o.left, key, left) {
		return
	}
	o.state.SetLeft(key, left)
	// Before the addresses are adopted nothing is decided; then adopt wakes them all.
	if left && o.state.Adopted.IsSet() {
		o.queues.WakeLast([]types.NamespacedName{key})
	}
}

// keep remembers a key, or forgets it, and reports whether it is remembered or was.
func keep(in map[types.NamespacedName]struct{}, key types.NamespacedName, is bool) (concerned bool) {
	_, was := in[key]
	if is {
		in[key] = struct{}{}
	} else {
		delete(in, key)
	}
	return is || was
}
