// Package rules makes the object of prometheus-operator from a file of Prometheus rules.
package rules

import (
	"fmt"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

const head = `# Generated from rules.yaml by make generate. Do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: berth
  namespace: berth-system
spec:
`

// Object returns the PrometheusRule with the groups of a file of rules. They are as they
// are written there, without the comments before them. A field that an object cannot have
// is an error.
func Object(source []byte) ([]byte, error) {
	at := strings.Index(string(source), "\ngroups:\n")
	if at < 0 {
		return nil, fmt.Errorf("the rules have no line %q", "groups:")
	}
	var out strings.Builder
	out.WriteString(head)
	for line := range strings.Lines(string(source[at+1:])) {
		if strings.TrimSpace(line) != "" {
			out.WriteString("  ")
		}
		out.WriteString(line)
	}
	object := []byte(out.String())
	if err := yaml.UnmarshalStrict(object, &monitoringv1.PrometheusRule{}); err != nil {
		return nil, fmt.Errorf("the rules are none of a PrometheusRule: %w", err)
	}
	return object, nil
}
