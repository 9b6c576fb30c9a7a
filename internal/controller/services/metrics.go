package services

import (
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
)

// metrics are those of Services, pools and configuration objects. What there is now is
// read from the state when it is scraped.
type metrics struct {
	state *state.State
	// perAddress has a series for each address of a Service.
	perAddress bool

	decisions *prometheus.CounterVec
	latency   prometheus.Histogram
	addresses *prometheus.Desc
	address   *prometheus.Desc
	waiting   *prometheus.Desc
	objects   *prometheus.Desc
}

func newMetrics(with shared.Shared) *metrics {
	return &metrics{
		state:      with.State,
		perAddress: with.AddressMetrics,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_controller_assignment_changes_total",
			Help: "Status writes to Services, by the reason of their condition.",
		}, []string{"reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "berth_controller_time_to_address_seconds",
			Help: "Time from seeing a Service without an address to writing its first one.",
			Buckets: []float64{
				.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300, 3600,
			},
		}),
		addresses: prometheus.NewDesc("berth_controller_pool_addresses",
			"Addresses of a pool, by family (ipv4, ipv6) and state "+
				"(assigned, available, resting, excluded, out_of_range).",
			[]string{"pool", "family", "state"}, nil),
		address: prometheus.NewDesc("berth_controller_address_info",
			"1 for each address that a Service has: its pool, and the Service as namespace/name.",
			[]string{"address", "pool", "holder"}, nil),
		waiting: prometheus.NewDesc("berth_controller_services_waiting",
			"Services without all the addresses they ask for, by the reason of their condition.",
			[]string{"reason"}, nil),
		objects: prometheus.NewDesc("berth_controller_objects",
			"Configuration objects, by kind and the reason of their condition Ready; "+
				"those that are Ready have the reason Accepted.",
			[]string{"kind", "reason"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	m.decisions.Describe(out)
	m.latency.Describe(out)
	for _, d := range []*prometheus.Desc{m.addresses, m.address, m.waiting, m.objects} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.decisions.Collect(out)
	m.latency.Collect(out)
	for pool, c := range m.state.Counts(time.Now()) {
		gauge := func(n int64, family, state string) {
			out <- prometheus.MustNewConstMetric(
				m.addresses, prometheus.GaugeValue, float64(n), pool, family, state)
		}
		gauge(c.Assigned4, "ipv4", "assigned")
		gauge(c.Assigned6, "ipv6", "assigned")
		gauge(c.Available4, "ipv4", "available")
		gauge(c.Available6, "ipv6", "available")
		gauge(c.Resting4, "ipv4", "resting")
		gauge(c.Resting6, "ipv6", "resting")
		gauge(c.Excluded4, "ipv4", "excluded")
		gauge(c.Excluded6, "ipv6", "excluded")
		outside4 := int64(len(slices.DeleteFunc(slices.Clone(c.Outside), netip.Addr.Is6)))
		gauge(outside4, "ipv4", "out_of_range")
		gauge(int64(len(c.Outside))-outside4, "ipv6", "out_of_range")
	}
	for reason, n := range m.state.CountWaiting() {
		kube.Gauge(out, m.waiting, n, string(reason))
	}
	for of, n := range m.state.CountObjects() {
		kube.Gauge(out, m.objects, n, of.Kind, string(of.Reason))
	}
	if !m.perAddress {
		return
	}
	for _, a := range m.state.Assignments() {
		kube.Gauge(out, m.address, 1, a.Address.String(), a.Pool, a.Holder)
	}
}
