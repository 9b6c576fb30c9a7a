package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"
)

// TestThePageKnowsAllCommands: docs/cli.md names each command, and what it shows is what
// the stories print.
func TestThePageKnowsAllCommands(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	root := New("kubectl-berth", genericiooptions.IOStreams{Out: &bytes.Buffer{}, ErrOut: &bytes.Buffer{}})
	for _, c := range root.Commands() {
		if c.Name() != "help" && c.Name() != "completion" && !strings.Contains(page, "| `"+c.Name()+"` |") {
			t.Errorf("docs/cli.md does not have %s in its table", c.Name())
		}
	}

	var stories []string
	files, err := filepath.Glob(filepath.Join("testdata", "stories", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no stories: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stories = append(stories, strings.Split(string(text), "\n")...)
	}
	shown := 0
	transcript := false
	for line := range strings.Lines(page) {
		line, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		transcript = indented && (transcript || strings.HasPrefix(line, "$ "))
		if !transcript || line == "..." {
			continue
		}
		if shown++; !slices.Contains(stories, line) {
			t.Errorf("docs/cli.md shows %q, and no story prints that", line)
		}
	}
	if shown < 10 {
		t.Errorf("only %d lines of transcripts found: does this test still see them?", shown)
	}
}

// TestTheKrewManifestIsWhole: it is what krew reads, for each system that make cross builds.
func TestTheKrewManifestIsWhole(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "manifests", "krew", "berth.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var plugin struct {
		APIVersion string                `json:"apiVersion"`
		Kind       string                `json:"kind"`
		Metadata   struct{ Name string } `json:"metadata"`
		Spec       struct {
			Version          string `json:"version"`
			Homepage         string `json:"homepage"`
			ShortDescription string `json:"shortDescription"`
			Description      string `json:"description"`
			Caveats          string `json:"caveats"`
			Platforms        []struct {
				Selector struct {
					MatchLabels map[string]string `json:"matchLabels"`
				} `json:"selector"`
				URI    string `json:"uri"`
				SHA256 string `json:"sha256"`
				Bin    string `json:"bin"`
			} `json:"platforms"`
		} `json:"spec"`
	}
	if err := yaml.UnmarshalStrict(raw, &plugin); err != nil {
		t.Fatal(err)
	}
	if plugin.Metadata.Name != "berth" || plugin.Kind != "Plugin" || len(plugin.Spec.ShortDescription) > 60 {
		t.Errorf("the head is %+v", plugin)
	}
	platforms := map[string]bool{}
	for _, p := range plugin.Spec.Platforms {
		name := p.Selector.MatchLabels["os"] + "-" + p.Selector.MatchLabels["arch"]
		platforms[name] = true
		if !strings.Contains(p.URI, name) || !strings.HasPrefix(p.Bin, "kubectl-berth") {
			t.Errorf("%s has %s, %s", name, p.URI, p.Bin)
		}
	}
	for _, name := range []string{
		"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64", "windows-arm64",
	} {
		if !platforms[name] {
			t.Errorf("%s is missing", name)
		}
	}
}
