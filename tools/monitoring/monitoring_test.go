package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/metricstest"
)

// metricName is the label that holds the name of a metric.
const metricName = "__name__"

// root is that of the repository.
var root = filepath.Join("..", "..")

// manifests is where the files are that this module generates, and what it makes them from.
var manifests = filepath.Join(root, "manifests", "monitoring")

// rule is an alert of rules.yaml.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// alerts returns those of rules.yaml.
func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	}
	read(t, filepath.Join(manifests, "rules.yaml"), &file)
	var out []rule
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) < 15 {
		t.Fatalf("only %d alerts found", len(out))
	}
	return out
}

// read reads a file of YAML. A field that is not expected is an error.
func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestAlertsHaveWhatAPersonNeeds: a summary, a description, a severity, and a page with a
// section of the alert.
func TestAlertsHaveWhatAPersonNeeds(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, part := range strings.Split(string(page), "\n## ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		sections[heading] = text
	}
	for _, a := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s has the severity %q", a.Alert, a.Labels["severity"])
		}
		for _, name := range []string{"summary", "description"} {
			text := a.Annotations[name]
			if text == "" || !strings.HasSuffix(text, ".") || strings.Contains(text, "\n") {
				t.Errorf("%s has the %s %q: it must be sentences in one line", a.Alert, name, text)
			}
		}
		const docs = "https://github.com/berth-lb/berth/blob/main/docs/alerts.md#"
		if got := a.Annotations["runbook_url"]; got != docs+strings.ToLower(a.Alert) {
			t.Errorf("%s links %q", a.Alert, got)
		}
		text, has := sections[a.Alert]
		delete(sections, a.Alert)
		for _, part := range []string{"**Means:**", "**Clients:**", "**Look:**", "**Do:**"} {
			if has && !strings.Contains(text, part) {
				t.Errorf("docs/alerts.md says nothing under %s of %s", part, a.Alert)
			}
		}
		if !has {
			t.Errorf("docs/alerts.md has no section %s", a.Alert)
		}
	}
	for heading := range sections {
		if strings.HasPrefix(heading, "Berth") {
			t.Errorf("docs/alerts.md has a section %s, and there is no such alert", heading)
		}
	}
}

// TestMonitorIsOneOfTheOperator: the PodMonitor and the generated PrometheusRule have only
// fields that there are.
func TestMonitorIsOneOfTheOperator(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(manifests, "podmonitor.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains(document, "kind: PodMonitor") {
			continue
		}
		found = true
		var monitor monitoringv1.PodMonitor
		if err := yaml.UnmarshalStrict([]byte(document), &monitor); err != nil {
			t.Error(err)
		}
		for _, endpoint := range monitor.Spec.PodMetricsEndpoints {
			// Speakers list no ports: with the name of one they would be no targets.
			if endpoint.Port != nil || endpoint.Authorization.Credentials.Name != "berth-scraper" {
				t.Errorf("the endpoint is %+v", endpoint)
			}
		}
	}
	if !found {
		t.Error("there is no PodMonitor")
	}
	var rules monitoringv1.PrometheusRule
	read(t, filepath.Join(manifests, "prometheusrule.yaml"), &rules)
	count := 0
	for _, g := range rules.Spec.Groups {
		count += len(g.Rules)
	}
	if want := len(alerts(t)); count != want {
		t.Errorf("the PrometheusRule has %d alerts, and rules.yaml has %d", count, want)
	}
}

// TestExpressionsAskForWhatThereIs: each metric in the rules and in the dashboards is in
// docs/metrics.md, which tests of both processes compare with what they measure. So are
// its labels and, where all are listed, their values.
func TestExpressionsAskForWhatThereIs(t *testing.T) {
	known := metrics(t)
	for _, a := range alerts(t) {
		for _, wrong := range known.check(a.Expr) {
			t.Errorf("%s: %s", a.Alert, wrong)
		}
	}
	for _, d := range boards(t) {
		for _, p := range d.panels() {
			for _, target := range p.Targets {
				for _, wrong := range known.check(target.Expr) {
					t.Errorf("%s: %s: %s", d.Title, p.Title, wrong)
				}
			}
		}
	}
}

