package manifests

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-lb/berth/internal/kube"
)

// TestPagesHaveReadableObjects: what the pages for platforms and routers show of Berth's own kinds has only
// fields that there are.
func TestPagesHaveReadableObjects(t *testing.T) {
	found := 0
	for _, folder := range []string{"../docs/platforms", "../docs/routers"} {
		err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(file) != ".md" {
				return err
			}
			page, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for _, block := range berthBlocks(string(page)) {
				for _, d := range split(t, file, []byte(block)) {
					found++
					if _, err := decode(kube.Scheme(), d); err != nil {
						t.Error(err)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 8 {
		t.Errorf("only %d objects found: does this test still see them?", found)
	}
}

// berthBlocks returns the fenced blocks of YAML that have objects of Berth's kinds, also those that a
// command reads up to EOF, without their indentation.
func berthBlocks(page string) []string {
	var out []string
	var block strings.Builder
	in, indent := false, ""
	for line := range strings.Lines(page) {
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, "```") && in:
			in = false
			if strings.Contains(block.String(), "apiVersion: berth.io/") {
				out = append(out, block.String())
			}
		case strings.HasPrefix(text, "```"):
			in = true
			indent = line[:strings.Index(line, "```")]
			block.Reset()
		case in && !strings.Contains(text, "EOF"):
			block.WriteString(strings.TrimPrefix(line, indent))
		}
	}
	return out
}

func TestBlocksOfPagesAreFound(t *testing.T) {
	got := berthBlocks("```text\nls\n```\n1. x\n\n    ```text\n    kubectl apply -f - <<'EOF'\n" +
		"    apiVersion: berth.io/v1beta1\n    a:\n      b: c\n    EOF\n    ```\n")
	if len(got) != 1 || got[0] != "apiVersion: berth.io/v1beta1\na:\n  b: c\n" {
		t.Errorf("%q", got)
	}
}
