package bgp

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bgp"
)

func TestServiceIsRouted(t *testing.T) {
	w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil), peer("spine", nil))...)
	w.tells("spine 192.0.2.10/32", "tor 192.0.2.10/32")
	if !w.bgp.complete {
		t.Error("every address was looked at, and the sessions are not told so")
	}
	w.isToPlan() // as the configuration was new
	w.look()
	if w.isToPlan() {
		t.Error("peers are told anew although nothing changed")
	}
	if err := w.api.Delete(t.Context(), service("web")[0]); err != nil {
		t.Fatal(err)
	}
	w.look()
	if !w.isToPlan() {
		t.Error("the Service has lost its address, and no peer is told")
	}
	w.tells("spine", "tor")
	if known := w.c.Known(); len(known) > 0 {
		t.Errorf("%v is remembered for ever", known)
	}
}

func TestBGPDoesNotWaitForMembers(t *testing.T) {
	w := unsettledWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
	w.look()
	w.tells("tor 192.0.2.10/32")
}

// TestCordonedNodeWaitsForMembers: it does not attract traffic for a moment
// after each start, and what it has announced before a restart is not withdrawn
// before it is known whether it should be.
func TestCordonedNodeWaitsForMembers(t *testing.T) {
	cordoned := node("node1")
	cordoned.Spec.Unschedulable = true
	w := unsettledWorld(t, append(service("web"), cordoned, node("node2"), peer("tor", nil))...)
	w.tells("tor")
	if w.bgp.complete {
		t.Error("routers drop what is not announced before it is known whether it is")
	}
	w.settled.Set()
	w.c.ConfigChanged()
	w.tells("tor 192.0.2.10/32") // there is no other
	if !w.bgp.complete {
		t.Error("all is known, and the sessions are not told so")
	}
}

func TestRoutesFollowLocalEndpoints(t *testing.T) {
	w := routedWorld(t, append(service("web"), node("node1"), node("node2"), peer("tor", nil))...)
	changes(w, "web", &corev1.Service{}, func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	w.look()
	w.tells("tor 192.0.2.10/32")
	other := "node2"
	changes(w, "web", &discoveryv1.EndpointSlice{},
		func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].NodeName = &other })
	w.look()
	w.tells("tor")
	own := "node1"
	changes(w, "web", &discoveryv1.EndpointSlice{},
		func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].NodeName = &own })
	w.look()
	w.tells("tor 192.0.2.10/32")
	w.ready("web", false)
	w.events.Emitted = nil
	w.look()
	w.tells("tor")
	if !slices.Equal(w.events.Emitted, []string{"web Warning NoEndpoint"}) {
		t.Errorf("emitted %q", w.events.Emitted)
	}
}

func TestPeerThatThisNodeCannotHave(t *testing.T) {
	perNode := func(s *v1beta1.BGPPeerSpec) {
		s.PeerAddress = ""
		s.PerNode = &v1beta1.PerNodeValues{PeerAddress: &v1beta1.NodeValue{Annotation: "tor"}}
	}
	elsewhere := func(s *v1beta1.BGPPeerSpec) {
		s.NodeSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": "2"}}}
	}
	w := routedWorld(t, append(service("web"), node("node1"), peer("far", elsewhere), peer("tor", nil),
		peer("twin", perNode))...)
	w.tells("tor 192.0.2.10/32")
	s := w.sessions.object()
	if s.Count != 2 || len(s.Sessions) != 1 || s.Sessions[0].Peer != "twin" ||
		s.Sessions[0].State != v1beta1.BGPNotConfigured ||
		s.Sessions[0].Reason != string(v1beta1.ReasonNotConfigured) ||
		!strings.Contains(s.Sessions[0].Problem, "annotation tor") {
		t.Errorf("status is %+v", s)
	}
	// The Node gets what was missing.
	changes(w, "node1", &corev1.Node{}, func(n *corev1.Node) {
		n.Annotations, n.Labels = map[string]string{"tor": "192.0.2.253"}, map[string]string{"rack": "2"}
	})
	w.look()
	w.tells("far 192.0.2.10/32", "tor 192.0.2.10/32", "twin 192.0.2.10/32")
	if s := w.sessions.object(); s.Count != 3 || len(s.Sessions) != 0 {
		t.Errorf("status is %+v", s)
	}
}

