package members

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// Listing stands for the membership of speakers where no address has one owner, so that none
// is needed. Its members are the speakers that have an object, and the API server says which
// of them are there: those on nodes that are ready. It opens no port, needs no key, and
// publishes nothing: what others need to know of a speaker is in its object. It is a
// [Membership], a reconciler of Nodes and Speakers, and safe for concurrent use.
type Listing struct {
	cached  client.Reader
	node    string
	changed notify.Signal

	mu      sync.Mutex
	known   bool
	members map[string]membership.Member
}

// NewListing returns a Listing of what a cache says, for the speaker of a node.
func NewListing(cached client.Reader, node string) *Listing {
	return &Listing{
		cached:  cached,
		node:    node,
		changed: notify.NewSignal(),
		members: map[string]membership.Member{node: {Name: node, State: membership.Alive}},
	}
}

// Reconcile reads all Nodes and Speaker objects.
func (l *Listing) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var nodes corev1.NodeList
	if err := l.cached.List(ctx, &nodes); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Nodes: %w", err)
	}
	var speakers v1beta1.SpeakerList
	if err := l.cached.List(ctx, &speakers); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Speakers: %w", err)
	}
	l.set(nodes.Items, speakers.Items, time.Now())
	return reconcile.Result{}, nil
}

// set takes in what there is now.
func (l *Listing) set(nodes []corev1.Node, speakers []v1beta1.Speaker, now time.Time) {
	ready := map[string]bool{}
	for i := range nodes {
		ready[nodes[i].Name] = announcement.ParseNode(&nodes[i]).Ready
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	after := map[string]membership.Member{l.node: l.members[l.node]}
	for i := range speakers {
		name := speakers[i].Name
		if name == l.node {
			continue
		}
		m := membership.Member{Name: name, State: membership.Dead, Since: now}
		if ready[name] {
			m.State = membership.Alive
		}
		if before, was := l.members[name]; was && before.State == m.State {
			m.Since = before.Since
		}
		after[name] = m
	}
	same := func(a, b membership.Member) bool { return a.State == b.State }
	if !l.known || !maps.EqualFunc(l.members, after, same) {
		l.changed.Set()
	}
	l.members, l.known = after, true
}

// Members implements [Membership].
func (l *Listing) Members() []membership.Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []membership.Member
	for _, name := range slices.Sorted(maps.Keys(l.members)) {
		out = append(out, l.members[name])
	}
	return out
}

// Settled reports whether the objects have been read.
func (l *Listing) Settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// Changed implements [Membership].
func (l *Listing) Changed() <-chan struct{} { return l.changed.C() }

// Run has nothing to do until ctx ends.
func (l *Listing) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// errNoMembership says that speakers cannot be asked.
var errNoMembership = errors.New("the speakers do not talk to each other")

// Ping implements [Membership]: nobody answers.
func (l *Listing) Ping(context.Context, string) error { return errNoMembership }

// Confirm implements [Membership]: there is nothing to confirm.
func (l *Listing) Confirm(context.Context) error { return nil }

// Publish implements [Publisher]: what there is to say is in the Speaker object.
func (l *Listing) Publish(string, []byte) error { return nil }

// PublishPrefix implements [Publisher] likewise.
func (l *Listing) PublishPrefix(string, map[string][]byte) error { return nil }

// SetPeers implements [Membership].
func (l *Listing) SetPeers([]netip.AddrPort) {}

// SetNodes implements [Membership].
func (l *Listing) SetNodes([]netip.Addr) {}

// SetKeys implements [Membership].
func (l *Listing) SetKeys([][]byte) error { return nil }

// NoLayer2 stands for what announces and probes at layer 2, in a speaker that does neither. It
// is an [Announcer], a [Prober] and a [Room].
type NoLayer2 struct{}

// SetLinks implements [Announcer] and [Prober].
func (NoLayer2) SetLinks([]links.Link) {}

// SetMembers implements [Announcer].
func (NoLayer2) SetMembers([]net.HardwareAddr) {}

// Changed implements [Prober]: nothing changes.
func (NoLayer2) Changed() <-chan struct{} { return nil }

// SetTargets implements [Prober].
func (NoLayer2) SetTargets([]prober.Target) {}

// Reach implements [Prober]: nothing is known of any node.
func (NoLayer2) Reach() map[string]prober.Reach { return nil }

// LinkReach implements [Prober] likewise.
func (NoLayer2) LinkReach() prober.LinkReach { return prober.LinkReach{} }

// IsFull implements [Room]: there is nothing to claim.
func (NoLayer2) IsFull() bool { return false }