// vocabulary is every metric that there is, by name.
type vocabulary map[string]metricstest.Metric

// metrics returns those of docs/metrics.md, and up, which Prometheus has of each target.
func metrics(t *testing.T) vocabulary {
	t.Helper()
	out := vocabulary{"up": {Name: "up", Type: "gauge"}}
	for _, m := range metricstest.Documented(t, filepath.Join(root, "docs", "metrics.md")) {
		out[m.Name] = m
		if m.Type == "histogram" {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				part := m
				if suffix == "_bucket" {
					part.Labels = append(slices.Clone(m.Labels), "le")
				}
				out[m.Name+suffix] = part
			}
			delete(out, m.Name)
		}
	}
	return out
}

// ofTargets are the labels that scrape.yaml and podmonitor.yaml give every series.
var ofTargets = []string{"instance", "job", "node", "role"}

// variables are what Grafana puts into an expression.
var variables = regexp.MustCompile(`\$(__rate_interval|[a-z]+)`)

// check returns what is wrong with an expression.
func (v vocabulary) check(expr string) []string {
	expr = variables.ReplaceAllStringFunc(expr, func(name string) string {
		if name == "$__rate_interval" {
			return "5m"
		}
		return ".*"
	})
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", expr, err)}
	}
	var wrong []string
	has := slices.Clone(ofTargets)
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if s, is := n.(*parser.VectorSelector); is {
			wrong = append(wrong, v.checkSelector(s)...)
			has = append(has, v[s.Name].Labels...)
		}
		return nil
	})
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		var used []string
		switch n := n.(type) {
		case *parser.AggregateExpr:
			used = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				used = append(slices.Clone(n.VectorMatching.MatchingLabels), n.VectorMatching.Include...)
			}
		}
		for _, label := range used {
			if !slices.Contains(has, label) {
				wrong = append(wrong, fmt.Sprintf("no metric of %s has the label %s", expr, label))
			}
		}
		return nil
	})
	return wrong
}

// checkSelector returns what is wrong with one metric and its matchers. Every metric must
// be asked for with the job, as other programs have metrics of libraries, too.
func (v vocabulary) checkSelector(s *parser.VectorSelector) []string {
	m, known := v[s.Name]
	if !known {
		return []string{fmt.Sprintf("there is no metric %s", s.Name)}
	}
	var wrong []string
	ofJob := false
	for _, matcher := range s.LabelMatchers {
		values, listed := m.Values[matcher.Name]
		switch {
		case matcher.Name == metricName:
		case matcher.Name == "job":
			ofJob = matcher.Type == labels.MatchEqual && matcher.Value == "berth"
		case !slices.Contains(ofTargets, matcher.Name) && !slices.Contains(m.Labels, matcher.Name):
			wrong = append(wrong, fmt.Sprintf("%s has no label %s", s.Name, matcher.Name))
		case listed && matcher.Value != ".*":
			for value := range strings.SplitSeq(matcher.Value, "|") {
				if !slices.Contains(values, value) {
					wrong = append(wrong, fmt.Sprintf("%s of %s is never %s", matcher.Name, s.Name, value))
				}
			}
		}
	}
	if !ofJob {
		wrong = append(wrong, fmt.Sprintf(`%s is asked for without job="berth"`, s.Name))
	}
	return wrong
}

func TestWrongExpressionsAreFound(t *testing.T) {
	known := metrics(t)
	for _, test := range []struct{ story, expr, says string }{
		{"right", `sum by (node) (rate(berth_speaker_stalls_total{job="berth"}[$__rate_interval]))`, ""},
		{"a bucket", `sum by (le) (berth_speaker_takeover_seconds_bucket{job="berth",cause="NodeGone"})`, ""},
		{"no PromQL", `sum(`, "parse error"},
		{"a metric that there is not", `berth_speaker_friends{job="berth"}`, "there is no metric"},
		{"a histogram itself", `berth_speaker_takeover_seconds{job="berth"}`, "there is no metric"},
		{"another label", `berth_speaker_announced{job="berth",ip="x"}`, "has no label ip"},
		{"grouped by another label", `sum by (ip) (up{job="berth"})`, "has the label ip"},
		{"joined by another label", `up{job="berth"} * on (ip) up{job="berth"}`, "has the label ip"},
		{"a value that there is not", `berth_speaker_conflicts{job="berth",kind=~"ForeignHost|Foreign"}`,
			"kind of berth_speaker_conflicts is never Foreign"},
		{"of all jobs", `up{role="speaker"}`, "without job"},
	} {
		got := strings.Join(known.check(test.expr), "\n")
		if (got == "") != (test.says == "") || !strings.Contains(got, test.says) {
			t.Errorf("%s: got %q, want %q in it", test.story, got, test.says)
		}
	}
}

