package members

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
)

// Objects reads the Speaker objects. It passes the addresses of the other speakers to
// membership, and the rest to a Tracker. Both keep the last ones while the API server is
// unreachable.
type Objects struct {
	cached  client.Reader
	tracker *Tracker
}

// NewObjects returns a reconciler that reads the Speaker objects from a cache.
func NewObjects(cached client.Reader, t *Tracker) *Objects { return &Objects{cached, t} }

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
		object := ParseObject(s, o.tracker.c.Node)
		if object.Peer.IsValid() {
			peers = append(peers, object.Peer)
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

// ParseObject reads what a Speaker object says about its own speaker, and about the given
// node.
func ParseObject(s *v1beta1.Speaker, node string) presence.Object {
	o := presence.Object{Suspicion: suspicionOf(s, node), Worked: s.Status.Worked()}
	o.State.Claims = claimsOf(s.Status.Layer2)
	if peer, err := netip.ParseAddrPort(s.Status.MemberAddress); err == nil {
		o.Peer = peer
	}
	o.State.Stage = announcement.Stage(strings.ToLower(string(s.Status.Stage)))
	o.State.IgnoresExclude = s.Status.ExcludeLabel == v1beta1.MarkIgnored
	o.State.IgnoresCordon = s.Status.Cordon == v1beta1.MarkIgnored
	if t := s.Status.RenewTime; t != nil {
		o.Renewal = t.Time
	}
	for _, l := range s.Status.Links {
		if link, err := decodeLink(l.Name, fieldsOf(l)); err == nil && l.Up {
			o.State.Links = append(o.State.Links, link)
		}
	}
	l2 := s.Status.Layer2
	o.Complete = len(l2.Announcements) == int(l2.Count) && len(l2.Retained) < v1beta1.MaxSpeakerAnnouncements
	return o
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
		suspicionOf(before, node) != suspicionOf(after, node)
}

// fieldsOf returns the published form of a link from its row in a Speaker object.
func fieldsOf(l v1beta1.SpeakerLink) []string {
	fields := []string{l.MACAddress}
	if l.Balances {
		fields = append(fields, markBalances)
	}
	if l.OnlyNamed {
		fields = append(fields, markOnlyNamed)
	}
	for _, subnet := range l.Shadowed {
		fields = append(fields, markShadowed+subnet)
	}
	return append(fields, l.Prefixes...)
}

// claimsOf returns the claims of a node according to its Speaker object.
func claimsOf(l v1beta1.SpeakerLayer2) map[netip.Addr]announcement.Claim {
	out := map[netip.Addr]announcement.Claim{}
	for _, c := range l.Claims() {
		if addr, err := netip.ParseAddr(c.Address); err == nil && c.Generation > 0 {
			out[addr] = announcement.Claim{Generation: uint64(c.Generation)}
		}
	}
	return out
}

// suspicionOf returns what a speaker lists of a node that it does not hear, or does not
// understand, and that may prove by the API that it works; "" if it hears the node. Each
// new report differs from the one before. If the speaker had no room to list all such
// nodes, the node may be one of them.
func suspicionOf(s *v1beta1.Speaker, node string) string {
	listed := s.Status.AbsentMembers
	complete := int(s.Status.AbsentCount) <= len(listed)
	for _, m := range listed {
		suspected := IsSuspicion(v1beta1.Reason(m.Reason))
		if m.Name == node && suspected {
			return string(m.Presence) + " since " + m.Since.UTC().Format(time.RFC3339)
		}
		complete = complete || !suspected // a full list leaves these out before any suspicion
	}
	if !complete {
		return "perhaps, beyond the list"
	}
	return ""
}

// IsSuspicion reports whether a member that is absent for this reason may prove by the API that
// it works.
func IsSuspicion(reason v1beta1.Reason) bool {
	switch reason {
	case v1beta1.ReasonNodeHeld, v1beta1.ReasonNodeRenewing, v1beta1.ReasonNodeAssumed,
		v1beta1.ReasonSpeakerNotAlive, v1beta1.ReasonFormatUnknown:
		return true
	}
	return false
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
