package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// How soon Services are told what becomes of them by BGP. One session concerns all
// addresses that it carries, so what is over soon is not written at all, and the
// rest a few at a time.
const (
	// troubleDelay is after how long trouble is told: a new Service is announced
	// within a moment, and sessions may come back.
	troubleDelay = 5 * time.Second
	// wordingDelay is after how long it is told that other nodes announce, or to
	// another number of sessions.
	wordingDelay = 30 * time.Second
	// troubleRate and wordingRate are how many Services are told so in a second.
	troubleRate, wordingRate = 50, 5
)

// bgpPacer decides when which Service is told.
type bgpPacer struct {
	last    time.Time                          // when it last decided
	differs map[types.NamespacedName]time.Time // since when what a Service says is not right
	// released is what Services are to say: nothing where it is nil. Of those that
	// are missing here, what they say stays.
	released map[types.NamespacedName]*bgpState
}

func newBGPPacer() *bgpPacer {
	return &bgpPacer{
		differs:  map[types.NamespacedName]time.Time{},
		released: map[types.NamespacedName]*bgpState{},
	}
}

// decide compares what Services are to say with what they do, and returns those that
// are to be written now, and when there will be more; zero for never. Both maps have
// nil for a Service that says nothing.
func (p *bgpPacer) decide(
	now time.Time, want, have map[types.NamespacedName]*bgpState,
) (due []types.NamespacedName, again time.Time) {
	for key := range p.released {
		if _, exists := want[key]; !exists {
			delete(p.released, key)
		}
	}
	differs := map[types.NamespacedName]time.Time{}
	var soon, late []types.NamespacedName
	for key, w := range want {
		if same(w, have[key]) {
			p.released[key] = w
			continue
		}
		if r, known := p.released[key]; known && same(w, r) {
			continue // it is on its way
		}
		since, known := p.differs[key]
		if !known {
			since = now
		}
		differs[key] = since
		wait := waitFor(w, have[key])
		switch at := since.Add(wait); {
		case !at.After(now) && wait == wordingDelay:
			late = append(late, key)
		case !at.After(now):
			soon = append(soon, key)
		case again.IsZero() || at.Before(again):
			again = at
		}
	}
	elapsed := time.Second
	if !p.last.IsZero() {
		elapsed = min(max(now.Sub(p.last), 0), 10*time.Second)
	}
	p.last, p.differs = now, differs
	for _, part := range []struct {
		list []types.NamespacedName
		rate float64
	}{{soon, troubleRate}, {late, wordingRate}} {
		slices.SortFunc(part.list, func(a, b types.NamespacedName) int {
			return cmp.Or(differs[a].Compare(differs[b]), cmp.Compare(a.String(), b.String()))
		})
		n := min(len(part.list), max(1, int(part.rate*elapsed.Seconds())))
		due = append(due, part.list[:n]...)
		if n < len(part.list) {
			again = now.Add(time.Second)
		}
	}
	for _, key := range due {
		p.released[key] = want[key]
		delete(p.differs, key)
	}
	return due, again
}

// waitFor is for how long a difference must last before it is told.
func waitFor(want, have *bgpState) time.Duration {
	switch {
	case want == nil || want.announced() && (have == nil || !have.announced()):
		return 0
	case have != nil && have.reason == want.reason:
		return wordingDelay
	}
	return troubleDelay
}

func same(a, b *bgpState) bool { return a == b || a != nil && b != nil && *a == *b }

// bgpTeller has Services say what becomes of them by BGP.
type bgpTeller struct {
	state  *state
	cached client.Reader
	log    *slog.Logger
	class  string
	wake   func([]types.NamespacedName) // has Services looked at, which writes it

	changed chan struct{} // of one: look again

	mu    sync.Mutex
	pacer *bgpPacer
}

func newBGPTeller(
	state *state, cached client.Reader, class string, wake func([]types.NamespacedName), log *slog.Logger,
) *bgpTeller {
	return &bgpTeller{
		state:   state,
		cached:  cached,
		log:     log,
		class:   class,
		wake:    wake,
		changed: make(chan struct{}, 1),
		pacer:   newBGPPacer(),
	}
}

// again has all Services looked at soon.
func (b *bgpTeller) again() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// run looks at all Services whenever something has changed, until ctx ends.
func (b *bgpTeller) run(ctx context.Context) error {
	select {
	case <-b.state.adopted.C():
	case <-ctx.Done():
		return nil
	}
	b.again()
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.changed:
		case <-timer.C:
		}
		start := time.Now()
		again, err := b.look(ctx, start)
		if err != nil && ctx.Err() == nil {
			b.log.Error("cannot look at what is announced by BGP", "error", err)
			again = start.Add(troubleDelay)
		}
		// It takes no more than a tenth of the time, however much changes.
		pause := max(time.Second, 10*time.Since(start))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(time.Until(again))
		}
	}
}

