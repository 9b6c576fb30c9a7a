package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// story is one of testdata/alerts.yaml.
type story struct {
	Story  string            `json:"story"`
	Series map[string]string `json:"series"`
	Quiet  []int             `json:"quiet"`
	Firing []firing          `json:"firing"`
}

// firing is an alert that fires at these minutes.
type firing struct {
	Alert  string            `json:"alert"`
	At     []int             `json:"at"`
	Labels map[string]string `json:"labels"`
	// Value is that of the expression, where the annotations have it.
	Value float64 `json:"value"`
}

// unit is what promtool reads of a test, and those of its parts that stories need.
type unit struct {
	Name     string   `json:"name"`
	Interval string   `json:"interval"`
	Series   []series `json:"input_series"`
	Alerts   []judged `json:"alert_rule_test"`
}

type series struct {
	Series string `json:"series"`
	Values string `json:"values"`
}

type judged struct {
	At    string   `json:"eval_time"`
	Alert string   `json:"alertname"`
	Want  []wanted `json:"exp_alerts"`
}

type wanted struct {
	Labels      map[string]string `json:"exp_labels"`
	Annotations map[string]string `json:"exp_annotations"`
}

// TestAlertsFireAndClear has promtool judge each story, with every alert.
func TestAlertsFireAndClear(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool: Debian package prometheus, which `make deps` installs")
	}
	rules, err := filepath.Abs(filepath.Join(manifests, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	all := alerts(t)
	var units []unit
	for _, s := range stories(t) {
		units = append(units, s.unit(t, all))
	}
	text, err := yaml.Marshal(map[string]any{
		"rule_files":          []string{rules},
		"evaluation_interval": "1m",
		"tests":               units,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", rules}, {"test", "rules", file}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args[0], err, out)
		}
	}
}

// stories returns those of testdata/alerts.yaml.
func stories(t *testing.T) []story {
	t.Helper()
	var out []story
	read(t, filepath.Join("testdata", "alerts.yaml"), &out)
	return out
}

// TestEachAlertHasAStory in which it fires, and is quiet before and afterwards.
func TestEachAlertHasAStory(t *testing.T) {
	told := map[string]bool{}
	for _, s := range stories(t) {
		for _, f := range s.Firing {
			first, last := slices.Min(f.At), slices.Max(f.At)
			if slices.ContainsFunc(s.Quiet, func(at int) bool { return at < first }) &&
				slices.ContainsFunc(s.Quiet, func(at int) bool { return at > last }) {
				told[f.Alert] = true
			}
		}
		if len(s.Quiet) == 0 {
			t.Errorf("%s: there is no quiet minute", s.Story)
		}
	}
	for _, a := range alerts(t) {
		if !told[a.Alert] {
			t.Errorf("no story has %s fire and clear", a.Alert)
		}
	}
}

// unit returns the test of a story.
func (s story) unit(t *testing.T, all []rule) unit {
	t.Helper()
	input := quietCluster()
	for name, values := range s.Series {
		input[complete(t, name)] = values
	}
	out := unit{Name: s.Story, Interval: "1m"}
	for _, name := range slices.Sorted(maps.Keys(input)) {
		if input[name] == "stale" { // from the start
			continue
		}
		out.Series = append(out.Series, series{name, input[name]})
	}
	minutes := slices.Clone(s.Quiet)
	for _, f := range s.Firing {
		minutes = append(minutes, f.At...)
	}
	slices.Sort(minutes)
	for _, at := range slices.Compact(minutes) {
		for _, a := range all {
			want := judged{At: fmt.Sprintf("%dm", at), Alert: a.Alert, Want: []wanted{}}
			for _, f := range s.Firing {
				if f.Alert == a.Alert && slices.Contains(f.At, at) {
					want.Want = append(want.Want, f.wanted(t, a))
				}
			}
			out.Alerts = append(out.Alerts, want)
		}
	}
	return out
}

// wanted returns the alert as it fires.
func (f firing) wanted(t *testing.T, a rule) wanted {
	t.Helper()
	out := wanted{Labels: maps.Clone(a.Labels), Annotations: map[string]string{}}
	maps.Copy(out.Labels, f.Labels)
	for name, text := range a.Annotations {
		const variables = `{{ $labels := .Labels }}{{ $value := .Value }}`
		parsed, err := template.New(name).Option("missingkey=zero").Parse(variables + text)
		if err != nil {
			t.Fatal(err)
		}
		var expanded strings.Builder
		if err := parsed.Execute(&expanded, f); err != nil {
			t.Fatal(err)
		}
		out.Annotations[name] = expanded.String()
	}
	return out
}

// complete returns a series with those labels of its target that a story leaves out.
func complete(t *testing.T, name string) string {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseMetric(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	metric := parsed.Get(metricName)
	role := parsed.Get("role")
	switch {
	case role != "":
	case strings.HasPrefix(metric, "berth_controller_"), strings.HasPrefix(metric, "leader_election_"):
		role = "controller"
	default:
		role = "speaker"
	}
	b := labels.NewBuilder(parsed)
	b.Set("job", "berth").Set("role", role).Set("instance", parsed.Get("node")+":9740")
	return b.Labels().String()
}

// quietCluster returns the series of a cluster in which nothing happens.
func quietCluster() map[string]string {
	out := map[string]string{}
	add := func(role, node, metric, values string, more ...string) {
		b := labels.NewScratchBuilder(8)
		b.Add(metricName, metric)
		b.Add("job", "berth")
		b.Add("role", role)
		b.Add("node", node)
		b.Add("instance", node+":9740")
		for i := 0; i < len(more); i += 2 {
			b.Add(more[i], more[i+1])
		}
		b.Sort()
		out[b.Labels().String()] = values
	}
	const name = "berth-controller"
	for node, leads := range map[string]string{"node1": "1x200", "node2": "0x200"} {
		add("controller", node, "up", "1x200")
		add("controller", node, "leader_election_master_status", leads, "name", name)
		add("controller", node, "controller_runtime_reconcile_panics_total", "0x200", "controller", "service")
	}
	add("controller", "node1", "berth_controller_objects", "3x200",
		"kind", "IPAddressPool", "reason", "Accepted")
	add("controller", "node1", "berth_controller_services_waiting", "0x200", "reason", "PoolsExhausted")
	for state, n := range map[string]string{"assigned": "5x200", "available": "10x200", "resting": "0x200"} {
		add("controller", "node1", "berth_controller_pool_addresses", n,
			"pool", "lan", "family", "ipv4", "state", state)
		add("controller", "node1", "berth_controller_pool_addresses", "0x200",
			"pool", "lan", "family", "ipv6", "state", state)
	}
	for _, node := range []string{"node1", "node2", "node3"} {
		add("speaker", node, "up", "1x200")
		add("speaker", node, "berth_build_info", "1x200", "version", "v1")
		add("speaker", node, "berth_speaker_members", "3x200")
		for _, metric := range []string{
			"berth_speaker_members_unreachable",
			"berth_speaker_members_unreadable",
			"berth_speaker_isolated",
			"berth_speaker_claims_full",
			"berth_speaker_object_write_errors_total",
			"berth_speaker_member_contradictions_total",
			"berth_speaker_stalls_total",
		} {
			add("speaker", node, metric, "0x200")
		}
		add("speaker", node, "berth_speaker_member_connections_total", "0+50x200", "verdict", "accepted")
		for _, kind := range []string{"ForeignHost", "OtherNode", "Unanswered", "Duplicate", "Contested"} {
			add("speaker", node, "berth_speaker_conflicts", "0x200", "kind", kind)
		}
		add("speaker", node, "berth_speaker_takeover_seconds_count", "0x200", "cause", "NodeGone")
		add("speaker", node, "berth_speaker_bgp_session_up", "1x200", "peer", "tor")
		add("speaker", node, "berth_speaker_bgp_session_state", "1x200",
			"peer", "tor", "state", "Established")
		add("speaker", node, "berth_speaker_bgp_session_downs_total", "0x200", "peer", "tor")
		add("speaker", node, "berth_speaker_bfd_session_up", "1x200", "peer", "tor")
	}
	add("speaker", "node1", "berth_speaker_announced", "1x200", "address", "192.0.2.1")
	return out
}
