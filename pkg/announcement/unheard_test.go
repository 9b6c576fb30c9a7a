package announcement

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
)

// unheard returns a node whose kubelet the control plane does not hear.
func unheard(name string) Node {
	n := node(name)
	n.ReadyUnknown = true
	return n
}

func TestWhoIsUnheard(t *testing.T) {
	all := map[string]Speaker{"n1": speaker(Present, 11), "n2": speaker(Held, 12)}
	for _, test := range []struct {
		story    string
		before   Unheard
		nodes    []Node
		speakers map[string]Speaker
		want     Unheard
	}{
		{"all kubelets are heard", nil, []Node{node("n1"), node("n2")}, all, nil},
		{"one is not", nil, []Node{node("n1"), unheard("n2")}, all, Unheard{"n2": now}},
		{"it goes on", Unheard{"n2": now.Add(-time.Hour)}, []Node{unheard("n2")}, all, Unheard{"n2": now}},
		{"it is heard again", Unheard{"n2": now.Add(1 - KubeletReturn)}, []Node{node("n2")}, all,
			Unheard{"n2": now.Add(1 - KubeletReturn)}},
		{"it is heard again for a minute", Unheard{"n2": now.Add(-KubeletReturn)},
			[]Node{node("n2")}, all, nil},
		{"its speaker is gone", Unheard{"n2": now}, []Node{node("n1"), unheard("n2")},
			map[string]Speaker{"n1": speaker(Present, 11), "n2": speaker(Gone, 12)}, nil},
		{"its speaker leaves", nil, []Node{unheard("n1")},
			map[string]Speaker{"n1": speaker(Leaving, 11)}, nil},
		{"it never had a speaker", nil, []Node{unheard("n3")}, all, Unheard{"n3": now}},
		{"its Node is deleted", Unheard{"n2": now}, []Node{node("n1")}, all, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.before.Next(test.nodes, test.speakers, now)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAssume(t *testing.T) {
	none := map[string]int{}
	u := Unheard{"n1": now, "n2": now.Add(-time.Second)}
	end := now.Add(KubeletReturn)
	for _, test := range []struct {
		story string
		in    Service
		want  Service
		until time.Time
	}{
		{"a ready endpoint is enough",
			Service{Ready: true, Endpoints: map[string]int{"n3": 1}},
			Service{Ready: true, Endpoints: map[string]int{"n3": 1}}, time.Time{}},
		{"no endpoint at all", Service{Endpoints: none, NotReady: none},
			Service{Endpoints: none, NotReady: none}, time.Time{}},
		{"the kubelet says that they are not ready",
			Service{Endpoints: none, NotReady: map[string]int{"n3": 2}},
			Service{Endpoints: none, NotReady: map[string]int{"n3": 2}}, time.Time{}},
		{"nobody knows",
			Service{Local: true, Endpoints: none, NotReady: map[string]int{"n1": 2, "n2": 1, "n3": 1}},
			Service{
				Local:     true,
				Ready:     true,
				Endpoints: map[string]int{"n1": 2, "n2": 1},
				NotReady:  map[string]int{"n1": 2, "n2": 1, "n3": 1},
				Assumed:   map[string]int{"n1": 2, "n2": 1},
			}, end.Add(-time.Second)},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := []Service{test.in}
			out, until := u.Assume(in)
			if diff := cmp.Diff([]Service{test.want}, out); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !until.Equal(test.until) {
				t.Errorf("until is %v, want %v", until, test.until)
			}
			if diff := cmp.Diff(test.in, in[0]); diff != "" {
				t.Errorf("what came in was changed:\n%s", diff)
			}
		})
	}
}

// The kubelets of all nodes cannot reach the API server for a while. Whatever the
// EndpointSlices say meanwhile, the owner stays who it is, and each node with a pod of a
// Service that is Local goes on announcing it by BGP.
func TestAllKubeletsAreUnheard(t *testing.T) {
	var u Unheard
	claims := map[string]Claim{"n2": {Generation: 1}}
	nodes := []string{"n1", "n2", "n3"}
	pods := map[string]int{"n2": 1, "n3": 1}
	for _, step := range []struct {
		story        string
		at           time.Duration
		heard, ready bool
		owner        v1beta1.Reason // what n2 decides by layer 2
		local        v1beta1.Reason // what n3 decides by BGP for a Local Service
		says         bool           // that nobody knows
	}{
		{"all is well", 0, true, true, v1beta1.ReasonOwner, v1beta1.ReasonAnnounced, false},
		{"the control plane misses the kubelets", time.Hour,
			false, true, v1beta1.ReasonOwner, v1beta1.ReasonAnnounced, false},
		{"it calls their pods not ready", time.Hour + time.Second,
			false, false, v1beta1.ReasonOwner, v1beta1.ReasonAnnounced, true},
		{"for long", 3 * time.Hour, false, false, v1beta1.ReasonOwner, v1beta1.ReasonAnnounced, true},
		{"it hears the kubelets again", 3*time.Hour + time.Second,
			true, false, v1beta1.ReasonOwner, v1beta1.ReasonAnnounced, true},
		{"these say that the pods are ready", 3*time.Hour + 10*time.Second,
			true, true, v1beta1.ReasonOwner, v1beta1.ReasonAnnounced, false},
		{"pods that are not ready later are not", 4 * time.Hour,
			true, false, v1beta1.ReasonNoEndpoint, v1beta1.ReasonNoEndpoint, false},
	} {
		service := Service{Name: "default/web", Ready: step.ready}
		if step.ready {
			service.Endpoints = pods
		} else {
			service.NotReady = pods
		}
		layer2, routes := lan(), forBGP()
		layer2.Node, layer2.Claims, layer2.Announcing, layer2.Now = "n2", claims, true, now.Add(step.at)
		layer2.Nodes = nil
		for _, name := range nodes {
			n := node(name)
			n.ReadyUnknown = !step.heard
			layer2.Nodes = append(layer2.Nodes, n)
		}
		u = u.Next(layer2.Nodes, layer2.Speakers, layer2.Now)
		layer2.Services, _ = u.Assume([]Service{service})
		routes.Node, routes.Nodes = "n3", layer2.Nodes
		service.Local = true
		routes.Services, _ = u.Assume([]Service{service})

		d, b := Decide(layer2), DecideBGP(routes)
		if d.Reason != step.owner || d.Announce != (step.owner == v1beta1.ReasonOwner) {
			t.Errorf("%s: by layer 2 %s, announces %v", step.story, d.Reason, d.Announce)
		}
		if b.Reason != step.local || b.Announce != (step.local == v1beta1.ReasonAnnounced) {
			t.Errorf("%s: by BGP %s, announces %v", step.story, b.Reason, b.Announce)
		}
		for _, message := range []string{d.Message, b.Message} {
			if got := strings.Contains(message, "does not hear the kubelets of"); got != step.says {
				t.Errorf("%s: %q", step.story, message)
			}
		}
	}
}

// Of many nodes the message names a few.
func TestAssumedNamesAFewNodes(t *testing.T) {
	s := Service{Assumed: map[string]int{"n4": 1, "n2": 1, "n3": 1, "n1": 1, "n5": 1}}
	if got := assumed([]Service{s}); !strings.Contains(got, " n1, n2, n3 and 2 more,") {
		t.Error(got)
	}
}

// Whatever is unheard, a Service that has a usable endpoint is as it was, and what is
// assumed was there before.
func TestNothingIsAssumedOfWhatIsKnown(t *testing.T) {
	names := rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"})
	counts := rapid.MapOf(names, rapid.IntRange(1, 3))
	rapid.Check(t, func(t *rapid.T) {
		u := Unheard{}
		for name := range counts.Draw(t, "unheard") {
			u[name] = now
		}
		s := Service{Ready: rapid.Bool().Draw(t, "ready"), Endpoints: map[string]int{}}
		if s.Ready {
			s.Endpoints = counts.Draw(t, "endpoints")
		} else {
			s.NotReady = counts.Draw(t, "not ready")
		}

		out, until := u.Assume([]Service{s})

		got := out[0]
		wanted := slices.DeleteFunc(slices.Collect(maps.Keys(s.NotReady)), func(n string) bool {
			_, in := u[n]
			return !in
		})
		switch {
		case s.Ready || len(wanted) == 0:
			if diff := cmp.Diff(s, got); diff != "" || !until.IsZero() {
				t.Fatalf("changed without need:\n%s", diff)
			}
		case !got.Ready || len(got.Endpoints) != len(wanted):
			t.Fatalf("%v of %v is assumed, unheard are %v", got.Endpoints, s.NotReady, u)
		}
		for n, count := range got.Assumed {
			if count != s.NotReady[n] {
				t.Fatalf("%d endpoints on %s are assumed, there are %d", count, n, s.NotReady[n])
			}
		}
	})
}
