package members

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
)

// Objects reads the Speaker objects. It passes the addresses of the other speakers to
// membership, and the rest to a Tracker. Both keep the last ones while the API server is
// unreachable.
type Objects struct {
	cached  client.Reader
	tracker *Tracker
	// all is set if also those count that have no member address.
	all bool
}

// NewObjects returns a reconciler that reads the Speaker objects of the members of a
// membership from a cache.
func NewObjects(cached client.Reader, t *Tracker) *Objects { return &Objects{cached, t, false} }

// NewListedObjects returns a reconciler that reads the Speaker objects of a [Listing].
func NewListedObjects(cached client.Reader, t *Tracker) *Objects { return &Objects{cached, t, true} }

// Reconcile reads all Speaker objects.
func (o *Objects) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	return reconcile.Result{}, o.Read(ctx, o.cached)
}

// Read reads all Speaker objects from the cache or the API server. If this node's own is
// gone, Read has it written again.
func (o *Objects) Read(ctx context.Context, reader client.Reader) error {
	var speakers v1beta1.SpeakerList
	if err := reader.List(ctx, &speakers); err != nil {
		return fmt.Errorf("list Speakers: %w", err)
	}
	var peers []netip.AddrPort
	objects := map[string]presence.Object{}
	for i := range speakers.Items {
		s := &speakers.Items[i]
		if s.Name == o.tracker.c.Node {
			continue
		}
		object := presence.ParseObject(s, o.tracker.c.Node)
		if object.Peer.IsValid() {
			peers = append(peers, object.Peer)
		}
		if object.Peer.IsValid() || o.all {
			objects[s.Name] = object
		}
	}
	o.tracker.setObjects(objects, peers)
	return nil
}

// setObjects records the objects of the other speakers.
func (t *Tracker) setObjects(objects map[string]presence.Object, peers []netip.AddrPort) {
	t.c.Membership.SetPeers(peers)
	t.mu.Lock()
	t.objects = presence.UpdateObjects(t.objects, objects, time.Now())
	t.mu.Unlock()
	t.Wake()
	t.c.Status.Set()
}

// ObjectChanged reports whether a change of a Speaker object concerns the speaker of a
// node: what others need to know of it, and every change of the node's own, which another
// may have written. Other changes, which a busy speaker writes each second, concern nobody.
func ObjectChanged(before, after *v1beta1.Speaker, node string) bool {
	if after.Name == node {
		return true
	}
	was, is := before.Status, after.Status
	return was.MemberAddress != is.MemberAddress || was.Stage != is.Stage ||
		was.HasWorked != is.HasWorked || !was.RenewTime.Equal(is.RenewTime) ||
		was.ExcludeLabel != is.ExcludeLabel || was.Cordon != is.Cordon ||
		!slices.Equal(was.Protocols, is.Protocols) ||
		presence.SuspicionOf(before, node) != presence.SuspicionOf(after, node)
}

// Nodes passes the addresses of nodes to membership: connections from these do not compete
// with those of strangers.
type Nodes struct {
	cached     client.Reader
	membership interface{ SetNodes([]netip.Addr) }
}

// NewNodes returns a reconciler that reads the Nodes from a cache.
func NewNodes(cached client.Reader, membership interface{ SetNodes([]netip.Addr) }) *Nodes {
	return &Nodes{cached, membership}
}

// Reconcile reads all Nodes.
func (n *Nodes) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var nodes corev1.NodeList
	if err := n.cached.List(ctx, &nodes); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Nodes: %w", err)
	}
	var addresses []netip.Addr
	for i := range nodes.Items {
		addresses = append(addresses, NodeAddresses(&nodes.Items[i])...)
	}
	n.membership.SetNodes(addresses)
	return reconcile.Result{}, nil
}

// NodeAddresses returns the IP addresses of a node according to its object.
func NodeAddresses(node *corev1.Node) []netip.Addr {
	return addressesOf(node, corev1.NodeInternalIP, corev1.NodeExternalIP)
}
