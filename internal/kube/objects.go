package kube

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// ConfigKinds are the kinds that users configure Berth with.
func ConfigKinds() []client.Object {
	return []client.Object{&v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{}}
}

// ConfigObjects reads all objects of the ConfigKinds.
func ConfigObjects(ctx context.Context, reader client.Reader) (config.Objects, error) {
	var pools v1beta1.IPAddressPoolList
	if err := reader.List(ctx, &pools); err != nil {
		return config.Objects{}, fmt.Errorf("list IPAddressPools: %w", err)
	}
	var l2 v1beta1.L2AdvertisementList
	if err := reader.List(ctx, &l2); err != nil {
		return config.Objects{}, fmt.Errorf("list L2Advertisements: %w", err)
	}
	return config.Objects{Pools: pools.Items, L2Advertisements: l2.Items}, nil
}

// ConfigChanged passes changes of what configuration objects say, not of
// their status.
func ConfigChanged() predicate.Predicate {
	return predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{})
}

// WholeConfig stands for the configuration as one: it is always read and put
// in force together.
var WholeConfig = reconcile.Request{}

// ToWholeConfig maps every object to WholeConfig.
func ToWholeConfig() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{WholeConfig}
	})
}
