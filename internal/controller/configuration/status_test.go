package configuration

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// interrupted is a cache. Before it shows a pool for the first time, something happens.
type interrupted struct {
	client.Reader
	happens func()
}

func (i *interrupted) Get(
	ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption,
) error {
	if _, is := into.(*v1beta1.IPAddressPool); is && i.happens != nil {
		happens := i.happens
		i.happens = nil
		happens()
	}
	return i.Reader.Get(ctx, key, into, options...)
}

// TestTheStatusOfAPoolIsOfOneConfiguration: a pool shrinks while its status is gathered.
// Speakers count the former ranges until the status is about the edited pool. So it must
// not be said to be about that while it does not list what Services hold outside.
func TestTheStatusOfAPoolIsOfOneConfiguration(t *testing.T) {
	ctx := t.Context()
	web := controllertest.Service("web", 0, controllertest.Having("192.0.2.10"))
	api := fake.NewClientBuilder().WithScheme(kube.Scheme()).
		WithObjects(controllertest.Pool("lan", 0, "192.0.2.10-192.0.2.20"), web).
		WithStatusSubresource(kube.ConfigKinds()...).
		Build()
	cache := &interrupted{Reader: api}
	with := shared.Shared{
		State:  state.New(),
		Queues: shared.NewQueues(),
		Cached: cache,
		Live:   api,
		Writer: api,
		Events: events.NewFakeRecorder(10),
		Log:    slog.New(slog.DiscardHandler),
	}
	whole, status := New(with), NewStatus(with)
	lan := state.ObjectKey{Kind: config.KindIPAddressPool, Name: "lan"}
	reconciled := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pool := func() *v1beta1.IPAddressPool {
		var out v1beta1.IPAddressPool
		reconciled(nil, api.Get(ctx, client.ObjectKey{Name: "lan"}, &out))
		return &out
	}
	reconciled(whole.Reconcile(ctx, kube.WholeConfig))
	with.State.AdoptAll([]corev1.Service{*web}, "", time.Now())
	with.State.Adopted.Set()
	reconciled(status.Reconcile(ctx, lan))

	cache.happens = func() {
		edited := pool()
		edited.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.15-192.0.2.20"}
		edited.Generation++
		reconciled(nil, api.Update(ctx, edited))
		reconciled(whole.Reconcile(ctx, kube.WholeConfig))
	}
	for range 2 { // while it shrinks, and once more, as it is to be written again
		reconciled(status.Reconcile(ctx, lan))
		now := pool()
		ready := meta.FindStatusCondition(now.Status.Conditions, v1beta1.ConditionReady)
		told := ready.ObservedGeneration == now.Generation || now.Status.ObservedGeneration == now.Generation
		if listed := slices.Equal(now.Status.OutOfRange, []string{"192.0.2.10"}); told != listed {
			t.Errorf("Ready is of generation %d, the status of %d, the pool of %d; addresses outside: %q",
				ready.ObservedGeneration, now.Status.ObservedGeneration, now.Generation,
				now.Status.OutOfRange)
		}
	}
}