// TestTwoPeersOfOneRouter: the older one has the session, on those nodes that both
// select, whether or not the router is there; the Speaker object says why the
// younger one has none.
func TestTwoPeersOfOneRouter(t *testing.T) {
	to := func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "192.0.2.254" }
	older, younger := peer("z-older", to), peer("a-younger", to)
	older.Spec.NodeSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": "1"}}}
	younger.CreationTimestamp = metav1.NewTime(older.CreationTimestamp.Add(time.Hour))
	w := routedWorld(t, append(service("web"), node("node1"), older, younger)...)
	w.tells("a-younger 192.0.2.10/32")
	changes(w, "node1", &corev1.Node{}, func(n *corev1.Node) { n.Labels = map[string]string{"rack": "1"} })
	w.look()
	w.tells("z-older 192.0.2.10/32")
	s := w.sessions.object()
	if s.Count != 2 || len(s.Sessions) != 1 || s.Sessions[0].Peer != "a-younger" ||
		s.Sessions[0].State != v1beta1.BGPNotConfigured ||
		s.Sessions[0].Reason != string(v1beta1.ReasonConflicting) ||
		!strings.Contains(s.Sessions[0].Problem, "z-older") {
		t.Errorf("status is %+v", s)
	}
	if err := w.api.Delete(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.tells("a-younger 192.0.2.10/32")
}

// TestNodeThatIsGone: it is known how to talk to the peers, but not any more
// whether to announce anything.
func TestNodeThatIsGone(t *testing.T) {
	w := routedWorld(t, append(service("web"), peer("tor", nil))...)
	if wait := w.plan(); wait > time.Second || w.bgp.serial > 0 {
		t.Errorf("a node that was never known has sessions: %+v", w.bgp.desired)
	}
	if err := w.api.Create(t.Context(), node("node1")); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.tells("tor 192.0.2.10/32")
	if err := w.api.Delete(t.Context(), node("node1")); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.tells("tor")
}

func TestPasswords(t *testing.T) {
	w := routedWorld(t, append(service("web"), node("node1"), peer("open", nil), peer("tor", withSecret))...)
	problem := func() string {
		w.planned()
		for _, s := range w.sessions.object().Sessions {
			if s.Peer == "tor" {
				return s.Reason + ": " + s.Problem
			}
		}
		return ""
	}
	if got := problem(); !strings.HasPrefix(got, "SecretNotFound: ") ||
		!strings.Contains(got, "Secret tor is not there") {
		t.Errorf("without the Secret the status says %q", got)
	}
	w.tells("open 192.0.2.10/32")

	if err := w.api.Create(t.Context(), password("geheim")); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.tells("open 192.0.2.10/32", "tor 192.0.2.10/32")
	before := w.bgp.desired

	changes(w, "tor", &corev1.Secret{}, func(s *corev1.Secret) {
		s.Data[corev1.BasicAuthPasswordKey] = []byte("geheimer")
	})
	w.configure()
	w.planned()
	diff := bgp.Diff(before, w.bgp.desired)
	if len(diff) != 1 || diff[0].Peer.Name != "tor" || diff[0].Action != bgp.Reset ||
		diff[0].Field != "password" {
		t.Errorf("a new password changes %+v", diff)
	}
	if got := w.bgp.desired[1].Peer.Password.Reveal(); got != "geheimer" {
		t.Errorf("the password is %q", got)
	}

	before = w.bgp.desired
	if err := w.api.Delete(t.Context(), password("")); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.bgp.says(bgp.Session{Peer: "tor", State: bgp.SessionEstablished})
	if got := problem(); !strings.HasPrefix(got, "SecretNotFound: ") ||
		!strings.Contains(got, "last good version stays") {
		t.Errorf("when the Secret has gone the status says %q", got)
	}
	if diff := bgp.Diff(before, w.bgp.desired); len(diff) > 0 {
		t.Errorf("a session that is up ends with its Secret: %+v", diff)
	}
}

