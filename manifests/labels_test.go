package manifests

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// labelsOf returns the labels by which everything finds the pods of a program.
func labelsOf(component string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":      "berth",
		"app.kubernetes.io/instance":  "berth",
		"app.kubernetes.io/component": component,
	}
}

// TestSelectors: the selector of a workload cannot be changed later, so it is written
// down here. What selects its pods beside it has the same.
func TestSelectors(t *testing.T) {
	same := func(what, component string, got map[string]string) {
		t.Helper()
		if want := labelsOf(component); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	only := func(what, component string, s *metav1.LabelSelector) {
		t.Helper()
		if s == nil || len(s.MatchExpressions) > 0 {
			t.Fatalf("%s: the selector is %v", what, s)
		}
		same(what, component, s.MatchLabels)
	}

	for _, d := range decoded[*appsv1.Deployment](t, base(t)) {
		only("the Deployment's selector", "controller", d.Spec.Selector)
		same("the Deployment's pods", "controller", d.Spec.Template.Labels)
		apart := d.Spec.Template.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		for _, term := range apart {
			only("the controller's anti-affinity", "controller", term.PodAffinityTerm.LabelSelector)
		}
	}
	for _, d := range decoded[*appsv1.DaemonSet](t, base(t)) {
		only("the DaemonSet's selector", "speaker", d.Spec.Selector)
		same("the DaemonSet's pods", "speaker", d.Spec.Template.Labels)
	}
	for _, p := range decoded[*policyv1.PodDisruptionBudget](t, base(t)) {
		only("the PodDisruptionBudget", "controller", p.Spec.Selector)
	}
	for _, p := range decoded[*networkingv1.NetworkPolicy](t, base(t)) {
		only("the NetworkPolicy", "controller", &p.Spec.PodSelector)
	}
}

// TestEveryObjectIsLabelled: kubectl finds all of Berth, and all of one program, by
// labels. Selectors do not get them from kustomize, which could change them unseen.
func TestEveryObjectIsLabelled(t *testing.T) {
	for _, test := range []struct {
		dir  string
		want map[string]string
	}{
		{"base", map[string]string{"app.kubernetes.io/name": "berth", "app.kubernetes.io/instance": "berth"}},
		{"base/controller", map[string]string{"app.kubernetes.io/component": "controller"}},
		{"base/speaker", map[string]string{"app.kubernetes.io/component": "speaker"}},
	} {
		content, err := os.ReadFile(filepath.Join(test.dir, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var k struct {
			Labels []struct {
				Pairs            map[string]string `json:"pairs"`
				IncludeSelectors bool              `json:"includeSelectors"`
			} `json:"labels"`
		}
		if err := yaml.Unmarshal(content, &k); err != nil {
			t.Fatal(err)
		}
		if len(k.Labels) != 1 || !maps.Equal(k.Labels[0].Pairs, test.want) || k.Labels[0].IncludeSelectors {
			t.Errorf("%s labels its objects with %v, want %v", test.dir, k.Labels, test.want)
		}
	}
}
