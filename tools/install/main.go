// Command install writes what is generated of the manifests that users install: install.yaml, and
// the CRDs and the rights in the Helm chart.
//
//	go run . ../../manifests
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-lb/berth/tools/install/generated"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: install DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

// write writes all generated files below the directory of the manifests.
func write(manifests string) error {
	files, err := generated.Files(manifests)
	if err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(manifests, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