// TestPasswordsAreNowhere: whatever is told of a session and of what keeps it
// from being, the password is not in it.
func TestPasswordsAreNowhere(t *testing.T) {
	w := routedWorld(t, append(service("web"), node("node1"), peer("tor", withSecret),
		peer("plain", func(s *v1beta1.BGPPeerSpec) { s.Password = "geheim" }),
		password("geheim"))...)
	w.tells("plain 192.0.2.10/32", "tor 192.0.2.10/32")
	w.bgp.says(bgp.Session{Peer: "plain", State: bgp.SessionConnecting, LastError: "no answer",
		LastErrorAt: time.Now()},
		bgp.Session{Peer: "tor", State: bgp.SessionEstablished})
	w.look()
	w.planned()
	for _, bad := range []string{"", strings.Repeat("geheim", 20)} {
		changes(w, "tor", &corev1.Secret{},
			func(s *corev1.Secret) { s.Data[corev1.BasicAuthPasswordKey] = []byte(bad) })
		w.configure()
		w.planned()
	}
	status, err := json.Marshal(w.object())
	if err != nil {
		t.Fatal(err)
	}
	desired, err := json.Marshal(w.bgp.desired)
	if err != nil {
		t.Fatal(err)
	}
	first, second := w.bgp.desired[0].Peer.Password.Reveal(), w.bgp.desired[1].Peer.Password.Reveal()
	if first != "geheim" || second != "geheim" || !strings.Contains(string(status), "has 120 bytes") {
		t.Fatal("this test does not see passwords any more")
	}
	w.c.c.Logger.Info("what a mistake could log", "message", w.bgp.desired)
	for name, text := range map[string]string{
		"the Speaker object":       string(status),
		"what is planned, as JSON": string(desired),
		"what is planned":          fmt.Sprintf("%+v %#v", w.bgp.desired, w.bgp.desired),
		"Events":                   strings.Join(w.events.Notes, "\n"),
		"the log":                  w.log.String(),
	} {
		if strings.Contains(text, "geheim") || strings.Contains(text, "Z2VoZWlt") { // in base64
			t.Errorf("the password is in %s", name)
		}
	}
}

func TestCordonedNodeLeavesInTwoSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		patient := func(s *v1beta1.BGPPeerSpec) {
			s.GracefulShutdownPeriod = &metav1.Duration{Duration: 20 * time.Second}
		}
		w := routedWorld(t, append(service("web"), node("node1"), node("node2"), peer("tor", patient))...)
		w.tells("tor 192.0.2.10/32")
		cordon := func(cordoned bool) {
			changes(w, "node1", &corev1.Node{}, func(n *corev1.Node) { n.Spec.Unschedulable = cordoned })
			w.look()
		}
		cordon(true)
		w.tells("tor 192.0.2.10/32") // nobody else is there
		w.isPresent("node2", true)
		w.look()
		if again := w.plan(); again != 20*time.Second {
			t.Errorf("the next plan is in %s", again)
		}
		w.tells("tor 192.0.2.10/32 65535:0")
		time.Sleep(10 * time.Second)
		w.look()
		w.tells("tor 192.0.2.10/32 65535:0")
		time.Sleep(10 * time.Second)
		w.tells("tor")
		w.look()
		w.tells("tor")
		cordon(false)
		w.tells("tor 192.0.2.10/32")
		// The other goes away while this one leaves.
		cordon(true)
		w.tells("tor 192.0.2.10/32 65535:0")
		w.isPresent("node2", false)
		w.look()
		w.tells("tor 192.0.2.10/32")
	})
}

