package main

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// TestBillHasEveryModule: of a program with many modules, this test, the bill has each that the linker put
// into it, and is the same each time.
func TestBillHasEveryModule(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := program{
		platform: here,
		name:     "speaker",
		path:     self,
	}
	data, err := billOf(p, "v1.2.3", beginning)
	if err != nil {
		t.Fatal(err)
	}
	again, err := billOf(p, "v1.2.3", beginning)
	if err != nil || string(again) != string(data) {
		t.Errorf("another bill comes of the same program (%v)", err)
	}
	var bill struct {
		Format     string `json:"bomFormat"`
		Spec       string `json:"specVersion"`
		Serial     string `json:"serialNumber"`
		Components []struct {
			Name    string `json:"name"`
			Version string `json:"version"`
			PURL    string `json:"purl"`
		} `json:"components"`
		Metadata struct {
			Timestamp string `json:"timestamp"`
			Component struct {
				Name    string `json:"name"`
				Version string `json:"version"`
			} `json:"component"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.Format != "CycloneDX" || bill.Spec != "1.6" || !strings.HasPrefix(bill.Serial, "urn:uuid:") ||
		bill.Metadata.Component.Version != "v1.2.3" || bill.Metadata.Timestamp != "1980-01-01T00:00:00Z" {
		t.Errorf("the head is %+v, serial number %s", bill.Metadata, bill.Serial)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) < 10 {
		t.Fatalf("the build info has only %d modules", len(info.Deps))
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		found := false
		for _, c := range bill.Components {
			found = found || c.Name == dep.Path && c.Version == dep.Version &&
				strings.HasPrefix(c.PURL, "pkg:golang/")
		}
		if !found {
			t.Errorf("the bill lacks %s %s", dep.Path, dep.Version)
		}
	}
}

// TestIncompleteBillsAreRefused: what is missing is named.
func TestIncompleteBillsAreRefused(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "a.test/main"},
		Deps: []*debug.Module{
			{Path: "a.test/one", Version: "v1.0.0"},
			{
				Path:    "a.test/two",
				Version: "v2.0.0",
				Replace: &debug.Module{Path: "a.test/fork", Version: "v2.0.1"},
			},
		},
	}
	bill := cdx.NewBOM()
	bill.Metadata = &cdx.Metadata{Component: &cdx.Component{Name: "a.test/main"}}
	bill.Components = &[]cdx.Component{
		{Name: "a.test/one", Version: "v1.0.1"},
		{Name: "a.test/two", Version: "v2.0.0"},
	}
	err := complete(bill, info)
	want := []string{
		"a.test/one v1.0.0 is missing",
		"a.test/fork v2.0.1 is missing",
		"the standard library of go1.26.8 is missing",
	}
	if err == nil || !slices.Equal(lines(err.Error()), want) {
		t.Errorf("got %v", err)
	}
	bill.Components = &[]cdx.Component{
		{Name: "a.test/one", Version: "v1.0.0"},
		{Name: "a.test/fork", Version: "v2.0.1"},
		{Name: "std", Version: "go1.26.8"},
	}
	if err := complete(bill, info); err != nil {
		t.Error(err)
	}
}

// TestChangelogEntries: a version has its section, and until it has one, what is not released yet.
func TestChangelogEntries(t *testing.T) {
	const changelog = `# Changelog

Versions follow rules.

## [Unreleased]

### Added

- Next.

## [0.2.0] - 2026-03-04

- Second.

## [0.1.0]

- First.

[0.2.0]: https://a.test/v0.2.0
`
	for _, test := range []struct{ version, text, date string }{
		{"v0.2.0", "- Second.", "2026-03-04"},
		{"v0.3.0", "### Added\n\n- Next.", "0001-01-01"},
		{"v0.2.0-rc.1", "### Added\n\n- Next.", "0001-01-01"},
	} {
		e, err := entryOf(changelog, test.version)
		if err != nil || e.Text != test.text || e.Date.Format("2006-01-02") != test.date {
			t.Errorf("%s: got %q of %v, %v", test.version, e.Text, e.Date, err)
		}
	}
	for _, test := range []struct{ story, changelog, version, says string }{
		{"a section without a date", changelog, "v0.1.0", "section 0.1.0 has no date"},
		{"neither section", "# Changelog\n", "v0.1.0", "neither a section 0.1.0"},
		{"a date that is none", "## [0.1.0] - 2026-02-30\n", "v0.1.0", "section 0.1.0: parsing time"},
		{"two sections", "## [0.1.0] - 2026-02-01\n## [0.1.0] - 2026-02-02\n", "v0.1.0",
			"two sections 0.1.0"},
	} {
		_, err := entryOf(test.changelog, test.version)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v", test.story, err)
		}
	}
}

// TestTheChangelogCanBeReleased: the real one is of the form that a release needs.
func TestTheChangelogCanBeReleased(t *testing.T) {
	e, err := entryOf(read(t, "CHANGELOG.md"), "v999.0.0")
	if err != nil || !strings.Contains(e.Text, "### ") {
		t.Errorf("got %.200q, %v", e.Text, err)
	}
	p, err := newPlan("v999.0.0", "")
	if err != nil {
		t.Fatal(err)
	}
	// GitHub takes no more.
	text := notes(p, e, "go1.26", nil)
	if len(text) > 125_000 || !strings.HasPrefix(text, "**v999.0.0 has no section") {
		t.Errorf("the notes have %d bytes, and begin with %.100q", len(text), text)
	}
}

// TestKrewManifest: it is filled in wholly, for what was built, and for nothing else.
func TestKrewManifest(t *testing.T) {
	template := read(t, "manifests/krew/berth.yaml")
	all := map[string]string{}
	for _, p := range users {
		name := plugin + "-" + p.file() + ".tar.gz"
		if p.OS == "windows" {
			name = plugin + "-" + p.file() + ".zip"
		}
		all[name] = "sum-of-" + name
	}
	whole, err := krewManifest(template, "v1.2.3", all)
	if err != nil {
		t.Fatal(err)
	}
	for name, sum := range all {
		pair := "/releases/download/v1.2.3/" + name + "\n    sha256: " + sum + "\n"
		if !strings.Contains(whole, pair) {
			t.Errorf("there is no %q in\n%s", pair, whole)
		}
	}
	part, err := krewManifest(template, "v1.2.3", map[string]string{"kubectl-berth-linux-arm64.tar.gz": "x"})
	if err != nil || strings.Count(part, "uri:") != 1 || !strings.Contains(part, "arch: arm64") {
		t.Errorf("for one platform: %v\n%s", err, part)
	}
	_, err = krewManifest(template, "v1.2.3", map[string]string{"kubectl-berth-plan9.tar.gz": "x"})
	if err == nil {
		t.Error("an archive that nobody can install is no error")
	}
	if _, err := krewManifest(template+"# VERSION\n", "v1.2.3", all); err == nil {
		t.Error("a place that is not filled in is no error")
	}
}
