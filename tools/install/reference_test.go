package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/tools/install/generated"
)

// TestReferenceListsEveryValue: each value of the chart is in a row of the page, or below one.
func TestReferenceListsEveryValue(t *testing.T) {
	files, err := generated.Files(manifests)
	if err != nil {
		t.Fatal(err)
	}
	page := string(files[generated.Reference])
	text, err := os.ReadFile(filepath.Join(manifests, generated.Chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	rows := 0
	var look func(path string, v any, above bool)
	look = func(path string, v any, above bool) {
		listed := strings.Contains(page, fmt.Sprintf("| `%s` |", path))
		if listed {
			rows++
		}
		below, is := v.(map[string]any)
		if !listed && !above && (!is || len(below) == 0) {
			t.Errorf("the page does not list %s", path)
		}
		for name, v := range below {
			look(path+"."+name, v, above || listed)
		}
	}
	for name, v := range values {
		look(name, v, false)
	}
	if rows < 60 || strings.Count(page, "\n| `") != rows {
		t.Errorf("of %d rows %d are of values", strings.Count(page, "\n| `"), rows)
	}
	for _, row := range []string{
		"| `controller.replicas` | `2` | Pods. One leads, the others stand by. |",
		"| `podMonitor.enabled` | `false` | For prometheus-operator: a PodMonitor, and a ServiceAccount",
	} {
		if !strings.Contains(page, "\n"+row) {
			t.Errorf("the page has no row %s", row)
		}
	}
}
