package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/assignment"
)

// world is a controller at an API server, both without goroutines: a test
// says what is looked at when.
type world struct {
	t     *testing.T
	api   client.WithWatch
	cache *lagging

	// What the controller did since the test last asked.
	writes []string // objects whose status it wrote
	events []string // "object type reason"
	woken  []string // Services, in this order
	pools  []string // whose status is to be written again
	lists  int      // how often it asked the API server for a list

	refuse error // what the API server answers to status writes, if not nil

	state    *state
	services *serviceReconciler
	others   *otherServices
	config   *configReconciler
	status   *statusReconciler
	bgp      *bgpTeller
}

// newWorld starts a controller at an API server with these objects.
func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{t: t}
	w.api = fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(objects...).
		WithStatusSubresource(append(kube.ConfigKinds(), &corev1.Service{})...).
		WithIndex(&corev1.Service{}, "spec.type", func(o client.Object) []string { return []string{string(o.(*corev1.Service).Spec.Type)} }).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
				w.lists++
				return listOf(ctx, c, list, options)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, options ...client.SubResourcePatchOption) error {
				if w.refuse != nil {
					return w.refuse
				}
				if err := c.SubResource(sub).Patch(ctx, o, p, options...); err != nil {
					return err
				}
				w.writes = append(w.writes, o.GetName())
				return nil
			},
			SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, options ...client.SubResourceUpdateOption) error {
				if w.refuse != nil {
					return w.refuse
				}
				if err := c.SubResource(sub).Update(ctx, o, options...); err != nil {
					return err
				}
				w.writes = append(w.writes, o.GetName())
				return nil
			},
		}).Build()
	w.cache = &lagging{Reader: w.api, shown: map[types.NamespacedName]*corev1.Service{}}
	w.restart()
	return w
}

// listOf lists objects. The selector "spec.type is not" is one that API servers know
// and the fake one does not.
func listOf(ctx context.Context, c client.WithWatch, list client.ObjectList, options []client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(options)
	services, ok := list.(*corev1.ServiceList)
	if !ok || o.FieldSelector == nil || o.FieldSelector.Requirements()[0].Operator != selection.NotEquals {
		return c.List(ctx, list, options...)
	}
	if err := c.List(ctx, services); err != nil {
		return err
	}
	services.Items = slices.DeleteFunc(services.Items, func(s corev1.Service) bool {
		return !o.FieldSelector.Matches(fields.Set{"spec.type": string(s.Spec.Type)})
	})
	return nil
}

// restart puts a new process in place of the controller. Its caches are
// filled, and it has adopted what it found.
func (w *world) restart() {
	w.t.Helper()
	w.start()
	if err := w.services.adopt(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.forget()
}

// start is restart before addresses are adopted.
func (w *world) start() {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	w.state = newState()
	wake := func(keys []types.NamespacedName) {
		for _, key := range keys {
			w.woken = append(w.woken, key.Name)
		}
	}
	w.bgp = newBGPTeller(w.state, w.cache, "", wake, log)
	w.services = &serviceReconciler{
		state: w.state, cached: w.cache, live: w.api, writer: w.api, events: w, log: log, wake: wake, wakeLast: wake,
		poolChanged: func(name string) { w.pools = append(w.pools, name) }, metrics: newMetrics(w.state), bgp: w.bgp,
	}
	w.config = &configReconciler{
		state: w.state, cached: w.cache, live: w.api, log: log, wake: wake, wakeLast: wake,
		namespace: "berth-system", objectChanged: func(objectKey) {}, bgp: w.bgp,
	}
	w.status = &statusReconciler{state: w.state, cached: w.cache, writer: w.api, events: w, log: log, wake: wake}
	w.others = newOtherServices(w.services)
	w.readOthers()
	w.configure()
}

// readOthers has the controller read the Services that are not of type LoadBalancer.
func (w *world) readOthers() {
	w.t.Helper()
	list, err := otherThanLoadBalancers(w.api).ListWithContext(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	var kept []any
	for _, s := range list.(*corev1.ServiceList).Items {
		one, err := w.others.Transformer()(&s)
		if err != nil {
			w.t.Fatal(err)
		}
		kept = append(kept, one)
	}
	if err := w.others.Replace(kept, ""); err != nil {
		w.t.Fatal(err)
	}
}

// configure has the configuration read again.
func (w *world) configure() {
	w.t.Helper()
	if _, err := w.config.Reconcile(w.t.Context(), kube.WholeConfig); err != nil {
		w.t.Fatal(err)
	}
}

// look has Services looked at, one after the other.
func (w *world) look(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if _, err := w.services.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key(name)}); err != nil {
			w.t.Fatalf("look at %s: %v", name, err)
		}
	}
}

// judge has the status of a configuration object looked at.
func (w *world) judge(kind, name string) {
	w.t.Helper()
	if _, err := w.status.Reconcile(w.t.Context(), objectKey{kind, name}); err != nil {
		w.t.Fatal(err)
	}
}

// Eventf makes the world an event recorder.
func (w *world) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	if note := fmt.Sprintf(note, args...); note == "" || strings.Contains(note, "%!") {
		w.t.Errorf("an Event with the note %q", note)
	}
	w.events = append(w.events, fmt.Sprintf("%s %s %s", regarding.(client.Object).GetName(), kind, reason))
}

