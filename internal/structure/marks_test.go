package structure

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPagesSayWhatWasExecuted: pages on platforms, routers and network plugins say of each block of
// commands whether it was executed, in the way that docs/platforms/index.md explains. A test that is named
// exists, and a source is a link. Each page begins with two paragraphs.
func TestPagesSayWhatWasExecuted(t *testing.T) {
	tests := testNames(t)
	pages := 0
	for name, text := range markdownPages(t) {
		if !isMarked(name) {
			continue
		}
		pages++
		for _, problem := range markProblems(text, tests) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	if pages < 20 {
		t.Errorf("only %d pages found: does this test still see them?", pages)
	}
}

// TestPlatformPagesHaveTheSameParts: a reader finds in the page of each platform what is special, how to
// install, how to see that it works, and what goes wrong; and in the page of each router the like.
func TestPlatformPagesHaveTheSameParts(t *testing.T) {
	parts := map[string][]string{
		"docs/platforms/": {"## What is special", "## Install", "## See that it works", "## What goes wrong"},
		"docs/routers/":   {"## Configure", "## See that it works", "## What goes wrong"},
	}
	for name, text := range markdownPages(t) {
		for folder, wanted := range parts {
			if !strings.HasPrefix(name, folder) || strings.HasSuffix(name, "/index.md") ||
				name == "docs/platforms/clouds.md" { // which says why not
				continue
			}
			for _, part := range wanted {
				if !strings.Contains(text, "\n"+part) {
					t.Errorf("%s has no part %q", name, part)
				}
			}
		}
	}
}

// isMarked reports whether a page has to say what was executed.
func isMarked(name string) bool {
	return strings.HasPrefix(name, "docs/platforms/") || strings.HasPrefix(name, "docs/routers/") ||
		name == "docs/network-plugins.md"
}

var testDeclaration = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testNames returns the names of all tests of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, name := range goFiles(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testDeclaration.FindAllStringSubmatch(string(source), -1) {
			out[m[1]] = true
		}
	}
	return out
}

var (
	// mark is what a page says of a claim or a block; it may be broken into lines.
	mark     = regexp.MustCompile(`\*\((not\s+executed|executed\s+by\s)([^*]*)\)\*`)
	testName = regexp.MustCompile("`(Test\\w+)`")
)

// markProblems says what is wrong with the marks of a page.
func markProblems(page string, tests map[string]bool) []string {
	var out []string
	for _, m := range mark.FindAllStringSubmatch(page, -1) {
		isLink := strings.Contains(m[2], "](https://") || m[2] == ": source"
		not := strings.HasPrefix(m[1], "not")
		switch named := testName.FindAllStringSubmatch(m[2], -1); {
		case not && m[2] != "" && !isLink:
			out = append(out, fmt.Sprintf("%q has a source that is no link", m[0]))
		case !not && len(named) == 0:
			out = append(out, fmt.Sprintf("%q names no test", m[0]))
		case !not:
			for _, one := range named {
				if !tests[one[1]] && one[1] != "TestName" {
					out = append(out, fmt.Sprintf("there is no test %s", one[1]))
				}
			}
		}
	}
	for _, line := range unmarkedBlocks(page) {
		out = append(out, fmt.Sprintf("line %d: the paragraph before the block has no mark", line))
	}
	if !hasTwoParagraphs(page) {
		out = append(out, "it does not begin with two paragraphs")
	}
	return out
}

// unmarkedBlocks returns the lines at which fenced blocks begin whose preceding paragraph does not end with
// a mark.
func unmarkedBlocks(page string) []int {
	var out []int
	var paragraph strings.Builder
	in, number := false, 0
	for line := range strings.Lines(page) {
		number++
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, "```") && in:
			in = false
			paragraph.Reset()
		case strings.HasPrefix(text, "```"):
			in = true
			said := strings.TrimSuffix(strings.TrimSpace(paragraph.String()), ":")
			last := mark.FindAllStringIndex(said, -1)
			if len(last) == 0 || last[len(last)-1][1] != len(said) {
				out = append(out, number)
			}
		case in:
		case text == "":
			// What stands before an empty line counts if the block comes next.
			paragraph.WriteString("\n")
		case strings.HasSuffix(paragraph.String(), "\n\n"):
			paragraph.Reset()
			paragraph.WriteString(line)
		default:
			paragraph.WriteString(line)
		}
	}
	return out
}

// hasTwoParagraphs reports whether a page begins with a title and two paragraphs of prose.
func hasTwoParagraphs(page string) bool {
	parts := strings.SplitN(strings.TrimSpace(page), "\n\n", 4)
	if len(parts) < 3 || !strings.HasPrefix(parts[0], "# ") {
		return false
	}
	for _, part := range parts[1:3] {
		if strings.ContainsAny(part[:1], "#-|`> *") || part[0] >= '0' && part[0] <= '9' {
			return false
		}
	}
	return true
}

func TestMarksAreRead(t *testing.T) {
	tests := map[string]bool{"TestA": true}
	const begin = "# Title\n\nOne.\n\nTwo.\n\n"
	for _, test := range []struct{ story, page, want string }{
		{"executed", begin + "Do *(executed by `TestA`)*:\n\n```\nx\n```\n", ""},
		{"a mark in two lines", begin + "Do *(not executed:\n[x](https://x))*:\n\n```\nx\n```\n", ""},
		{"words in two lines", begin + "Do *(not\nexecuted)*:\n\n```\nx\n```\n", ""},
		{"in a list", begin + "1. Do *(not executed)*:\n\n    ```text\n    x\n    ```\n", ""},
		{"no mark", begin + "Do:\n\n```\nx\n```\n", "line 9: the paragraph before the block has no mark"},
		{"a mark of an earlier paragraph", begin + "Do *(not executed)*.\n\nAnd:\n\n```\nx\n```\n",
			"line 11: the paragraph before the block has no mark"},
		{"a test that is not there", begin + "*(executed by `TestB`)*\n", "there is no test TestB"},
		{"no test", begin + "*(executed by us)*\n", `"*(executed by us)*" names no test`},
		{"no link", begin + "*(not executed: hearsay)*\n",
			`"*(not executed: hearsay)*" has a source that is no link`},
		{"one paragraph", "# Title\n\nOne.\n\n- list\n", "it does not begin with two paragraphs"},
	} {
		if got := strings.Join(markProblems(test.page, tests), "; "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.story, got, test.want)
		}
	}
	if names := slices.Collect(maps.Keys(testNames(t))); len(names) < 500 {
		t.Errorf("only %d tests found", len(names))
	}
}
