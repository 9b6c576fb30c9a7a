// Command monitoring writes the generated files of manifests/monitoring: the PrometheusRule,
// from rules.yaml, and the dashboards.
//
//	go run . ../../manifests/monitoring
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-lb/berth/tools/monitoring/dashboards"
	"github.com/berth-lb/berth/tools/monitoring/rules"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: monitoring DIRECTORY")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "monitoring:", err)
		os.Exit(1)
	}
}

// generate writes all files below a directory that has rules.yaml.
func generate(dir string) error {
	source, err := os.ReadFile(filepath.Join(dir, "rules.yaml"))
	if err != nil {
		return err
	}
	object, err := rules.Object(source)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheusrule.yaml"), object, 0o644); err != nil {
		return err
	}
	pages, err := dashboards.All()
	if err != nil {
		return err
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, "dashboards", name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
