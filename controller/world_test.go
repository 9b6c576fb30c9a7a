package main

import (
	"context"
	"fmt"
	"log/slog"
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
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/internal/controller/configuration"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/controller/services"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
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

	noAddressMetrics bool  // a setting
	refuse           error // what the API server answers to status writes, if not nil

	shared   shared.Shared
	state    *state.State
	services *services.Reconciler
	others   *services.Others
	config   *configuration.Reconciler
	status   *configuration.StatusReconciler
	bgp      *announced.Reporter
}

// newWorld starts a controller at an API server with these objects.
func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{t: t}
	w.api = fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(objects...).
		WithStatusSubresource(append(kube.ConfigKinds(), &corev1.Service{})...).
		WithIndex(&corev1.Service{}, "spec.type", func(o client.Object) []string {
			return []string{string(o.(*corev1.Service).Spec.Type)}
		}).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList,
				options ...client.ListOption) error {
				w.lists++
				return listOf(ctx, c, list, options)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object,
				p client.Patch, options ...client.SubResourcePatchOption) error {
				if w.refuse != nil {
					return w.refuse
				}
				if err := c.SubResource(sub).Patch(ctx, o, p, options...); err != nil {
					return err
				}
				w.writes = append(w.writes, o.GetName())
				return nil
			},
			SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object,
				options ...client.SubResourceUpdateOption) error {
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
func listOf(
	ctx context.Context, c client.WithWatch, list client.ObjectList, options []client.ListOption,
) error {
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
	if err := w.services.Adopt(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.forget()
}

// start is restart before addresses are adopted.
func (w *world) start() {
	w.t.Helper()
	w.state = state.New()
	queues := shared.NewQueues()
	err := queues.Services.Start(w.t.Context(), &recorder[reconcile.Request]{
		add: func(r reconcile.Request) { w.woken = append(w.woken, r.Name) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	err = queues.Objects.Start(w.t.Context(), &recorder[state.ObjectKey]{
		addAfter: func(k state.ObjectKey) { w.pools = append(w.pools, k.Name) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	with := shared.Shared{
		State:     w.state,
		Queues:    queues,
		Cached:    w.cache,
		Live:      w.api,
		Writer:    w.api,
		Events:    w,
		Log:       slog.New(slog.DiscardHandler),
		Namespace: "berth-system",

		AddressMetrics: !w.noAddressMetrics,
	}
	w.shared = with
	w.bgp = announced.New(with)
	w.services = services.New(with, w.bgp)
	w.others = services.NewOthers(with)
	w.config = configuration.New(with)
	w.status = configuration.NewStatus(with)
	w.readOthers()
	w.configure()
}

// recorder is a queue that tells what is added to it.
type recorder[Key comparable] struct {
	workqueue.TypedRateLimitingInterface[Key]
	add      func(Key)
	addAfter func(Key)
}

// Add tells of a key.
func (r *recorder[Key]) Add(key Key) {
	if r.add != nil {
		r.add(key)
	}
}

// AddAfter tells of a key.
func (r *recorder[Key]) AddAfter(key Key, _ time.Duration) {
	if r.addAfter != nil {
		r.addAfter(key)
	}
}

// readOthers has the controller read the Services that are not of type LoadBalancer.
func (w *world) readOthers() {
	w.t.Helper()
	list, err := services.OtherThanLoadBalancers(w.api).ListWithContext(w.t.Context(), metav1.ListOptions{})
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
		_, err := w.services.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key(name)})
		if err != nil {
			w.t.Fatalf("look at %s: %v", name, err)
		}
	}
}

// judge has the status of a configuration object looked at.
func (w *world) judge(kind, name string) {
	w.t.Helper()
	if _, err := w.status.Reconcile(w.t.Context(), state.ObjectKey{Kind: kind, Name: name}); err != nil {
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
	if got := w.state.Counts(time.Now())["lan"].Assigned4; got != want {
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
func (l *lagging) Get(
	ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption,
) error {
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

// The objects of the tests.
var (
	birth     = controllertest.Birth
	key       = controllertest.Key
	service   = controllertest.Service
	having    = controllertest.Having
	dualStack = controllertest.DualStack
	ofClass   = controllertest.OfClass
	pool      = controllertest.Pool
	bgpPeer   = controllertest.BGPPeer
	node      = controllertest.Node

	bgpAdvertisement = controllertest.BGPAdvertisement
	speakerThat      = controllertest.SpeakerThat
	speakerOn        = controllertest.SpeakerOn
	speakerWith      = controllertest.SpeakerWith
)

// lan is a pool of that name.
func lan(ranges ...v1beta1.AddressRange) *v1beta1.IPAddressPool { return pool("lan", 0, ranges...) }

func request(name string) reconcile.Request { return reconcile.Request{NamespacedName: key(name)} }

// condition is one of another controller.
func condition(kind string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Theirs"}
}
