package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
)

// problem is why something does not work, in one word and in sentences.
type problem struct {
	reason  v1beta1.Reason
	message string
}

// Times of joining.
const (
	// keyPatience is how long the member Secret may have no key before that is a
	// problem: the controller fills it when Berth is installed.
	keyPatience = 5 * time.Second
	// portRetry is how often a speaker tries to listen on a port that another
	// process has.
	portRetry = 5 * time.Second
)

// unusedKey is a key that nobody else has. A membership is made with it, and gets
// those of the cluster before it runs.
func unusedKey() [][]byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return [][]byte{key}
}

// join takes part in the membership until ctx ends. It waits for a key, and for the
// port where another process listens on it. Nothing but layer 2 waits for that.
func (sp *speaker) join(ctx context.Context) error {
	name := sp.memberSecret()
	late := time.AfterFunc(keyPatience, func() {
		sp.cannotJoin(&problem{v1beta1.ReasonMemberKeyMissing, fmt.Sprintf(
			"Secret %s has no key that this speaker can use, so it cannot talk to the others. "+
				"See that the controller works, which fills it.", name)})
	})
	keys, err := sp.firstKeys(ctx, name)
	late.Stop()
	if err != nil {
		return nil // ctx has ended
	}
	sp.keys = keys
	close(sp.keyed)
	sp.cannotJoin(nil)
	for {
		err := sp.members.Run(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		sp.cannotJoin(&problem{v1beta1.ReasonMemberPortUnavailable, fmt.Sprintf(
			"This speaker cannot listen on port %d of %s: %s. "+
				"See which other process does, or choose another port with --member-port on all nodes.",
			sp.object.address.Port(), sp.object.address.Addr(), err)})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(portRetry):
		}
	}
}

// firstKeys gives membership the first keys that can be used, and returns them.
func (sp *speaker) firstKeys(ctx context.Context, name types.NamespacedName) ([][]byte, error) {
	for {
		keys, err := memberKeys(ctx, sp.object.live, name, sp.log)
		if err != nil {
			return nil, err
		}
		if err = sp.members.SetKeys(keys); err == nil {
			return keys, nil
		}
		sp.log.Error("the member Secret has keys that cannot be used", "name", name.String(), "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(keyPatience):
		}
	}
}

// cannotJoin tells why this speaker does not take part in the membership, where that
// is news; nil that it does.
func (sp *speaker) cannotJoin(why *problem) {
	before := sp.view.joining.Swap(why)
	if why == before || why != nil && before != nil && *why == *before {
		return
	}
	if why != nil {
		sp.log.Warn("cannot take part in the membership: nothing is announced by layer 2, and BGP goes on",
			"reason", string(why.reason), "message", why.message)
	}
	sp.object.tell()
}

// joined reports whether this speaker takes part in the membership.
func (sp *speaker) joined() bool {
	if len(sp.members.Members()) == 0 {
		return false
	}
	sp.cannotJoin(nil)
	return true
}

// unheard are the speakers that work and are not heard, by name of the node: they
// renew their objects, or did so for as long as the API server was there.
func (p picture) unheard() []string {
	var out []string
	for name, f := range p.fellows {
		if !f.alive && f.Presence == announcement.Present {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// reachableCondition tells whether this speaker hears all others that work.
func reachableCondition(why *problem, p picture, own netip.AddrPort) metav1.Condition {
	const most = 10
	if why != nil {
		return kube.Condition(v1beta1.ConditionMembersReachable, false, why.reason, why.message, 0)
	}
	unheard := p.unheard()
	if len(unheard) == 0 {
		return kube.Condition(v1beta1.ConditionMembersReachable, true, v1beta1.ReasonMembersHeard,
			"Every other speaker that works is heard.", 0)
	}
	if other := p.otherFamily(own.Addr()); len(other) > 0 {
		return kube.Condition(v1beta1.ConditionMembersReachable, false, v1beta1.ReasonOtherFamily, p.familyMessage(other, own), 0)
	}
	help := fmt.Sprintf("See that no firewall or network policy keeps port %d, TCP and UDP, from getting through "+
		"between the nodes. Until then they know of each other by the API server only.", own.Port())
	if p.alive <= 1 {
		return kube.Condition(v1beta1.ConditionMembersReachable, false, v1beta1.ReasonNoMemberHeard,
			fmt.Sprintf("The API server tells of %d other speakers that work, and none is heard. %s",
				len(unheard), help), 0)
	}
	names := strings.Join(unheard[:min(len(unheard), most)], ", ")
	if more := len(unheard) - most; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return kube.Condition(v1beta1.ConditionMembersReachable, false, v1beta1.ReasonSomeMembersNotHeard,
		fmt.Sprintf("These speakers work, as the API server tells, and are not heard: %s. %s", names, help), 0)
}

// tellReachable emits an Event at the Speaker object when other speakers are no
// longer heard, or are again.
func (sp *speaker) tellReachable(ctx context.Context) error {
	ticker := time.NewTicker(conflictLook)
	defer ticker.Stop()
	before := string(v1beta1.ReasonMembersHeard)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := reachableCondition(sp.view.joining.Load(), sp.fellows.current(), sp.object.address)
		if now.Reason == before {
			continue
		}
		before = now.Reason
		kind := corev1.EventTypeWarning
		if now.Status == metav1.ConditionTrue {
			kind = corev1.EventTypeNormal
		}
		sp.log.Info("what is heard of other speakers has changed", "reason", now.Reason, "message", now.Message)
		object := v1beta1.Speaker{}
		if sp.view.cluster.Get(ctx, types.NamespacedName{Name: sp.settings.Node}, &object) == nil {
			sp.events.Eventf(&object, nil, kind, now.Reason, "Listen", "%s", kube.Note(now.Message))
		}
	}
}
