package cli

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
)

// lockedBuffer is a buffer that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// find returns a copy of an object of the cluster of the stories.
func find[T client.Object](t *testing.T, objects []client.Object, name string) T {
	t.Helper()
	for _, o := range objects {
		if typed, ok := o.(T); ok && o.GetName() == name {
			return typed.DeepCopyObject().(T)
		}
	}
	panic("there is no " + name)
}

// TestAListIsWatched: it is printed, then the lines that change.
func TestAListIsWatched(t *testing.T) {
	server := shop(t)
	cart := find[*corev1.Service](t, load(t), "cart")
	cart.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.77.0.202"}}
	cart.Status.Conditions[0].Status, cart.Status.Conditions[0].Reason = metav1.ConditionTrue, "Assigned"
	cart.Status.Conditions[0].Message = "10.77.0.202 from pool lan."
	out := watching(t, server.Start(t), []string{"services", "-w"},
		func() bool { return server.Watched(cart) > 0 },
		func() { server.Apply(t, cart) }, "10.77.0.202")
	if n := strings.Count(out, "NAME "); n != 1 {
		t.Errorf("there are %d headers:\n%s", n, out)
	}
	if n := strings.Count(out, "10.88.0.0"); n != 1 {
		t.Errorf("a line that does not change is printed %d times:\n%s", n, out)
	}
}

// TestDecisionsAreWatched: what an Event and an object tell is told once.
func TestDecisionsAreWatched(t *testing.T) {
	server := shop(t)
	objects := load(t)
	node2 := find[*v1beta1.Speaker](t, objects, "node2")
	node2.Status.Layer2.Count, node2.Status.Layer2.Owned = 1, 1
	node2.Status.Layer2.Announcements = []v1beta1.Layer2Announcement{{
		Address:    "10.77.0.201",
		Services:   []string{"default/idle"},
		Links:      []string{"eth0"},
		Generation: 2,
	}}
	node2.Status.BGP.Sessions[0].State = v1beta1.BGPEstablished
	took := find[*corev1.Event](t, objects, "web.1")
	took.Name, took.InvolvedObject.Name = "idle.1", "idle"
	took.Message = "Node node2 announces 10.77.0.201 on eth0 (First)."
	began := func() bool { return server.Watched(node2) > 0 && server.Watched(took) > 0 }
	out := watching(t, server.Start(t), []string{"watch"}, began, func() {
		server.Apply(t, took)
		server.Apply(t, node2)
	}, "session with tor: Connecting → Established")
	if n := strings.Count(out, "10.77.0.201"); n != 1 {
		t.Errorf("the address is told of %d times:\n%s", n, out)
	}
	if !strings.Contains(out, "service default/idle") || !strings.Contains(out, "(First)") {
		t.Errorf("the Event is not told:\n%s", out)
	}
}
