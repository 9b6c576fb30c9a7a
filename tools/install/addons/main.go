// Command addons writes what MicroK8s and minikube need to offer Berth as an addon: the files of
// manifests/addons, and beside them the objects of manifests/base in the form that each wants.
//
//	go run ./addons ../../manifests ../../dist/addons
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-lb/berth/tools/install/generated"
	"github.com/berth-lb/berth/tools/install/render"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: addons MANIFESTS DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "addons:", err)
		os.Exit(1)
	}
}

// write makes the addons of a folder of manifests in a directory, which is emptied first.
func write(manifests, dir string) error {
	base, err := render.Kustomization(filepath.Join(manifests, generated.Base))
	if err != nil {
		return err
	}
	rendered, err := files(base)
	if err != nil {
		return err
	}

	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(manifests, "addons"))); err != nil {
		return err
	}
	for name, text := range rendered {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
