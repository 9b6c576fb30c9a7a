package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/membership"
)

// taken is a membership whose port another process has for a while.
type taken struct {
	members.Membership
	mu    sync.Mutex
	keys  [][]byte
	until time.Time
	runs  bool
}

// SetKeys implements [members.Membership].
func (m *taken) SetKeys(keys [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = keys
	return nil
}

// Run implements [members.Membership].
func (m *taken) Run(ctx context.Context) error {
	if time.Now().Before(m.until) {
		return fmt.Errorf("listen tcp 192.0.2.1:7947: bind: address already in use")
	}
	m.mu.Lock()
	m.runs = true
	m.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Members implements [members.Membership].
func (m *taken) Members() []membership.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.runs {
		return nil
	}
	return []membership.Member{{Name: "node1", State: membership.Alive}}
}

// TestOnlyLayer2WaitsForMembership: without a key, or with its port taken, a speaker
// does not end. It tells why, announces by BGP, and begins with layer 2 when it can.
func TestOnlyLayer2WaitsForMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "berth-system", Name: "member"}}
		w := unsettledWorld(t, v1beta1.SpeakerStatus{}, func(*members.Config) {},
			append(service("web"), node("node1"), secret)...)
		w.config.Set(withBGP(), time.Now())
		port := &taken{Membership: w, until: time.Now().Add(time.Minute)}
		w.joiner = members.NewJoiner(members.JoinerConfig{
			Membership: port,
			Address:    netip.MustParseAddrPort("192.0.2.1:7947"),
			Secret:     types.NamespacedName{Namespace: "berth-system", Name: "member"},
			API:        w.api,
			Status:     w.Status,
			Log:        slog.New(slog.DiscardHandler),
		})
		w.object = w.newObject(w.joiner, w.trackerConfig(), v1beta1.SpeakerStatus{})
		sp := w.process()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- sp.joiner.Run(ctx) }()

		check := func(story, reason, says string) {
			t.Helper()
			synctest.Wait()
			if takes := sp.takesPart(ctx); takes != (reason == "" && port.runs) {
				t.Errorf("%s: it takes part is %t", story, takes)
			}
			c := meta.FindStatusCondition(w.object.Current().Conditions, v1beta1.ConditionMembersReachable)
			got, message := "", ""
			if c != nil {
				got, message = c.Reason, c.Message
			}
			if got != reason || !strings.Contains(message, says) {
				t.Errorf("%s: the condition says %s: %s", story, got, message)
			}
			if missing := w.readiness.Missing(); reason != "" && !strings.Contains(missing, says) {
				t.Errorf("%s: it waits for: %s", story, missing)
			}
			w.look()
			if got := w.byBGP(); len(got) != 1 {
				t.Errorf("%s: announced by BGP is %q", story, got)
			}
			if len(w.Given) > 0 {
				t.Errorf("%s: the announcer was given %v", story, w.Given)
			}
		}
		check("the Secret is empty, as when Berth is installed", "", "")
		time.Sleep(5 * time.Second)
		check("it stays so", "MemberKeyNotFound", "berth-system/member has no key")

		secret.Data = map[string][]byte{kube.MemberKey: make([]byte, 32)}
		if err := w.api.Update(ctx, secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		check("there is a key, and another process has the port", "MemberPortUnavailable",
			"address already in use")
		if len(port.keys) != 1 {
			t.Errorf("membership has the keys %v", port.keys)
		}
		time.Sleep(time.Minute)
		check("that process ends", "", "")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// withBGP is everything, announced by BGP too.
func withBGP() config.Objects {
	out := speakertest.Everything()
	out.BGPAdvertisements = []v1beta1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}}
	for _, o := range routed() {
		if peer, is := o.(*v1beta1.BGPPeer); is {
			out.BGPPeers = append(out.BGPPeers, *peer)
		}
	}
	return out
}
