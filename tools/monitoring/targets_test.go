package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"sigs.k8s.io/yaml"
)

// discovered is what Prometheus knows of a port of a pod, or of a pod that lists none.
func discovered(component, port, address string) labels.Labels {
	ip := address
	if port != "" {
		ip = "10.244.1.7"
	}
	of := map[string]string{
		model.AddressLabel:             address,
		"__meta_kubernetes_pod_ip":     ip,
		"__meta_kubernetes_pod_phase":  "Running",
		"__meta_kubernetes_pod_name":   "x",
		"__meta_kubernetes_namespace":  "berth-system",
		"__meta_kubernetes_pod_ready":  "true",
		"__meta_kubernetes_pod_labels": "",
	}
	of["__meta_kubernetes_pod_node_name"] = "node1"
	of["__meta_kubernetes_pod_label_app_kubernetes_io_component"] = component
	if port != "" {
		of["__meta_kubernetes_pod_container_port_name"] = port
	}
	return labels.FromMap(of)
}

// TestEveryProcessIsScraped: of what Prometheus finds, the metrics of each process are a target, and
// nothing else. The speaker lists no ports, and its address may be one of IPv6.
func TestEveryProcessIsScraped(t *testing.T) {
	for file, configs := range map[string][]*relabel.Config{
		"scrape.yaml":     ofScrapeConfiguration(t),
		"podmonitor.yaml": ofPodMonitor(t),
	} {
		for _, test := range []struct {
			story   string
			target  labels.Labels
			scraped string // "" for nothing
			role    string
		}{
			{
				story:   "metrics of the controller",
				target:  discovered("controller", "metrics", "10.244.1.7:9740"),
				scraped: "10.244.1.7:9740",
				role:    "controller",
			},
			{
				story:  "health of the controller",
				target: discovered("controller", "health", "10.244.1.7:9741"),
			},
			{
				story:   "a speaker",
				target:  discovered("speaker", "", "10.77.0.11"),
				scraped: "10.77.0.11:9740",
				role:    "speaker",
			},
			{
				story:   "a speaker of IPv6",
				target:  discovered("speaker", "", "fd77::11"),
				scraped: "[fd77::11]:9740",
				role:    "speaker",
			},
		} {
			found := labels.NewBuilder(test.target)
			kept := relabel.ProcessBuilder(found, configs...)
			got := labels.EmptyLabels()
			if kept {
				got = found.Labels()
			}
			if address := got.Get(model.AddressLabel); address != test.scraped {
				t.Errorf("%s: %s is scraped at %q, want %q", file, test.story, address, test.scraped)
			}
			if kept && (got.Get("node") != "node1" || got.Get("role") != test.role) {
				t.Errorf("%s: %s has node %q and role %q", file, test.story, got.Get("node"), got.Get("role"))
			}
		}
	}
}

func ofScrapeConfiguration(t *testing.T) []*relabel.Config {
	t.Helper()
	var file struct {
		Jobs []struct {
			Relabelings []map[string]any `json:"relabel_configs"`
		} `json:"scrape_configs"`
	}
	text, err := os.ReadFile(filepath.Join(manifests, "scrape.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return relabelings(t, file.Jobs[0].Relabelings)
}

// ofPodMonitor returns the relabelings of the PodMonitor as the operator passes them on: with
// the names that Prometheus has for their fields.
func ofPodMonitor(t *testing.T) []*relabel.Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(manifests, "podmonitor.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains(document, "kind: PodMonitor") {
			continue
		}
		names := strings.NewReplacer("sourceLabels:", "source_labels:", "targetLabel:", "target_label:")
		var monitor struct {
			Spec struct {
				Endpoints []struct {
					Port        string           `json:"port"`
					Relabelings []map[string]any `json:"relabelings"`
				} `json:"podMetricsEndpoints"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(names.Replace(document)), &monitor); err != nil {
			t.Fatal(err)
		}
		if monitor.Spec.Endpoints[0].Port != "" {
			t.Error("the PodMonitor names a port: speakers list none, so they would be no targets")
		}
		return relabelings(t, monitor.Spec.Endpoints[0].Relabelings)
	}
	t.Fatal("there is no PodMonitor")
	return nil
}

// relabelings reads relabelings, with the defaults that Prometheus has.
func relabelings(t *testing.T, list []map[string]any) []*relabel.Config {
	t.Helper()
	var out []*relabel.Config
	for _, fields := range list {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		c := relabel.DefaultRelabelConfig
		if err := yaml.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		c.NameValidationScheme = model.UTF8Validation
		out = append(out, &c)
	}
	if len(out) < 4 {
		t.Fatalf("only %d relabelings", len(out))
	}
	return out
}
