package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/definitions"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/metricstest"
	"github.com/berth-lb/berth/pkg/config"
)

func TestMetricsAreAsDocumented(t *testing.T) {
	w := newWorld(t, pool("lan", 0, "192.0.2.0/30"), service("web", 1))
	w.look("web")
	loops := &kube.Loops{}
	loops.Loop("decisions").Begin()
	metricstest.Check(t, "Controller", collectors(w.services, checked(t), loops))
}

// checked returns a Checker that has compared definitions with themselves.
func checked(t *testing.T) *definitions.Checker {
	t.Helper()
	own, err := definitions.Own()
	if err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder()
	for _, crd := range own {
		api = api.WithObjects(crd)
	}
	checker := definitions.New(shared.Shared{
		State:  state.New(),
		Queues: shared.NewQueues(),
		Live:   api.Build(),
		Log:    slog.New(slog.DiscardHandler),
	})
	once, cancel := context.WithCancel(t.Context())
	cancel()
	if err := checker.Run(once); err != nil {
		t.Fatal(err)
	}
	return checker
}

// measures compares the series of a metric with what is expected, as "label=value" and the
// number, separated by spaces.
func (w *world) measures(name string, want ...string) {
	w.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w.services.Metrics())
	families, err := registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			line := ""
			for _, l := range m.GetLabel() {
				line += l.GetName() + "=" + l.GetValue() + " "
			}
			got = append(got, line+fmt.Sprint(m.GetGauge().GetValue()))
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		w.t.Errorf("%s has %q, want %q", name, got, want)
	}
}

// TestObjectsAreCountedByReason, when they are evaluated, and no more when they are gone.
func TestObjectsAreCountedByReason(t *testing.T) {
	const name = "berth_controller_objects"
	lan, broken := pool("lan", 0, "192.0.2.0/30"), pool("broken", 1, "192.0.2.0/33")
	w := newWorld(t, lan, broken)
	w.measures(name)
	w.judge(config.KindIPAddressPool, "lan")
	w.measures(name, "kind=IPAddressPool reason=Accepted 1")
	w.judge(config.KindIPAddressPool, "broken")
	w.judge(config.KindIPAddressPool, "broken")
	const invalid = "kind=IPAddressPool reason=Invalid"
	w.measures(name, "kind=IPAddressPool reason=Accepted 1", invalid+" 1")

	mended := w.pool("broken")
	mended.Spec.Addresses = []v1beta1.AddressRange{"198.51.100.0/30"}
	if err := w.api.Update(t.Context(), mended); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.judge(config.KindIPAddressPool, "broken")
	w.measures(name, "kind=IPAddressPool reason=Accepted 2", invalid+" 0")

	if err := w.api.Delete(t.Context(), lan); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.measures(name, "kind=IPAddressPool reason=Accepted 1", invalid+" 0")
	w.judge(config.KindIPAddressPool, "lan")
	w.measures(name, "kind=IPAddressPool reason=Accepted 1", invalid+" 0")
}

func TestWaitingServicesAreCountedByReason(t *testing.T) {
	const name = "berth_controller_services_waiting"
	w := newWorld(t, pool("lan", 0, "192.0.2.7/32"), service("one", 1), service("two", 2))
	w.measures(name, "reason=PoolsExhausted 0")
	w.look("one", "two", "two")
	w.measures(name, "reason=PoolsExhausted 1")
	w.change("two", func(s *corev1.Service) {
		s.Annotations = map[string]string{v1beta1.AnnotationAddressPool: "wan"}
	})
	w.look("two")
	w.measures(name, "reason=PoolsExhausted 0", "reason=RequestedPoolNotFound 1")
	w.delete("two")
	w.look("two")
	w.measures(name, "reason=PoolsExhausted 0", "reason=RequestedPoolNotFound 0")
}

func TestAddressesHaveAMetricEachUnlessTurnedOff(t *testing.T) {
	const name = "berth_controller_address_info"
	w := newWorld(t, pool("lan", 0, "192.0.2.0/30"), service("one", 1), service("two", 2))
	w.look("one")
	w.measures(name, "address=192.0.2.0 holder=default/one pool=lan 1")
	w.delete("one")
	w.look("one")
	w.measures(name)

	w.noAddressMetrics = true
	w.restart()
	w.look("two")
	w.measures(name)
}