// board is what tests read of a dashboard.
type board struct {
	file          string
	ID            any      `json:"id"`
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	Tags          []string `json:"tags"`
	Editable      bool     `json:"editable"`
	SchemaVersion int      `json:"schemaVersion"`
	Panels        []shown  `json:"panels"`
	Templating    struct {
		List []struct {
			Name       string     `json:"name"`
			Type       string     `json:"type"`
			Query      any        `json:"query"`
			Datasource *sourceRef `json:"datasource"`
		} `json:"list"`
	} `json:"templating"`
	Inputs any `json:"__inputs"`
}

// sourceRef names a data source.
type sourceRef struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// shown is a panel, or the heading of a row.
type shown struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  *sourceRef `json:"datasource"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Expr       string     `json:"expr"`
		RefID      string     `json:"refId"`
		Datasource *sourceRef `json:"datasource"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

// boards returns the dashboards.
func boards(t *testing.T) []board {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(manifests, "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 5 {
		t.Fatalf("there are %d dashboards", len(files))
	}
	var out []board
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b := board{file: filepath.Base(file)}
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, b)
	}
	return out
}

// panels are those of a dashboard without the headings of rows.
func (b board) panels() []shown {
	return slices.DeleteFunc(slices.Clone(b.Panels), func(p shown) bool { return p.Type == "row" })
}

// TestDashboardsAreWellMade: they can be imported anywhere and again, and are about what
// the user chooses.
func TestDashboardsAreWellMade(t *testing.T) {
	uids := map[string]string{}
	for _, b := range boards(t) {
		for _, wrong := range b.check() {
			t.Errorf("%s: %s", b.file, wrong)
		}
		if other, taken := uids[b.UID]; taken {
			t.Errorf("%s and %s have the uid %s", b.file, other, b.UID)
		}
		uids[b.UID] = b.file
	}
}

