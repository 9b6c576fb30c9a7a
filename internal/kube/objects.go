package kube

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// ConfigKinds returns the kinds that users configure Berth with.
func ConfigKinds() []client.Object { return Protocols{Layer2: true, BGP: true}.ConfigKinds() }

// Protocols are those by which a process has to do with announcing. It reads no kinds that
// only the others need: it may lack the right to.
type Protocols struct{ Layer2, BGP bool }

// Names returns the protocols as the API names them.
func (p Protocols) Names() []v1beta1.Protocol {
	var out []v1beta1.Protocol
	if p.Layer2 {
		out = append(out, v1beta1.ProtocolLayer2)
	}
	if p.BGP {
		out = append(out, v1beta1.ProtocolBGP)
	}
	return out
}

// ConfigKinds returns the kinds by which users configure these protocols.
func (p Protocols) ConfigKinds() []client.Object {
	out := []client.Object{&v1beta1.IPAddressPool{}}
	if p.Layer2 {
		out = append(out, &v1beta1.L2Advertisement{})
	}
	if p.BGP {
		out = append(out, &v1beta1.BGPPeer{}, &v1beta1.BGPAdvertisement{}, &v1beta1.BFDProfile{},
			&v1beta1.Community{})
	}
	return out
}

// ConfigObjects reads all objects of the ConfigKinds. What else is in
// config.Objects the caller adds.
func ConfigObjects(ctx context.Context, reader client.Reader) (config.Objects, error) {
	return Protocols{Layer2: true, BGP: true}.ConfigObjects(ctx, reader)
}

// ConfigObjects reads all objects of these ConfigKinds.
func (p Protocols) ConfigObjects(ctx context.Context, reader client.Reader) (config.Objects, error) {
	var pools v1beta1.IPAddressPoolList
	var l2 v1beta1.L2AdvertisementList
	var peers v1beta1.BGPPeerList
	var ads v1beta1.BGPAdvertisementList
	var profiles v1beta1.BFDProfileList
	var communities v1beta1.CommunityList
	lists := []client.ObjectList{&pools}
	if p.Layer2 {
		lists = append(lists, &l2)
	}
	if p.BGP {
		lists = append(lists, &peers, &ads, &profiles, &communities)
	}
	for _, list := range lists {
		if err := reader.List(ctx, list); err != nil {
			return config.Objects{}, fmt.Errorf("list configuration (%T): %w", list, err)
		}
	}
	return config.Objects{
		Pools:             pools.Items,
		L2Advertisements:  l2.Items,
		BGPPeers:          peers.Items,
		BGPAdvertisements: ads.Items,
		BFDProfiles:       profiles.Items,
		Communities:       communities.Items,
	}, nil
}

// ConfigChanged returns a predicate that passes changes of the spec and the labels of
// configuration objects; of their status only what pkg/config reads: which addresses a
// pool retains although it no longer contains them, and which version of it the
// controller has observed.
func ConfigChanged() predicate.Predicate {
	retained := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1beta1.IPAddressPool)
		if !ok {
			return false
		}
		after := e.ObjectNew.(*v1beta1.IPAddressPool)
		return !slices.Equal(before.Status.OutOfRange, after.Status.OutOfRange) ||
			observed(before.Status.Conditions) != observed(after.Status.Conditions)
	}}
	return predicate.Or[client.Object](
		predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, retained)
}

// observed returns the generation that the Ready condition is of.
func observed(conditions []metav1.Condition) int64 {
	if c := meta.FindStatusCondition(conditions, v1beta1.ConditionReady); c != nil {
		return c.ObservedGeneration
	}
	return 0
}

// WholeConfig stands for the whole configuration: it is always read and put in force
// together.
var WholeConfig = reconcile.Request{}

// ToWholeConfig returns a handler that maps every object to WholeConfig.
func ToWholeConfig() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{WholeConfig}
	})
}
