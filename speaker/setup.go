package main

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/pkg/announcement"
)

// addressQueue holds the addresses that a changed object concerns.
type addressQueue = workqueue.TypedRateLimitingInterface[netip.Addr]

// setupControllers sets up the watches: each maps objects to the addresses that they
// concern.
func setupControllers(mgr manager.Manager, sp *speaker) error {
	class, queue := sp.settings.Kube.Class, sp.queue
	requeue := func(_ context.Context, addr netip.Addr) (reconcile.Result, error) {
		queue.Requeue(addr)
		return reconcile.Result{}, nil
	}
	err := builder.TypedControllerManagedBy[netip.Addr](mgr).Named("address").
		Watches(&corev1.Service{}, serviceAddresses(class)).
		Watches(&discoveryv1.EndpointSlice{}, sliceAddresses(sp.cluster)).
		Complete(reconcile.TypedFunc[netip.Addr](requeue))
	if err != nil {
		return err
	}
	err = builder.TypedControllerManagedBy[struct{}](mgr).Named("addresses").
		Watches(&corev1.Node{}, toEverything(), builder.WithPredicates(nodeChanged())).
		Complete(reconcile.TypedFunc[struct{}](func(context.Context, struct{}) (reconcile.Result, error) {
			queue.RequeueAll()
			return reconcile.Result{}, nil
		}))
	if err != nil {
		return err
	}
	// A cluster without any object has a configuration too.
	first := &kube.Queue[reconcile.Request]{}
	first.Add(kube.WholeConfig)
	whole := ctrl.NewControllerManagedBy(mgr).Named("configuration").WatchesRawSource(first)
	for _, kind := range sp.settings.protocols().ConfigKinds() {
		whole = whole.Watches(kind, kube.ToWholeConfig(), builder.WithPredicates(kube.ConfigChanged()))
	}
	if sp.bgp != nil {
		whole = whole.WatchesRawSource(sp.others.Queue()).Watches(&corev1.Secret{}, kube.ToWholeConfig())
	}
	configure := func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
		objects, err := sp.cluster.ConfigObjects(ctx)
		if err != nil {
			return reconcile.Result{}, err
		}
		now := time.Now()
		recheck := sp.config.Set(objects, now)
		sp.requeueAll()
		sp.tracker.Wake() // links may be named now
		if recheck.IsZero() {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{RequeueAfter: recheck.Sub(now)}, nil
	}
	if err := whole.Complete(reconcile.Func(configure)); err != nil {
		return err
	}
	if err := watchNode(mgr, sp); err != nil {
		return err
	}
	return watchMembers(mgr, sp)
}

// watchNode has routes planned again when the Node object of this node changes.
func watchNode(mgr manager.Manager, sp *speaker) error {
	if sp.bgp == nil {
		return nil
	}
	return ctrl.NewControllerManagedBy(mgr).Named("node").
		Watches(&corev1.Node{}, kube.ToWholeConfig(),
			builder.WithPredicates(bgpNodeChanged(sp.settings.Node))).
		Complete(reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
			sp.bgp.NodeChanged()
			return reconcile.Result{}, nil
		}))
}

// watchMembers sets up the watches that say which other speakers there are.
func watchMembers(mgr manager.Manager, sp *speaker) error {
	speakers := builder.WithPredicates(speakerChanged(sp.settings.Node))
	others := ctrl.NewControllerManagedBy(mgr).Named("members")
	var err error
	if sp.member == nil {
		err = others.Watches(&corev1.Node{}, kube.ToWholeConfig(), builder.WithPredicates(nodeChanged())).
			Watches(&v1beta1.Speaker{}, kube.ToWholeConfig(), speakers).
			Complete(sp.listing)
	} else {
		err = others.Watches(&corev1.Node{}, kube.ToWholeConfig(),
			builder.WithPredicates(nodeAddressesChanged())).
			Complete(members.NewNodes(mgr.GetCache(), sp.member.members))
	}
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("speakers").
		Watches(&v1beta1.Speaker{}, kube.ToWholeConfig(), speakers).
		Complete(sp.peers)
}

// serviceAddresses maps a Service to the addresses it has and had.
func serviceAddresses(class string) handler.TypedEventHandler[client.Object, netip.Addr] {
	add := func(o client.Object, q addressQueue) {
		for _, addr := range cluster.ServedAddresses(o.(*corev1.Service), class) {
			q.Add(addr)
		}
	}
	return handler.TypedFuncs[client.Object, netip.Addr]{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q addressQueue) { add(e.Object, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q addressQueue) { add(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q addressQueue) {
			add(e.ObjectOld, q)
			add(e.ObjectNew, q)
		},
	}
}

// sliceAddresses maps an EndpointSlice to the addresses of its Service.
func sliceAddresses(from *cluster.Reader) handler.TypedEventHandler[client.Object, netip.Addr] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []netip.Addr {
		return from.AddressesOf(ctx, o.(*discoveryv1.EndpointSlice))
	})
}

func toEverything() handler.TypedEventHandler[client.Object, struct{}] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(context.Context, client.Object) []struct{} {
		return []struct{}{{}}
	})
}

// nodeChanged passes changes that decisions depend on, and no heartbeats of a node.
func nodeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before := announcement.ParseNode(e.ObjectOld.(*corev1.Node))
		after := announcement.ParseNode(e.ObjectNew.(*corev1.Node))
		return !before.Equal(after)
	}}
}

// bgpNodeChanged passes changes of this node that the configuration of BGP peers may depend
// on.
func bgpNodeChanged(node string) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return e.Object.GetName() == node },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before := cluster.ParseNode(e.ObjectOld.(*corev1.Node))
			after := cluster.ParseNode(e.ObjectNew.(*corev1.Node))
			return e.ObjectNew.GetName() == node && !reflect.DeepEqual(before, after)
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// nodeAddressesChanged passes changes of the addresses of a node.
func nodeAddressesChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before := members.NodeAddresses(e.ObjectOld.(*corev1.Node))
		after := members.NodeAddresses(e.ObjectNew.(*corev1.Node))
		return !slices.Equal(before, after)
	}}
}

// speakerChanged passes what others need to know of a Speaker, and every change of this
// node's own.
func speakerChanged(node string) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return members.ObjectChanged(e.ObjectOld.(*v1beta1.Speaker), e.ObjectNew.(*v1beta1.Speaker), node)
	}}
}