// look gathers, judges, and has the Services written that are due. It returns when
// there will be more although nothing changes; zero for never.
func (b *bgpTeller) look(ctx context.Context, now time.Time) (again time.Time, err error) {
	in, have, err := b.gather(ctx)
	if err != nil {
		return time.Time{}, err
	}
	judged := judgeBGP(in)
	want := map[types.NamespacedName]*bgpState{}
	for _, s := range in.services {
		if state, concerned := judged[s.key]; concerned {
			want[s.key] = &state
		} else {
			want[s.key] = nil
		}
	}
	b.mu.Lock()
	due, again := b.pacer.decide(now, want, have)
	b.mu.Unlock()
	b.wake(due)
	return again, nil
}

// gather reads what judgeBGP looks at, and what Services say now.
func (b *bgpTeller) gather(ctx context.Context) (bgpInput, map[types.NamespacedName]*bgpState, error) {
	c, nodes := b.state.configuration()
	in := bgpInput{config: c, nodes: nodes}
	have := map[types.NamespacedName]*bgpState{}
	var services corev1.ServiceList
	if err := b.cached.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return in, nil, fmt.Errorf("list Services: %w", err)
	}
	for i := range services.Items {
		s := &services.Items[i]
		if !assignment.Serves(s, b.class) {
			continue
		}
		key := client.ObjectKeyFromObject(s)
		in.services = append(in.services, bgpService{key, s.Labels, assignment.StatusAddresses(s)})
		if c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionBGPAnnounced); c != nil {
			have[key] = &bgpState{v1beta1.Reason(c.Reason), c.Message}
		}
	}
	if len(c.BGPAdvertisements) == 0 {
		return in, have, nil
	}
	var speakers v1beta1.SpeakerList
	if err := b.cached.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
		return in, nil, fmt.Errorf("list Speakers: %w", err)
	}
	for i := range speakers.Items {
		in.speakers = append(in.speakers, parseBGPSpeaker(&speakers.Items[i]))
	}
	return in, have, nil
}

// parseBGPSpeaker reads what a Speaker says that its node does by BGP.
func parseBGPSpeaker(s *v1beta1.Speaker) bgpSpeaker {
	out := bgpSpeaker{node: s.Name, complete: true}
	switch said := s.Status.BGP; {
	case said.AddressCount == nil && said.Count > 0: // of a version that lists none
		out.complete = false
	case max(len(said.Addresses), len(said.Sessions)) >= v1beta1.MaxSpeakerAnnouncements:
		out.complete = false
	}
	for _, text := range s.Status.BGP.Addresses {
		r, err := config.ParseExcluded(text)
		if err != nil {
			out.complete = false // of another version
			continue
		}
		out.announces = append(out.announces, r)
	}
	slices.SortFunc(out.announces, func(a, b netipx.IPRange) int { return a.From().Compare(b.From()) })
	for _, session := range s.Status.BGP.Sessions {
		if session.State == v1beta1.BGPEstablished {
			out.sessions = append(out.sessions, bgpSession{session.Peer, familiesOf(session)})
		}
	}
	return out
}

// familiesOf are those of which a session tells routers: not those of which all
// routes are withheld.
func familiesOf(s v1beta1.BGPSession) (out bgp.Families) {
	for _, f := range s.Families {
		switch {
		case f == v1beta1.BGPFamilyIPv4 && (s.Withheld == "" || s.AdvertisedIPv4 > 0):
			out |= bgp.IPv4
		case f == v1beta1.BGPFamilyIPv6 && (s.Withheld == "" || s.AdvertisedIPv6 > 0):
			out |= bgp.IPv6
		}
	}
	return out
}

// saysOtherOfBGP tells whether a Speaker says something else than before of what its
// node does by BGP.
func saysOtherOfBGP(before, after *v1beta1.Speaker) bool {
	return !reflect.DeepEqual(parseBGPSpeaker(before), parseBGPSpeaker(after))
}

// put makes the conditions of a Service say what becomes of it by BGP, as far as
// that is due.
func (b *bgpTeller) put(key types.NamespacedName, conditions *[]metav1.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch s, known := b.pacer.released[key]; {
	case !known:
	case s == nil:
		meta.RemoveStatusCondition(conditions, v1beta1.ConditionBGPAnnounced)
	default:
		c := kube.Condition(v1beta1.ConditionBGPAnnounced, s.announced(), s.reason, s.message, 0)
		if s.unknown() {
			c.Status = metav1.ConditionUnknown
		}
		meta.SetStatusCondition(conditions, c)
	}
}
