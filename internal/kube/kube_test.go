package kube

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/berth-lb/berth/api/v1beta1"
)

func TestHealth(t *testing.T) {
	missing := "the caches are not filled yet"
	handler := Health{Missing: func() string { return missing }, Loops: &Loops{}}.handler()
	ask := func(path string) (int, string) {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return answer.Code, strings.TrimSpace(answer.Body.String())
	}
	for _, test := range []struct {
		story, path, missing string
		status               int
		body                 string
	}{
		{"it lives while it waits", "/healthz", missing, http.StatusOK, "ok"},
		{"but is not ready, and says why", "/readyz", missing, http.StatusServiceUnavailable, missing},
		{"until nothing is missing", "/readyz", "", http.StatusOK, "ok"},
		{"there is nothing else to see", "/metrics", "", http.StatusNotFound, "404 page not found"},
	} {
		t.Run(test.story, func(t *testing.T) {
			missing = test.missing
			if status, body := ask(test.path); status != test.status || body != test.body {
				t.Errorf("got %d %q, want %d %q", status, body, test.status, test.body)
			}
		})
	}
}

func TestQueueKeepsWhatComesEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue[string]
		q.Add("early")
		q.AddAfter("also early", time.Hour)
		to := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
		defer to.ShutDown()
		if err := q.Start(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		if to.Len() != 2 {
			t.Errorf("%d keys after the start, want both", to.Len())
		}
		q.Add("early") // waits already
		q.AddAfter("later", time.Second)
		q.AddAfter("later", time.Minute)
		if to.Len() != 2 {
			t.Errorf("%d keys at once, want 2", to.Len())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if to.Len() != 3 {
			t.Errorf("%d keys after a while, want 3", to.Len())
		}
	})
}

// TestQueueLooksAtSomeLast: what thousands of keys are added for does not delay
// one that is new.
func TestQueueLooksAtSomeLast(t *testing.T) {
	var q Queue[string]
	q.AddLast("early and last")
	to := priorityqueue.New[string]("test")
	defer to.ShutDown()
	if err := q.Start(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		q.AddLast(fmt.Sprint("last ", i))
	}
	q.Add("new")
	q.Add("last 1") // has a reason of its own now
	var order []string
	for range 5 {
		key, shutdown := to.Get()
		if shutdown {
			t.Fatal("the queue ended")
		}
		order = append(order, key)
		to.Done(key)
	}
	if want := []string{"new", "last 1", "early and last", "last 0", "last 2"}; !slices.Equal(order, want) {
		t.Errorf("looked at in the order %q, want %q", order, want)
	}
}

