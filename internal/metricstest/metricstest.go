// Package metricstest compares what a process measures with docs/metrics.md.
package metricstest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A Metric is one as the tables of docs/metrics.md have it.
type Metric struct {
	Section string // the heading that its table is under
	Name    string
	Type    string   // gauge, counter or histogram
	Labels  []string // sorted
	// Values are those that a label can have, where the page lists them all.
	Values map[string][]string
}

// Documented reads the tables of metrics of a page.
func Documented(t *testing.T, page string) []Metric {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	out := parse(string(text))
	if len(out) < 20 {
		t.Fatalf("%s has tables of only %d metrics", page, len(out))
	}
	return out
}

var quoted = regexp.MustCompile("`([a-z][a-z0-9_]*)`")

// parse reads the rows "| `name` | type | labels | meaning |".
func parse(page string) []Metric {
	var out []Metric
	section := ""
	for line := range strings.Lines(page) {
		if heading, is := strings.CutPrefix(line, "## "); is {
			section = strings.TrimSpace(heading)
		}
		cells := strings.Split(line, " | ")
		if len(cells) < 4 || !slices.Contains([]string{"gauge", "counter", "histogram"}, cells[1]) {
			continue
		}
		name := quoted.FindStringSubmatch(cells[0])
		if name == nil {
			continue
		}
		labels, values := labelsIn(cells[2])
		out = append(out, Metric{
			Section: section,
			Name:    name[1],
			Type:    cells[1],
			Labels:  labels,
			Values:  values,
		})
	}
	return out
}

// list matches labels, or the values of one, if nothing else is said of them.
var list = regexp.MustCompile("^ *`[A-Za-z0-9_]+`(, `[A-Za-z0-9_]+`)* *$")

// labelsIn reads a cell such as "`link`; `protocol`: `arp`, `ndp`": what follows a colon
// are values.
func labelsIn(cell string) (labels []string, values map[string][]string) {
	values = map[string][]string{}
	for part := range strings.SplitSeq(cell, ";") {
		names, listed, _ := strings.Cut(part, ":")
		if !list.MatchString(names) {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(names, -1) {
			labels = append(labels, m[1])
			if !list.MatchString(listed) {
				continue
			}
			for value := range strings.SplitSeq(listed, ",") {
				values[m[1]] = append(values[m[1]], strings.Trim(value, " `"))
			}
		}
	}
	slices.Sort(labels)
	return labels, values
}

// Check compares what is under two headings of docs/metrics.md, the process's own and
// Both, with what these collectors describe and send.
func Check(t *testing.T, process string, collectors []prometheus.Collector) {
	t.Helper()
	documented := map[string]Metric{}
	for _, m := range Documented(t, "../docs/metrics.md") {
		if m.Section == process || m.Section == "Both" {
			documented[m.Name] = m
		}
	}
	for name, labels := range described(t, collectors) {
		m, known := documented[name]
		switch {
		case !known:
			t.Errorf("docs/metrics.md does not have %s under %s or Both", name, process)
		case !slices.Equal(m.Labels, labels):
			t.Errorf("docs/metrics.md has %s with the labels %q, and it has %q", name, m.Labels, labels)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/metrics.md has %s, which %s does not measure", name, process)
	}
	checkTypes(t, collectors)
}

var (
	fqName   = regexp.MustCompile(`fqName: "([^"]*)"`)
	constant = regexp.MustCompile(`([a-z_]+)="`)
	variable = regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
)

// described returns the labels of each metric that the collectors describe, sorted.
func described(t *testing.T, collectors []prometheus.Collector) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	descs := make(chan *prometheus.Desc, 1000)
	for _, c := range collectors {
		c.Describe(descs)
	}
	close(descs)
	for d := range descs {
		text := d.String()
		name, labels := fqName.FindStringSubmatch(text), variable.FindStringSubmatch(text)
		if name == nil || labels == nil {
			t.Fatalf("cannot read %s", text)
		}
		_, rest, _ := strings.Cut(text, "constLabels: ")
		fixed, _, _ := strings.Cut(rest, ", variableLabels: ")
		var of []string
		for _, m := range constant.FindAllStringSubmatch(fixed, -1) {
			of = append(of, m[1])
		}
		for label := range strings.SplitSeq(labels[1], ",") {
			if label != "" {
				of = append(of, label)
			}
		}
		slices.Sort(of)
		out[name[1]] = of
	}
	return out
}

// checkTypes compares the types of those metrics that have a value now.
func checkTypes(t *testing.T, collectors []prometheus.Collector) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for _, c := range collectors {
		registry.MustRegister(c)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, m := range Documented(t, "../docs/metrics.md") {
		types[m.Name] = m.Type
	}
	for _, f := range families {
		if got := strings.ToLower(fmt.Sprint(f.GetType())); got != types[f.GetName()] {
			t.Errorf("docs/metrics.md says that %s is a %s, and it is a %s", f.GetName(),
				types[f.GetName()], got)
		}
	}
}
