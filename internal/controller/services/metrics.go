package services

import (
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/internal/controller/state"
)

// metrics are the controller's own; counts of addresses are read from the
// state when they are scraped.
type metrics struct {
	state     *state.State
	decisions *prometheus.CounterVec
	latency   prometheus.Histogram
	addresses *prometheus.Desc
	waiting   *prometheus.Desc
}

func newMetrics(s *state.State) *metrics {
	return &metrics{
		state: s,
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
		waiting: prometheus.NewDesc("berth_controller_services_waiting",
			"Services without all the addresses they ask for.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	m.decisions.Describe(out)
	m.latency.Describe(out)
	out <- m.addresses
	out <- m.waiting
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
	waiting := len(m.state.Waiting())
	out <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting))
}
