package configuration

import (
	"context"
	"slices"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/config"
)

// sessionsDelay gathers changes of many sessions into one write to a BGPPeer.
const sessionsDelay = time.Second

// PeersOfSpeakers has the status of those BGPPeers reconciled of which a speaker
// says something else than before, and of all when there is a speaker more or less.
// What becomes of Services by BGP is evaluated when what it announces has changed.
func PeersOfSpeakers(with shared.Shared) handler.TypedEventHandler[client.Object, state.ObjectKey] {
	type queue = workqueue.TypedRateLimitingInterface[state.ObjectKey]
	all := func(q queue) {
		with.Queues.Announced.Set()
		c, _ := with.State.Configuration()
		for _, p := range c.BGPPeers {
			q.AddAfter(state.ObjectKey{Kind: config.KindBGPPeer, Name: p.Name}, sessionsDelay)
		}
	}
	return handler.TypedFuncs[client.Object, state.ObjectKey]{
		CreateFunc: func(_ context.Context, _ event.CreateEvent, q queue) { all(q) },
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q queue) { all(q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*v1beta1.Speaker), e.ObjectNew.(*v1beta1.Speaker)
			if announced.Differs(before, after) {
				with.Queues.Announced.Set()
			}
			if !slices.Equal(before.Status.Protocols, after.Status.Protocols) {
				all(q)
			}
			was, is := saidOfPeers(before), saidOfPeers(after)
			for _, of := range []map[string]saidOfPeer{was, is} {
				for peer := range of {
					if was[peer] != is[peer] {
						q.AddAfter(state.ObjectKey{Kind: config.KindBGPPeer, Name: peer}, sessionsDelay)
					}
				}
			}
		},
	}
}

// AdvertisementsOfSpeakers has the status of all advertisements reconciled when a
// speaker says something else than before of what they ask of nodes.
func AdvertisementsOfSpeakers(with shared.Shared) handler.TypedEventHandler[client.Object, state.ObjectKey] {
	type queue = workqueue.TypedRateLimitingInterface[state.ObjectKey]
	all := func(q queue) {
		c, _ := with.State.Configuration()
		for _, key := range advertisements(c) {
			q.AddAfter(key, shared.StatusDelay)
		}
	}
	return handler.TypedFuncs[client.Object, state.ObjectKey]{
		CreateFunc: func(_ context.Context, _ event.CreateEvent, q queue) { all(q) },
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q queue) { all(q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*v1beta1.Speaker).Status, e.ObjectNew.(*v1beta1.Speaker).Status
			if before.Worked() != after.Worked() || before.ExcludeLabel != after.ExcludeLabel ||
				!slices.Equal(before.Protocols, after.Protocols) ||
				!slices.Equal(linkNames(before.Links), linkNames(after.Links)) {
				all(q)
			}
		},
	}
}

// advertisements returns the keys of all that are in force.
func advertisements(c *config.Config) []state.ObjectKey {
	var out []state.ObjectKey
	for _, a := range c.L2Advertisements {
		out = append(out, state.ObjectKey{Kind: config.KindL2Advertisement, Name: a.Name})
	}
	for _, a := range c.BGPAdvertisements {
		out = append(out, state.ObjectKey{Kind: config.KindBGPAdvertisement, Name: a.Name})
	}
	return out
}
