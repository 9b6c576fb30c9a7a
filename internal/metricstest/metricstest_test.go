package metricstest

import (
	"reflect"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestTablesAreRead(t *testing.T) {
	const page = "## One\n" +
		"| metric | type | labels | meaning |\n" +
		"|---|---|---|---|\n" +
		"| `berth_a` | gauge | `pool`; `family`: `ipv4`, `ipv6` | a |\n" +
		"| `berth_b_total` | counter | `link`, `address`; `reason`: `x` in a; `y` in b | of `pool` |\n" +
		"## Two\n" +
		"| `berth_c_seconds` | histogram | – | c |\n" +
		"| `First` | nobody has announced it before |\n"
	want := []Metric{
		{
			"One",
			"berth_a",
			"gauge",
			[]string{"family", "pool"},
			map[string][]string{"family": {"ipv4", "ipv6"}},
		},
		{"One", "berth_b_total", "counter", []string{"address", "link", "reason"}, map[string][]string{}},
		{"Two", "berth_c_seconds", "histogram", nil, map[string][]string{}},
	}
	if got := parse(page); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestDescriptionsAreRead(t *testing.T) {
	got := described(t, []prometheus.Collector{
		prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "berth_a", Help: `a "quoted" {word}`},
			[]string{"pool", "family"}),
		prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "berth_info",
			ConstLabels: prometheus.Labels{"version": "v1, variableLabels"},
		}),
	})
	want := map[string][]string{"berth_a": {"family", "pool"}, "berth_info": {"version"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}