// check returns what is wrong with a dashboard.
func (b board) check() []string {
	var wrong []string
	is := func(fault bool, format string, args ...any) {
		if fault {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	is(b.ID != nil, "it has an id")
	is(b.Inputs != nil, "it has __inputs")
	is(b.UID != "berth-"+strings.TrimSuffix(b.file, ".json"), "its uid is %q", b.UID)
	is(b.SchemaVersion < 39, "its schemaVersion is %d", b.SchemaVersion)
	is(!b.Editable, "it cannot be edited")
	is(!slices.Contains(b.Tags, "berth"), "it has the tags %q", b.Tags)
	is(!strings.HasPrefix(b.Title, "Berth / ") || b.Description == "", "it lacks a title or a description")

	names := map[string]bool{}
	for _, v := range b.Templating.List {
		names[v.Name] = true
		is(v.Type == "datasource" && v.Query != "prometheus", "its data source is of type %v", v.Query)
		is(v.Type == "query" && (v.Datasource == nil || v.Datasource.UID != "${datasource}"),
			"the variable %s has a data source of its own", v.Name)
	}
	is(!names["datasource"], "there is no data source to choose")
	used := map[string]bool{"datasource": true}
	ids := map[int]bool{}
	for _, p := range b.Panels {
		is(p.ID == 0 || ids[p.ID], "%q has the id %d, which is not its own", p.Title, p.ID)
		ids[p.ID] = true
	}
	titles := map[string]bool{}
	for _, p := range b.panels() {
		wrong = append(wrong, p.check()...)
		is(titles[p.Title], "two panels are called %s", p.Title)
		titles[p.Title] = true
		for _, target := range p.Targets {
			for _, m := range variables.FindAllStringSubmatch(target.Expr, -1) {
				used[m[1]] = true
				is(m[1] != "__rate_interval" && !names[m[1]], "%s: there is no variable %s", p.Title, m[1])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		is(!used[name], "no panel uses the variable %s", name)
	}
	return append(wrong, b.overlaps()...)
}

// fixedRange is the range of a rate or an increase that does not follow the resolution.
var fixedRange = regexp.MustCompile(`\[[^$]`)

// check returns what is wrong with a panel.
func (p shown) check() []string {
	var wrong []string
	is := func(fault bool, what string) {
		if fault {
			wrong = append(wrong, fmt.Sprintf("the panel %q %s", p.Title, what))
		}
	}
	chosen := func(ref *sourceRef) bool {
		return ref != nil && ref.Type == "prometheus" && ref.UID == "${datasource}"
	}
	is(p.Title == "" || !strings.HasSuffix(p.Description, "."), "lacks a title or a description")
	is(p.FieldConfig.Defaults.Unit == "", "has no unit")
	is(!chosen(p.Datasource), "has not the data source that was chosen")
	is(len(p.Targets) == 0, "has no query")
	refs := map[string]bool{}
	for _, target := range p.Targets {
		is(!chosen(target.Datasource), "has a query of another data source")
		is(target.RefID == "" || refs[target.RefID], "has queries with one refId")
		refs[target.RefID] = true
		is(fixedRange.MatchString(target.Expr), "has a range other than $__rate_interval")
	}
	return wrong
}

// overlaps returns which panels lie upon others, or beyond the 24 columns.
func (b board) overlaps() []string {
	var wrong []string
	for i, p := range b.Panels {
		at := p.GridPos
		if p.Type != "row" && (at.W == 0 || at.H == 0) || at.X+at.W > 24 {
			wrong = append(wrong, fmt.Sprintf("%q is at %+v", p.Title, at))
		}
		for _, other := range b.Panels[:i] {
			o := other.GridPos
			if at.X < o.X+o.W && o.X < at.X+at.W && at.Y < o.Y+o.H && o.Y < at.Y+at.H {
				wrong = append(wrong, fmt.Sprintf("%q lies upon %q", p.Title, other.Title))
			}
		}
	}
	return wrong
}

// TestBadDashboardsAreFound spoils a good one in many ways.
func TestBadDashboardsAreFound(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(manifests, "dashboards", "pools.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ before, after, says string }{
		{`"uid": "berth-pools"`, `"uid": "pools"`, "its uid is"},
		{`"uid": "${datasource}"`, `"uid": "prometheus"`, "has a query of another data source"},
		{`"schemaVersion": 42`, `"schemaVersion": 26`, "its schemaVersion is 26"},
		{`"title": "Used"`, `"title": ""`, "lacks a title"},
		{`"unit": "percentunit"`, `"unit": ""`, "has no unit"},
		{`pool=~\"$pool\"`, `pool=~\"$pond\"`, "there is no variable pond"},
		{`"editable": true`, `"editable": true, "id": 7`, "it has an id"},
		{`"x": 12`, `"x": 11`, "lies upon"},
	} {
		spoilt := strings.Replace(string(text), test.before, test.after, 1)
		if spoilt == string(text) {
			t.Errorf("there is no %s to be spoilt", test.before)
			continue
		}
		b := board{file: "pools.json"}
		if err := json.Unmarshal([]byte(spoilt), &b); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(b.check(), "\n"); !strings.Contains(got, test.says) {
			t.Errorf("after %s: got %q, want %q in it", test.after, got, test.says)
		}
	}
	p := shown{Title: "x"}
	p.Targets = append(p.Targets, struct {
		Expr       string     `json:"expr"`
		RefID      string     `json:"refId"`
		Datasource *sourceRef `json:"datasource"`
	}{Expr: "rate(x[5m])"})
	if got := strings.Join(p.check(), "\n"); !strings.Contains(got, "$__rate_interval") {
		t.Errorf("a fixed range is not found: %s", got)
	}
}