// forget drops what the controller did so far.
func (w *world) forget() { w.writes, w.events, w.woken, w.pools = nil, nil, nil, nil }

// did checks what the controller wrote and which Events it emitted since the
// last time, each as "object" and "object type reason".
func (w *world) did(writes, events []string) {
	w.t.Helper()
	if !slices.Equal(w.writes, writes) {
		w.t.Errorf("wrote the status of %q, want %q", w.writes, writes)
	}
	if !slices.Equal(w.events, events) {
		w.t.Errorf("emitted %q, want %q", w.events, events)
	}
	w.writes, w.events = nil, nil
}

func (w *world) didNothing() {
	w.t.Helper()
	w.did(nil, nil)
}

// has checks the addresses and the condition's reason in the status of a
// Service; reason "" means that there is no condition.
func (w *world) has(name string, reason v1beta1.Reason, addresses ...string) {
	w.t.Helper()
	s := w.get(name)
	var got []string
	for _, addr := range assignment.StatusAddresses(s) {
		got = append(got, addr.String())
	}
	if !slices.Equal(got, addresses) {
		w.t.Errorf("%s has the addresses %q, want %q", name, got, addresses)
	}
	c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	switch {
	case c == nil && reason != "":
		w.t.Errorf("%s has no condition, want %s", name, reason)
	case c != nil && c.Reason != string(reason):
		w.t.Errorf("%s has the condition %s (%s), want %q", name, c.Reason, c.Message, reason)
	case c != nil && (c.Status == metav1.ConditionTrue) != (reason == v1beta1.ReasonAssigned):
		w.t.Errorf("the condition of %s is %s with the reason %s", name, c.Status, c.Reason)
	}
}

func (w *world) get(name string) *corev1.Service {
	w.t.Helper()
	var s corev1.Service
	if err := w.api.Get(w.t.Context(), key(name), &s); err != nil {
		w.t.Fatal(err)
	}
	return &s
}

// change changes a Service at the API server.
func (w *world) change(name string, change func(*corev1.Service)) {
	w.t.Helper()
	s := w.get(name)
	change(s)
	if err := w.api.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	if err := w.api.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) delete(name string) {
	w.t.Helper()
	if err := w.api.Delete(w.t.Context(), w.get(name)); err != nil {
		w.t.Fatal(err)
	}
}

// assigned checks how many addresses of the pool lan are held.
func (w *world) assigned(want int64) {
	w.t.Helper()
	if got := w.state.counts(time.Now())["lan"].Assigned4; got != want {
		w.t.Errorf("%d addresses of the pool are held, want %d", got, want)
	}
}

// lagging is the controller's cache: it has only Services of type
// LoadBalancer, and shows some of them as they were.
type lagging struct {
	client.Reader
	shown map[types.NamespacedName]*corev1.Service
}

// freeze has the cache go on showing a Service as it is now.
func (l *lagging) freeze(s *corev1.Service) { l.shown[client.ObjectKeyFromObject(s)] = s.DeepCopy() }

// thaw has the cache show everything as it is.
func (l *lagging) thaw() { clear(l.shown) }

// Get implements client.Reader.
func (l *lagging) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	service, ok := into.(*corev1.Service)
	if !ok {
		return l.Reader.Get(ctx, key, into, options...)
	}
	if shown := l.shown[key]; shown != nil {
		shown.DeepCopyInto(service)
		return nil
	}
	if err := l.Reader.Get(ctx, key, into, options...); err != nil {
		return err
	}
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return apierrors.NewNotFound(corev1.Resource("services"), key.Name)
	}
	return nil
}

// birth is when the oldest objects were made.
var birth = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

// service is an IPv4 Service of type LoadBalancer, some minutes younger than
// the oldest, after some changes.
func service(name string, minutes int, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(name),
			CreationTimestamp: metav1.NewTime(birth.Add(time.Duration(minutes) * time.Minute)),
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// having gives a Service addresses in its status, as if by an earlier leader.
func having(addresses ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		var list []netip.Addr
		for _, a := range addresses {
			list = append(list, netip.MustParseAddr(a))
		}
		s.Status.LoadBalancer.Ingress = ingress(nil, list)
	}
}

// dualStack makes a Service ask for an address of each family.
func dualStack(s *corev1.Service) {
	policy := corev1.IPFamilyPolicyRequireDualStack
	s.Spec.IPFamilyPolicy = &policy
	s.Spec.ClusterIPs = []string{"10.96.0.1", "fd96::1"}
}

func ofClass(class string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
}

// lan is a pool of that name.
func lan(ranges ...v1beta1.AddressRange) *v1beta1.IPAddressPool { return pool("lan", 0, ranges...) }

func pool(name string, minutes int, ranges ...v1beta1.AddressRange) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(name), Generation: 1,
			CreationTimestamp: metav1.NewTime(birth.Add(time.Duration(minutes) * time.Minute)),
		},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: ranges},
	}
}

func request(name string) reconcile.Request { return reconcile.Request{NamespacedName: key(name)} }

// condition is one of another controller.
func condition(kind string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Theirs"}
}
