package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/membership"
)

// taken is a membership whose port another process has for a while.
type taken struct {
	members
	mu    sync.Mutex
	keys  [][]byte
	until time.Time
	runs  bool
}

// SetKeys implements members.
func (m *taken) SetKeys(keys [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = keys
	return nil
}

// Run implements members.
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

// Members implements members.
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
		w := newWorld(t, append(service("web"), node("node1"), secret)...)
		w.state.settled = notify.NewLatch()
		w.config.Set(withBGP(), time.Now())
		sp, _ := w.process()
		port := &taken{members: sp.members, until: time.Now().Add(time.Minute)}
		sp.members = port
		sp.settings.Kube.Namespace, sp.settings.Kube.MemberSecret = "berth-system", "member"
		sp.settings.Member.Address, sp.settings.Member.Port = "192.0.2.1", 7947
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- sp.join(ctx) }()

		check := func(story, reason, says string) {
			t.Helper()
			synctest.Wait()
			if takes := sp.takesPart(ctx); takes != (reason == "" && port.runs) {
				t.Errorf("%s: it takes part is %t", story, takes)
			}
			c := meta.FindStatusCondition(w.object.status().Conditions, v1beta1.ConditionMembersReachable)
			got, message := "", ""
			if c != nil {
				got, message = c.Reason, c.Message
			}
			if got != reason || !strings.Contains(message, says) {
				t.Errorf("%s: the condition says %s: %s", story, got, message)
			}
			if missing := w.state.missing(); reason != "" && !strings.Contains(missing, says) {
				t.Errorf("%s: it waits for: %s", story, missing)
			}
			w.look()
			if got := w.byBGP(); len(got) != 1 {
				t.Errorf("%s: announced by BGP is %q", story, got)
			}
			if len(w.set) > 0 {
				t.Errorf("%s: the announcer was given %v", story, w.set)
			}
		}
		check("the Secret is empty, as when Berth is installed", "", "")
		time.Sleep(keyPatience)
		check("it stays so", "MemberKeyMissing", "berth-system/member has no key")

		secret.Data = map[string][]byte{kube.MemberKey: make([]byte, 32)}
		if err := w.api.Update(ctx, secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		check("there is a key, and another process has the port", "MemberPortUnavailable", "address already in use")
		if len(port.keys) != 1 || len(sp.keys) != 1 {
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
	out := everything()
	out.BGPAdvertisements = []v1beta1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}}
	for _, o := range routed() {
		if peer, is := o.(*v1beta1.BGPPeer); is {
			out.BGPPeers = append(out.BGPPeers, *peer)
		}
	}
	return out
}

// TestMembersReachable: a blocked port is seen on the day it is blocked.
func TestMembersReachable(t *testing.T) {
	fellows := func(alive, unheard, dead int) picture {
		p := picture{fellows: map[string]fellow{}, alive: 1 + alive}
		for i := range alive + unheard + dead {
			f := fellow{alive: i < alive, Speaker: announcement.Speaker{Presence: announcement.Present, Reason: v1beta1.ReasonNodePresent}}
			switch {
			case i >= alive+unheard:
				f.Presence, f.Reason = announcement.Gone, v1beta1.ReasonNodeSilent
			case i >= alive:
				f.Reason = v1beta1.ReasonNodeHeard
			}
			p.fellows[fmt.Sprintf("n%02d", i)] = f
		}
		return p
	}
	for _, test := range []struct {
		story  string
		p      picture
		reason v1beta1.Reason
		says   string
	}{
		{"it is alone", fellows(0, 0, 0), v1beta1.ReasonMembersHeard, ""},
		{"all are heard", fellows(3, 0, 0), v1beta1.ReasonMembersHeard, ""},
		{"one is dead", fellows(2, 0, 1), v1beta1.ReasonMembersHeard, ""},
		{"all others are dead", fellows(0, 0, 2), v1beta1.ReasonMembersHeard, ""},
		{"none is heard", fellows(0, 2, 1), v1beta1.ReasonNoMemberHeard, "tells of 2 other speakers that work, and none is heard. See that no firewall or network policy keeps port 7947, TCP and UDP"},
		{"one is not heard", fellows(2, 1, 0), v1beta1.ReasonSomeMembersNotHeard, "not heard: n02."},
		{"many are not heard", fellows(1, 12, 0), v1beta1.ReasonSomeMembersNotHeard, "n10 and 2 more."},
	} {
		t.Run(test.story, func(t *testing.T) {
			c := reachableCondition(nil, test.p, netip.MustParseAddrPort("192.0.2.1:7947"))
			if c.Reason != string(test.reason) || (c.Status == metav1.ConditionTrue) != (test.reason == v1beta1.ReasonMembersHeard) ||
				!strings.Contains(c.Message, test.says) {
				t.Errorf("got %+v", c)
			}
		})
	}
}
