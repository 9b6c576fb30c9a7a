package report

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
)

// Claimant knows which addresses other nodes claim on the LAN.
type Claimant interface {
	// ClaimedByOthers returns the addresses that this node announced before since and that
	// other nodes claimed after it, with the node.
	ClaimedByOthers(since time.Time) map[netip.Addr]string
}

// RenewerConfig is what a [Renewer] works with.
type RenewerConfig struct {
	Object   *Object
	Claimant Claimant
	Events   events.EventRecorder
	// Isolation is how long neither the API server nor another speaker may be heard before
	// this node counts as isolated; 0 disables it.
	Isolation time.Duration
	Logger    *slog.Logger
}

// A Renewer proves to speakers that do not hear this one that it works, and finds out
// whether this one is itself cut off.
type Renewer struct {
	c     RenewerConfig
	known renewal // belongs to Run
}

// NewRenewer returns a Renewer, which does nothing before [Renewer.Run].
func NewRenewer(c RenewerConfig) *Renewer {
	return &Renewer{c: c, known: renewal{contact: time.Now()}}
}

// Intervals of renewing.
const (
	// checkInterval is how often a speaker looks whether a member suspects it.
	checkInterval = 500 * time.Millisecond
	// renewInterval is how often a speaker that is suspected renews its Speaker
	// object; renewRetry is how soon it tries again after a failure.
	renewInterval = 8 * time.Second
	renewRetry    = time.Second
	// contactInterval is how often a speaker that does not hear somebody, and has
	// not for a while, finds out whether it hears anybody.
	contactInterval = 4 * time.Second
)

// Run renews the Speaker object as soon as a member reports in its own that it does not
// hear this speaker, and at intervals while it does. Only what is written after the report
// proves anything to that member, so Run answers each new report. When this speaker misses
// members, Run also finds out whether it is itself cut off.
func (r *Renewer) Run(ctx context.Context) error {
	defer r.c.Object.c.Members.WaitContact()
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		r.Check(ctx)
	}
}

// renewal is what Run remembers.
type renewal struct {
	// contact is when anybody was heard last, next when the object is to be renewed
	// again while a member suspects this speaker, ask when it is next to seek contact.
	contact, next, ask time.Time
	// answered are the suspicions that were answered, by node.
	answered map[string]string
}

// Check does once what Run does again and again.
func (r *Renewer) Check(ctx context.Context) {
	known := &r.known
	suspicions := r.suspicions(ctx)
	if anyNew(suspicions, known.answered) || len(suspicions) > 0 && !time.Now().Before(known.next) {
		known.next = time.Now().Add(renewRetry)
		if r.proveAlive(ctx) {
			r.c.Object.c.Members.SawAPI(true)
			known.next = time.Now().Add(renewInterval)
		}
	}
	known.answered = suspicions
	missing, alive, askAPI := r.c.Object.c.Members.Current().Missing()
	switch {
	case missing == presence.NoneMissing:
		r.c.Object.c.Members.SawAll()
	case missing == presence.NewlyMissing, !time.Now().Before(known.ask):
		known.ask = time.Now().Add(contactInterval)
		r.c.Object.c.Members.SeekContact(ctx, alive, askAPI, r.c.Object)
	}
	if len(alive) > 0 {
		known.contact = time.Now()
	}
	if last := r.c.Object.c.Members.LastContact(); last.After(known.contact) {
		known.contact = last
	}
	r.isolate(known.contact, time.Now())
}

// ContactGrace is how long a speaker may take to find out whether it has contact with
// anybody, once a member has been silent for too long. A call to an API server that does
// not answer takes less.
const ContactGrace = apiTimeout + 4*checkInterval

// isolate records since when this speaker has had no contact with anybody. While it is
// isolated, it takes nothing from a node whose kernel answers, and so does
// everybody else who knows as little. An address that it had before and that a
// member announces nevertheless was taken by one that knows more: that one keeps it.
func (r *Renewer) isolate(since, now time.Time) {
	limit := r.c.Isolation
	isolated := limit > 0 && r.c.Object.c.Ready.Settled().IsSet() && now.Sub(since) > limit
	var taken map[netip.Addr]string
	if isolated {
		taken = r.c.Claimant.ClaimedByOthers(since)
	}
	switch news := r.c.Object.c.Members.SetIsolated(isolated, taken); {
	case news && isolated:
		r.c.Logger.Warn("isolated: neither the API server nor another speaker is heard",
			"duration", limit.String())
	case news:
		r.c.Logger.Info("no longer isolated")
	}
}

// anyNew reports whether suspicions has one that before does not have.
func anyNew(suspicions, before map[string]string) bool {
	for name, suspicion := range suspicions {
		if before[name] != suspicion {
			return true
		}
	}
	return false
}

// proveAlive renews the Speaker object, and reports whether it could.
func (r *Renewer) proveAlive(ctx context.Context) bool {
	err := r.c.Object.Renew(ctx)
	if err != nil && ctx.Err() == nil {
		r.c.Logger.Warn("cannot renew the Speaker object", "name", r.c.Object.c.Node, "error", err)
	}
	return err == nil
}

// suspicions returns those of members on ready nodes. The object of a member whose node is
// not ready, or gone, says what it said before that died.
func (r *Renewer) suspicions(ctx context.Context) map[string]string {
	out := r.c.Object.c.Members.Suspicions()
	for name := range out {
		var node corev1.Node
		err := r.c.Object.c.Cached.Get(ctx, types.NamespacedName{Name: name}, &node)
		if err != nil || !announcement.ParseNode(&node).Ready {
			delete(out, name)
		}
	}
	return out
}

// reachableInterval is how often ReportReachable checks which other speakers are reachable.
const reachableInterval = 5 * time.Second

// ReportReachable emits an Event at the Speaker object when other speakers become
// unreachable, or reachable again.
func (r *Renewer) ReportReachable(ctx context.Context) error {
	ticker := time.NewTicker(reachableInterval)
	defer ticker.Stop()
	before := string(v1beta1.ReasonAllMembersReachable)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		o := r.c.Object.c
		now := members.ReachableCondition(o.Joiner.Problem(), o.Members.Current(), o.Address)
		if now.Reason == before {
			continue
		}
		before = now.Reason
		kind := corev1.EventTypeWarning
		if now.Status == metav1.ConditionTrue {
			kind = corev1.EventTypeNormal
		}
		r.c.Logger.Info("reachability of other speakers changed",
			"reason", now.Reason, "message", now.Message)
		object := v1beta1.Speaker{}
		if o.Cached.Get(ctx, types.NamespacedName{Name: o.Node}, &object) == nil {
			r.c.Events.Eventf(&object, nil, kind, now.Reason, "Listen", "%s", kube.Note(now.Message))
		}
	}
}
