package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// fellowReconciler tells membership where the other speakers are, and the
// picture of them what their Speaker objects say. What it told last stays true
// while the API server is away.
type fellowReconciler struct {
	cached  client.Reader
	node    string
	members interface {
		SetPeers([]netip.AddrPort)
	}
	fellows interface {
		setObjects(map[string]speakerObject, time.Time)
	}
	told func() // has this node's own object written again, if it is gone, and the fellows looked at
}

// Reconcile reads all Speaker objects.
func (r *fellowReconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	return reconcile.Result{}, r.read(ctx, r.cached)
}

// read reads all Speaker objects from the cache or the API server.
func (r *fellowReconciler) read(ctx context.Context, reader client.Reader) error {
	var speakers v1beta1.SpeakerList
	if err := reader.List(ctx, &speakers); err != nil {
		return fmt.Errorf("list Speakers: %w", err)
	}
	var peers []netip.AddrPort
	objects := map[string]speakerObject{}
	for i := range speakers.Items {
		s := &speakers.Items[i]
		if s.Name == r.node {
			continue
		}
		o := parseSpeaker(s, r.node)
		if o.peer.IsValid() {
			peers = append(peers, o.peer)
			objects[s.Name] = o
		}
	}
	r.members.SetPeers(peers)
	r.fellows.setObjects(objects, time.Now())
	r.told()
	return nil
}

// parseSpeaker reads what a fellow's object says of itself and of this node.
func parseSpeaker(s *v1beta1.Speaker, node string) speakerObject {
	o := speakerObject{claims: claimsOf(s.Status.Layer2), doubt: doubtOf(s, node)}
	if peer, err := netip.ParseAddrPort(s.Status.MemberAddress); err == nil {
		o.peer = peer
	}
	o.stage = announcement.Stage(strings.ToLower(string(s.Status.Stage)))
	o.worked = s.Status.Worked()
	o.ignoresExclude = s.Status.ExcludeLabel == v1beta1.MarkIgnored
	o.ignoresCordon = s.Status.Cordon == v1beta1.MarkIgnored
	if t := s.Status.RenewTime; t != nil {
		o.renewal = t.Time
	}
	for _, l := range s.Status.Links {
		if link, err := parseLink(l.Name, fieldsOf(l)); err == nil && l.Up {
			o.links = append(o.links, link)
		}
	}
	l2 := s.Status.Layer2
	o.complete = len(l2.Announcements) == int(l2.Count) && len(l2.Kept) < v1beta1.MaxSpeakerAnnouncements
	return o
}

// fieldsOf are those that say the same of a link as its row in a Speaker object.
func fieldsOf(l v1beta1.SpeakerLink) []string {
	fields := []string{l.MACAddress}
	if l.Balances {
		fields = append(fields, balances)
	}
	if l.OnlyNamed {
		fields = append(fields, onlyNamed)
	}
	for _, subnet := range l.Shadowed {
		fields = append(fields, shadowedMark+subnet)
	}
	return append(fields, l.Prefixes...)
}

// claimsOf is what a node owns, as its Speaker object tells.
func claimsOf(l v1beta1.SpeakerLayer2) map[netip.Addr]announcement.Claim {
	out := map[netip.Addr]announcement.Claim{}
	for _, c := range l.Claims() {
		if addr, err := netip.ParseAddr(c.Address); err == nil && c.Generation > 0 {
			out[addr] = announcement.Claim{Generation: uint64(c.Generation)}
		}
	}
	return out
}

// doubtOf is what a speaker wrote of a node that it does not hear, or does not
// understand, and that may prove by the API that it works; "" when it hears it. What it wrote before of
// the same node differs.
func doubtOf(s *v1beta1.Speaker, node string) string {
	for _, f := range s.Status.Fellows {
		if f.Name != node {
			continue
		}
		switch v1beta1.Reason(f.Reason) {
		case v1beta1.ReasonNodeHeld, v1beta1.ReasonNodeHeard, v1beta1.ReasonNodeAssumed, v1beta1.ReasonSpeakerNotAlive,
			v1beta1.ReasonFormatUnknown:
			return string(f.Presence) + " since " + f.Since.UTC().Format(time.RFC3339)
		}
	}
	return ""
}

// settle waits until it is known which fellows are alive, at most for
// timeout.
func settle(ctx context.Context, members members, timeout time.Duration, log *slog.Logger) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !members.Settled() {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			log.Warn("no fellow speaker found in time; going on with those that are known", "count", len(members.Members()))
			return
		case <-again.C:
		}
	}
	log.Info("fellow speakers found", "count", len(members.Members())-1)
}

// nodeReconciler tells membership which addresses belong to nodes: what comes from
// these does not compete with strangers.
type nodeReconciler struct {
	cached  client.Reader
	members interface{ SetNodes([]netip.Addr) }
}

// Reconcile reads all Nodes.
func (r *nodeReconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var nodes corev1.NodeList
	if err := r.cached.List(ctx, &nodes); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Nodes: %w", err)
	}
	var addresses []netip.Addr
	for i := range nodes.Items {
		addresses = append(addresses, nodeAddresses(&nodes.Items[i])...)
	}
	r.members.SetNodes(addresses)
	return reconcile.Result{}, nil
}

// nodeAddresses are the IP addresses of a node, as its object tells.
func nodeAddresses(node *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range node.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			out = append(out, addr)
		}
	}
	return out
}