func TestConfigurationChangesAsOne(t *testing.T) {
	second := service("shop")
	second[0].(*corev1.Service).Status.LoadBalancer.Ingress[0].IP = "192.0.2.11"
	w := routedWorld(t, slices.Concat(service("web"), second,
		[]client.Object{node("node1"), peer("tor", nil)})...)
	w.tells("tor 192.0.2.10/32", "tor 192.0.2.11/32")
	changes(w, "all", &v1beta1.BGPAdvertisement{},
		func(a *v1beta1.BGPAdvertisement) { a.Spec.Communities = []string{"65000:1"} })
	w.configure()
	w.tells("tor 192.0.2.10/32 65000:1", "tor 192.0.2.11/32 65000:1")
	changes(w, "all", &v1beta1.BGPAdvertisement{}, func(a *v1beta1.BGPAdvertisement) {
		a.Spec.Communities, a.Spec.AggregationLength = []string{"65000:2"}, new(int32(24))
	})
	w.configure()
	w.tells("tor 192.0.2.0/24 65000:2")
	changes(w, "all", &v1beta1.BGPAdvertisement{},
		func(a *v1beta1.BGPAdvertisement) { a.Spec.IPAddressPools = []string{"other"} })
	w.configure()
	w.tells("tor")
}

// TestPlansWaitForTheSweep: no plan applies a new configuration before every address has
// been reconciled by it, however often there is something else to plan.
func TestPlansWaitForTheSweep(t *testing.T) {
	w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
	w.tells("tor 192.0.2.10/32")
	changes(w, "all", &v1beta1.BGPAdvertisement{},
		func(a *v1beta1.BGPAdvertisement) { a.Spec.Communities = []string{"65000:1"} })
	w.configure()
	before := w.bgp.serial
	for range 3 {
		if wait := w.routes.plan(t.Context()); w.bgp.serial != before || wait < time.Minute {
			t.Fatalf("a plan was made before the addresses were reconciled, and the next is due in %s", wait)
		}
	}
	w.reconcile()
	select {
	case <-w.queue.SweepEnded():
	default:
		t.Error("nobody says that the sweep has ended")
	}
	w.routes.plan(t.Context())
	if got := w.bgp.desired[0].Routes; w.bgp.serial != before+1 || len(got) != 1 ||
		len(got[0].Communities) != 1 {
		t.Errorf("after %d plans the routes are %+v", w.bgp.serial-before, got)
	}
}

func TestWeightsAreHeldBack(t *testing.T) {
	start := time.Unix(1000, 0)
	weighted := []*bgp.Advertisement{{Name: "a", Weight: true}}
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	w := weights{interval: time.Second}
	for _, step := range []struct {
		story string
		after time.Duration // since the start
		have  map[netip.Addr]int
		want  map[netip.Addr]int
		again time.Duration // since the start, 0 for never
	}{
		{"what is new counts at once", 0, map[netip.Addr]int{one: 3}, map[netip.Addr]int{one: 3}, 0},
		{"a change waits", time.Second, map[netip.Addr]int{one: 4}, map[netip.Addr]int{one: 3},
			2 * time.Second},
		{"not longer because of another", 1500 * time.Millisecond, map[netip.Addr]int{one: 5, two: 1},
			map[netip.Addr]int{one: 3, two: 1}, 2 * time.Second},
		{"then all count", 2 * time.Second, map[netip.Addr]int{one: 6, two: 2},
			map[netip.Addr]int{one: 6, two: 2}, 0},
		{"a change that is taken back is none", 3 * time.Second, map[netip.Addr]int{one: 7, two: 2},
			map[netip.Addr]int{one: 6, two: 2}, 4 * time.Second},
		{"and nothing is due", 3500 * time.Millisecond, map[netip.Addr]int{one: 6, two: 2},
			map[netip.Addr]int{one: 6, two: 2}, 0},
		{"what was gone is new", 5 * time.Second, map[netip.Addr]int{one: 6}, map[netip.Addr]int{one: 6}, 0},
		{"with what it has then", 6 * time.Second, map[netip.Addr]int{one: 6, two: 9},
			map[netip.Addr]int{one: 6, two: 9}, 0},
	} {
		var addresses []bgp.Address
		for _, addr := range slices.SortedFunc(maps.Keys(step.have), netip.Addr.Compare) {
			addresses = append(addresses,
				bgp.Address{Address: addr, Advertisements: weighted, Endpoints: step.have[addr]})
		}
		out, again := w.apply(start.Add(step.after), addresses)
		got := map[netip.Addr]int{}
		for _, a := range out {
			got[a.Address] = a.Endpoints
		}
		want := time.Time{}
		if step.again > 0 {
			want = start.Add(step.again)
		}
		if !maps.Equal(got, step.want) || !again.Equal(want) {
			t.Errorf("%s: got %v, again at %s", step.story, got, again)
		}
	}
	plain := []bgp.Address{{Address: one, Advertisements: []*bgp.Advertisement{{}}, Endpoints: 1}}
	if out, again := w.apply(start, plain); out[0].Endpoints != 1 || !again.IsZero() {
		t.Error("without weights nothing waits")
	}
}