func TestCacheHoldsOnlyWhatIsRead(t *testing.T) {
	meta := metav1.ObjectMeta{
		Name:          "x",
		Labels:        map[string]string{"kept": "yes"},
		ManagedFields: []metav1.ManagedFieldsEntry{{}},
		Annotations: map[string]string{
			corev1.LastAppliedConfigAnnotation: "{}",
			v1beta1.AnnotationAddressPool:      "lan",
		},
	}
	on, ready := "node1", true

	in, _ := trim(&corev1.Service{ObjectMeta: *meta.DeepCopy()})
	if s := in.(*corev1.Service); len(s.ManagedFields) > 0 || len(s.Annotations) != 1 ||
		s.Annotations[v1beta1.AnnotationAddressPool] != "lan" || s.Labels["kept"] == "" {
		t.Errorf("the Service is %+v", s.ObjectMeta)
	}

	in, _ = trim(&corev1.Node{ObjectMeta: *meta.DeepCopy(), Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeMemoryPressure},
			{Type: corev1.NodeReady, Message: "node is shutting down", LastHeartbeatTime: metav1.Now()},
			{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue, Message: "long"},
		},
		Images: []corev1.ContainerImage{{SizeBytes: 1}},
	}})
	n := in.(*corev1.Node)
	conditions := []corev1.NodeCondition{
		{Type: corev1.NodeReady, Message: "node is shutting down"},
		{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue},
	}
	if len(n.Status.Images) > 0 || n.Labels["kept"] == "" || !slices.Equal(n.Status.Conditions, conditions) {
		t.Errorf("the Node is %+v", n)
	}

	in, _ = trim(&discoveryv1.EndpointSlice{
		ObjectMeta: *meta.DeepCopy(),
		Ports:      []discoveryv1.EndpointPort{{}},
		Endpoints: []discoveryv1.Endpoint{{
			NodeName:   &on,
			Addresses:  []string{"10.244.0.7"},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
	})
	if s := in.(*discoveryv1.EndpointSlice); len(s.Ports) > 0 || len(s.Endpoints[0].Addresses) > 0 ||
		*s.Endpoints[0].NodeName != on || !*s.Endpoints[0].Conditions.Ready || s.Labels["kept"] == "" {
		t.Errorf("the EndpointSlice is %+v", s)
	}

	in, _ = trim(&corev1.Secret{
		ObjectMeta: *meta.DeepCopy(),
		Data:       map[string][]byte{"password": []byte("x"), "username": []byte("y")},
	})
	s := in.(*corev1.Secret)
	if len(s.Data) != 1 || string(s.Data["password"]) != "x" || len(s.Annotations) > 0 {
		t.Errorf("of the Secret %d entries are left", len(s.Data))
	}
	in, _ = trim(&corev1.Secret{Data: map[string][]byte{"username": []byte("y")}})
	if s := in.(*corev1.Secret); len(s.Data) != 0 {
		t.Errorf("of a Secret without a password %d entries are left", len(s.Data))
	}

	// BGPPeers may read annotations of this node.
	for name, want := range map[string]int{"this": 1, "other": 0} {
		n := &corev1.Node{ObjectMeta: *meta.DeepCopy()}
		n.Name = name
		in, err := TrimNodes("this")(n)
		got := in.(*corev1.Node)
		if err != nil || len(got.Annotations) != want || len(got.ManagedFields) > 0 {
			t.Errorf("the Node %s is %+v, %v", name, got.ObjectMeta, err)
		}
	}

	if in, err := trim("a tombstone"); in != "a tombstone" || err != nil {
		t.Errorf("what is no object becomes %v, %v", in, err)
	}
}

func TestConditionFits(t *testing.T) {
	const longest = 32768
	for _, test := range []struct {
		have, want int
	}{{7, 7}, {longest, longest}, {longest + 1, longest}, {2 * longest, longest}} {
		c := Condition(v1beta1.ConditionReady, true, v1beta1.ReasonAccepted,
			strings.Repeat("x", test.have), 3)
		if len(c.Message) != test.want || c.Status != metav1.ConditionTrue || c.ObservedGeneration != 3 {
			t.Errorf("of %d bytes %d are left, status %s", test.have, len(c.Message), c.Status)
		}
	}
}

func TestNoteFits(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct{ story, have, want string }{
		{"nothing stays nothing", "", ""},
		{"what fits stays", x(1024), x(1024)},
		{"counted in bytes, not in characters", strings.Repeat("ä", 512), strings.Repeat("ä", 512)},
		{"a byte too many, and it is cut", x(1025), x(1021) + "..."},
		{"between two characters", x(1020) + strings.Repeat("ä", 10), x(1020) + "..."},
		{"or right behind one", x(1019) + strings.Repeat("ä", 10), x(1019) + "ä..."},
		{"of any length", x(1018) + strings.Repeat("\U0001f6a2", 10), x(1018) + "..."},
		{"characters that are all long",
			strings.Repeat("\U0001f6a2", 1000), strings.Repeat("\U0001f6a2", 255) + "..."},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := Note(test.have)
			if got != test.want || len(got) > 1024 || !utf8.ValidString(got) {
				t.Errorf("got %d bytes, %q, want %q", len(got), got, test.want)
			}
		})
	}
}

func TestUnusableSettingsAreAllNamed(t *testing.T) {
	errs := Settings{MetricsAddress: "9740", HealthAddress: "localhost"}.Validate()
	var all []string
	for _, err := range errs {
		all = append(all, err.Error())
	}
	text := strings.Join(all, "\n")
	for _, name := range []string{
		"--metrics-bind-address (BERTH_METRICS_BIND_ADDRESS)",
		"--health-bind-address (BERTH_HEALTH_BIND_ADDRESS)",
		"--namespace (BERTH_NAMESPACE)",
	} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is missing in\n%s", name, text)
		}
	}
	if errs := (Settings{
		Namespace:      "x",
		MetricsAddress: "0",
		HealthAddress:  "[::1]:9741",
	}).Validate(); len(errs) > 0 {
		t.Errorf("got %v", errs)
	}
}
