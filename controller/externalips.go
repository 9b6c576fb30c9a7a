package main

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/pkg/assignment"
)

// Sources of what Services name in spec.externalIPs.
const (
	ofLoadBalancers = "" // the cache of Services of type LoadBalancer
	ofOthers        = "others"
)

// otherServices follows the Services that are not of type LoadBalancer, for what they
// name in spec.externalIPs. No selector of the API server finds those that name
// something, so all are followed, and kept is only who names something. It is a store
// of client-go, which has one goroutine tell it what the API server says.
type otherServices struct {
	// named is told what a Service names, where it names something or did.
	named func(types.NamespacedName, []netip.Addr)

	naming map[types.NamespacedName]struct{} // who named something last
	synced chan struct{}                     // closed when all were read once
}

func newOtherServices(named func(types.NamespacedName, []netip.Addr)) *otherServices {
	return &otherServices{named: named, naming: map[types.NamespacedName]struct{}{}, synced: make(chan struct{})}
}

// run follows the Services until ctx ends. While the API server is away, what was
// read last counts.
func (o *otherServices) run(ctx context.Context, from toolscache.ListerWatcher) error {
	options := toolscache.ReflectorOptions{Name: "services with external IPs"}
	toolscache.NewReflectorWithOptions(from, &corev1.Service{}, o, options).RunWithContext(ctx)
	return nil
}

// otherThanLoadBalancers lists and watches the Services of other types.
func otherThanLoadBalancers(api client.WithWatch) toolscache.ListerWatcher {
	selected := func(raw metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{
			FieldSelector: fields.OneTermNotEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)),
			Limit:         raw.Limit,
			Continue:      raw.Continue,
			Raw:           &raw,
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
func (o *otherServices) Transformer() toolscache.TransformFunc {
	return func(in any) (any, error) {
		s, ok := in.(*corev1.Service)
		if !ok {
			return in, nil
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
		}, nil
	}
}

// Add implements toolscache.ReflectorStore, as do all that follow.
func (o *otherServices) Add(object any) error { return o.Update(object) }

// Update notes what a Service names now.
func (o *otherServices) Update(object any) error {
	s, ok := object.(*corev1.Service)
	if !ok {
		return fmt.Errorf("a %T among Services", object)
	}
	o.set(client.ObjectKeyFromObject(s), assignment.ExternalIPsOf(s))
	return nil
}

// Delete notes that a Service is gone, or of type LoadBalancer now.
func (o *otherServices) Delete(object any) error {
	name, err := toolscache.DeletionHandlingObjectToName(object)
	if err != nil {
		return err
	}
	o.set(types.NamespacedName{Namespace: name.Namespace, Name: name.Name}, nil)
	return nil
}

// Replace notes what all Services name.
func (o *otherServices) Replace(list []any, _ string) error {
	named := map[types.NamespacedName][]netip.Addr{}
	for _, object := range list {
		s, ok := object.(*corev1.Service)
		if !ok {
			return fmt.Errorf("a %T among Services", object)
		}
		if addrs := assignment.ExternalIPsOf(s); len(addrs) > 0 {
			named[client.ObjectKeyFromObject(s)] = addrs
		}
	}
	for key := range o.naming {
		if named[key] == nil {
			o.set(key, nil)
		}
	}
	for key, addrs := range named {
		o.set(key, addrs)
	}
	if !isClosed(o.synced) {
		close(o.synced)
	}
	return nil
}

// Resync has nothing to do.
func (o *otherServices) Resync() error { return nil }

// set tells what a Service names.
func (o *otherServices) set(key types.NamespacedName, addrs []netip.Addr) {
	if _, before := o.naming[key]; !before && len(addrs) == 0 {
		return
	}
	if len(addrs) > 0 {
		o.naming[key] = struct{}{}
	} else {
		delete(o.naming, key)
	}
	o.named(key, addrs)
}