// TestLostSessionIsReportedThoughNothingChanges: the time for that comes by itself, once.
func TestLostSessionIsReportedThoughNothingChanges(t *testing.T) {
	down := []string{"tor Normal SessionUp", "tor Warning SessionDown"}
	for _, test := range []struct {
		after time.Duration
		want  []string
	}{
		{lostPatience - time.Second, down},
		{lostPatience + time.Second, append(slices.Clone(down), "tor Warning NoSession")},
		{time.Hour, append(slices.Clone(down), "tor Warning NoSession")},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
			done := make(chan error)
			ctx, stop := context.WithCancel(t.Context())
			go func() { done <- w.run(ctx) }()
			time.Sleep(time.Second)
			w.bgp.says(bgp.Session{Peer: "tor", State: bgp.SessionEstablished, Since: time.Now()})
			time.Sleep(time.Second)
			now := time.Now()
			w.bgp.says(bgp.Session{
				Peer:        "tor",
				State:       bgp.SessionConnecting,
				Ended:       "closed",
				EndedAt:     now,
				LastError:   "refused",
				LastErrorAt: now.Add(time.Millisecond),
			})
			time.Sleep(test.after)
			stop()
			if err := <-done; err != nil || !slices.Equal(w.events.Emitted, test.want) {
				t.Errorf("after %s %q is told, want %q (%v)", test.after, w.events.Emitted, test.want, err)
			}
		})
	}
}

// TestManyChangesMakeFewPlans, and one is not held back by it.
func TestManyChangesMakeFewPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
		done := make(chan error)
		ctx, stop := context.WithCancel(t.Context())
		go func() { done <- w.run(ctx) }()
		time.Sleep(time.Second)
		plans := func() uint64 { w.bgp.mu.Lock(); defer w.bgp.mu.Unlock(); return w.bgp.serial }
		before := plans()
		w.routes.again.Set()
		synctest.Wait()
		if got := plans() - before; got != 1 {
			t.Errorf("after one change there were %d plans at once", got)
		}
		before = plans()
		for range 100 {
			w.routes.again.Set()
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(time.Second)
		if got := plans() - before; got < 1 || got > 6 {
			t.Errorf("100 changes in 10 ms make %d plans", got)
		}
		// What has ended for good is not begun again.
		w.routes.leave()
		before = plans()
		w.routes.again.Set()
		time.Sleep(time.Minute)
		if !w.bgp.left || plans() != before || len(w.bgp.desired) > 0 {
			t.Error("a plan was made after the sessions have ended for good")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTimeToRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		objects := service("web")
		w := routedWorld(t, append(objects, node("node1"), peer("tor", nil))...)
		w.planned()
		established := func(handed uint64) {
			w.bgp.says(bgp.Session{Peer: "tor", State: bgp.SessionEstablished, Handed: handed,
				HandedAt: time.Now()})
			w.routes.follow()
		}
		established(w.bgp.serial)
		w.planned()
		if len(w.toRoute) > 0 {
			t.Error("what was there at the start is measured")
		}
		w.c.decisions.record(netip.MustParseAddr("192.0.2.77"), time.Now(),
			announcement.BGPDecision{Announce: true, Reason: v1beta1.ReasonAnnounced})
		time.Sleep(time.Second)
		before := w.bgp.serial
		w.planned()
		time.Sleep(time.Second)
		established(before) // an earlier plan
		if len(w.toRoute) > 0 {
			t.Error("it is measured too early")
		}
		time.Sleep(time.Second)
		established(w.bgp.serial)
		established(w.bgp.serial)
		if !slices.Equal(w.toRoute, []float64{3}) {
			t.Errorf("measured %v, want 3s once", w.toRoute)
		}
	})
}
