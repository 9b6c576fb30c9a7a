// Package render makes objects of what users install: of kustomizations, as kubectl does, and of
// the Helm chart, as Helm does.
package render

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Kustomization returns the YAML that `kubectl kustomize` prints of a directory.
func Kustomization(dir string) ([]byte, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", dir, err)
	}
	return built.AsYaml()
}

// Objects returns the objects of a stream of YAML documents in their order. Empty documents are
// left out.
func Objects(stream []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for in := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream))); ; {
		document, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var o unstructured.Unstructured
		if err := yaml.UnmarshalStrict(document, &o.Object); err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, document)
		}
		if len(o.Object) > 0 {
			out = append(out, &o)
		}
	}
}

// Release is what Helm knows of an installation.
type Release struct {
	Name      string
	Namespace string
	Upgrade   bool // not the first installation
}

// Chart is what Helm makes of the chart.
type Chart struct {
	// CRDs are installed before everything else, and by nothing else.
	CRDs []*unstructured.Unstructured
	// Objects belong to the release.
	Objects []*unstructured.Unstructured
	// Tests are what `helm test` creates.
	Tests []*unstructured.Unstructured
	// Notes are printed after an installation.
	Notes string
}

// Load reads a chart from its directory.
func Load(dir string) (*chart.Chart, error) { return loader.LoadDir(dir) }

// Of renders a chart with values, which are checked against its schema, for a cluster of
// the oldest Kubernetes that Berth supports.
func Of(c *chart.Chart, release Release, values map[string]any) (Chart, error) {
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = common.KubeVersion{
		Version: "v1.31.0",
		Major:   "1",
		Minor:   "31",
	}
	all, err := util.ToRenderValues(c, values, common.ReleaseOptions{
		Name:      release.Name,
		Namespace: release.Namespace,
		Revision:  1,
		IsInstall: !release.Upgrade,
		IsUpgrade: release.Upgrade,
	}, capabilities)
	if err != nil {
		return Chart{}, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return Chart{}, err
	}
	return sorted(c, files)
}

// sorted tells the files of a rendered chart apart.
func sorted(c *chart.Chart, files map[string]string) (Chart, error) {
	var out Chart
	for _, crd := range c.CRDObjects() {
		objects, err := Objects(crd.File.Data)
		if err != nil {
			return Chart{}, fmt.Errorf("%s: %w", crd.Filename, err)
		}
		out.CRDs = append(out.CRDs, objects...)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch {
		case path.Base(name) == "NOTES.txt":
			out.Notes = files[name]
			continue
		case strings.HasPrefix(path.Base(name), "_"):
			continue
		}
		objects, err := Objects([]byte(files[name]))
		if err != nil {
			return Chart{}, fmt.Errorf("%s: %w", name, err)
		}
		if filepath.Base(filepath.Dir(name)) == "tests" {
			out.Tests = append(out.Tests, objects...)
		} else {
			out.Objects = append(out.Objects, objects...)
		}
	}
	return out, nil
}

// Key names an object.
func Key(o *unstructured.Unstructured) string {
	key := o.GetKind() + " " + o.GetName()
	if ns := o.GetNamespace(); ns != "" {
		key += " in " + ns
	}
	return key
}
