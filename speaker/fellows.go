package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
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
	if t := s.Status.RenewTime; t != nil {
		o.renewal = t.String()
	}
	for _, l := range s.Status.Links {
		if link, err := parseLink(l.Name, []byte(strings.Join(append([]string{l.MACAddress}, l.Prefixes...), " "))); err == nil && l.Up {
			o.links = append(o.links, link)
		}
	}
	o.complete = len(s.Status.Layer2.Announcements) == int(s.Status.Layer2.Count)
	return o
}

// claimsOf is what a node owns, as its Speaker object tells.
func claimsOf(l v1beta1.SpeakerLayer2) map[netip.Addr]announcement.Claim {
	out := map[netip.Addr]announcement.Claim{}
	for _, c := range l.Owned() {
		if addr, err := netip.ParseAddr(c.Address); err == nil && c.Generation > 0 {
			out[addr] = announcement.Claim{Generation: uint64(c.Generation)}
		}
	}
	return out
}

// doubtOf is what a speaker wrote of a node that it does not hear and that may
// prove by the API that it works; "" when it hears it. What it wrote before of
// the same node differs.
func doubtOf(s *v1beta1.Speaker, node string) string {
	for _, f := range s.Status.Fellows {
		if f.Name != node {
			continue
		}
		switch v1beta1.Reason(f.Reason) {
		case v1beta1.ReasonNodeHeld, v1beta1.ReasonNodeHeard, v1beta1.ReasonNodeAssumed, v1beta1.ReasonSpeakerNotAlive:
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

// memberKeys waits for the keys with which speakers encrypt what they tell
// each other. The controller makes the first when Berth is installed.
func memberKeys(ctx context.Context, api client.Reader, name types.NamespacedName, log *slog.Logger) ([][]byte, error) {
	var keys [][]byte
	told := ""
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var secret corev1.Secret
		err := api.Get(ctx, name, &secret)
		if keys = keysOf(&secret); len(keys) > 0 {
			return true, nil
		}
		why := "the controller has not filled it yet"
		if err != nil {
			why = err.Error()
		}
		if apierrors.IsNotFound(err) {
			why = "it does not exist: create it empty, as the manifests do"
		}
		if why != told {
			log.Info("waiting for the key in the member Secret", "name", name.String(), "message", why)
			told = why
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the member Secret: %w", err)
	}
	return keys, nil
}

// keysOf are the keys in the member Secret: the entry named key, which
// encrypts, then all others by name, which only decrypt. None without the
// first.
func keysOf(secret *corev1.Secret) [][]byte {
	first := secret.Data[kube.MemberKey]
	if len(first) == 0 {
		return nil
	}
	keys := [][]byte{first}
	for _, name := range slices.Sorted(maps.Keys(secret.Data)) {
		if other := secret.Data[name]; name != kube.MemberKey && len(other) > 0 {
			keys = append(keys, other)
		}
	}
	return keys
}

// keysInterval is how often the member Secret is read again.
const keysInterval = 30 * time.Second

// rotateKeys gives membership the keys of the member Secret whenever they
// change. Keys that cannot be used change nothing.
func (sp *speaker) rotateKeys(ctx context.Context) error {
	name := types.NamespacedName{Namespace: sp.settings.Kube.Namespace, Name: sp.settings.Kube.MemberSecret}
	select {
	case <-sp.keyed:
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(keysInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		var secret corev1.Secret
		if err := sp.object.live.Get(ctx, name, &secret); err != nil {
			continue // those that are there go on working
		}
		keys := keysOf(&secret)
		if slices.EqualFunc(keys, sp.keys, bytes.Equal) || len(keys) == 0 {
			continue
		}
		sp.keys = keys
		if err := sp.members.SetKeys(keys); err != nil {
			sp.log.Error("the member Secret has keys that cannot be used; going on with those before", "name", name.String(), "error", err)
			continue
		}
		sp.log.Info("member keys changed", "name", name.String(), "count", len(keys))
	}
}
