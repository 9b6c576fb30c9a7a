package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/tools/install/packaged"
	"github.com/berth-lb/berth/tools/install/render"
)

// TestReleasesInstallTheirVersion: install.yaml, the chart and the kustomization of a release install what
// those of the repository do, but with the images of the version.
func TestReleasesInstallTheirVersion(t *testing.T) {
	const version = "v1.2.3-rc.4"
	change := []string{
		"DaemonSet berth-speaker in berth-system: spec.template.spec.containers[0].image: " +
			`"ghcr.io/berth-lb/speaker:v1.2.3-rc.4", was "ghcr.io/berth-lb/speaker:dev"`,
		"Deployment berth-controller in berth-system: spec.template.spec.containers[0].image: " +
			`"ghcr.io/berth-lb/controller:v1.2.3-rc.4", was "ghcr.io/berth-lb/controller:dev"`,
	}

	text, err := packaged.Install(manifests, version)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "# Berth "+version+"\n") {
		t.Errorf("install.yaml begins with %.80q", text)
	}
	all, err := render.Objects(text)
	if err != nil {
		t.Fatal(err)
	}
	same(t, render.Differences(base(t), all), change)

	files, err := packaged.Kustomizations(manifests, version)
	if err != nil {
		t.Fatal(err)
	}
	dir := written(t, files)
	same(t, render.Differences(base(t), kustomized(t, filepath.Join(dir, "manifests", "base"))), change)
	monitoring := kustomized(t, filepath.Join(dir, "manifests", "monitoring"))
	same(t, render.Differences(kustomized(t, filepath.Join(manifests, "monitoring")), monitoring), nil)

	made := ofChart(t, version)
	want := append(change, "Namespace berth-system: removed")
	same(t, render.Differences(base(t), append(made.CRDs, withoutHelm(t, made.Objects)...)), want)
}

// ofChart renders the packaged chart of a version, with the values that it has.
func ofChart(t *testing.T, version string) render.Chart {
	t.Helper()
	files, err := packaged.Chart(manifests, version)
	if err != nil {
		t.Fatal(err)
	}
	var buffered []*archive.BufferedFile
	for _, f := range files {
		name, inside := strings.CutPrefix(f.Path, "berth/")
		if !inside {
			t.Errorf("%s is outside of the chart's folder", f.Path)
		}
		buffered = append(buffered, &archive.BufferedFile{
			Name: name,
			Data: f.Text,
		})
	}
	chart, err := loader.LoadFiles(buffered)
	if err != nil {
		t.Fatal(err)
	}
	if err := chart.Validate(); err != nil {
		t.Error(err)
	}
	if got, want := chart.Metadata.Version, packaged.ChartVersion(version); got != want {
		t.Errorf("the chart has version %s, want %s", got, want)
	}
	made, err := render.Of(chart, render.Release{
		Name:      "lb",
		Namespace: "berth-system",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range made.Objects {
		if got := o.GetLabels()["app.kubernetes.io/version"]; got != version {
			t.Errorf("%s is labelled with version %q", render.Key(o), got)
		}
	}
	return made
}

// written writes files into a folder of their own.
func written(t *testing.T, files []packaged.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestNothingSaysAnotherVersion: no object that a release installs has an image without the version.
func TestNothingSaysAnotherVersion(t *testing.T) {
	made := ofChart(t, "v1.2.3")
	for _, o := range append(made.Objects, made.Tests...) {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "containers")
		inner, has, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if has {
			containers = inner
		}
		for _, c := range containers {
			if image := c.(map[string]any)["image"].(string); !strings.HasSuffix(image, ":v1.2.3") {
				t.Errorf("%s runs %s", render.Key(o), image)
			}
		}
	}
}

// TestChangedManifestsAreNoticed: a release is not made of manifests that no longer say dev where a version
// goes.
func TestChangedManifestsAreNoticed(t *testing.T) {
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "install.yaml"), []byte("kind: Namespace\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = packaged.Install(dir, "v1.2.3")
	if err == nil || !strings.Contains(err.Error(), "0 times, not once") {
		t.Errorf("got %v", err)
	}
}
