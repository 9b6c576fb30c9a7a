package structure

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"
)

// TestLinksLeadSomewhere: each link of a page to a file, a folder or a heading of this repository leads to
// one. Links to elsewhere are not followed: the test needs no network.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := markdownPages(t)
	if len(pages) < 40 {
		t.Fatalf("only %d pages found: does this test still see them?", len(pages))
	}
	links := 0
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		for _, link := range linksOf(pages[name]) {
			links++
			if problem := brokenLink(name, link, pages, exists); problem != "" {
				t.Errorf("%s: %s", name, problem)
			}
		}
	}
	if links < 300 {
		t.Errorf("only %d links found: does this test still see them?", links)
	}
}

// markdownPages returns the pages of the repository by their paths below the root, with slashes.
func markdownPages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, file)
		if entry.IsDir() {
			hidden := strings.HasPrefix(entry.Name(), ".") && file != root && entry.Name() != ".github"
			if hidden || name == "bin" || name == "dist" {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(name)] = string(text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil
}

var (
	inlineCode   = regexp.MustCompile("`[^`\n]*`")
	markdownLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)
)

// linksOf returns where the links of a page lead, in their order. What is in code is no link.
func linksOf(page string) []string {
	var out []string
	prose := inlineCode.ReplaceAllString(withoutBlocks(page), "")
	for _, m := range markdownLink.FindAllStringSubmatch(prose, -1) {
		out = append(out, m[1])
	}
	return out
}

// withoutBlocks returns a page without its fenced blocks.
func withoutBlocks(page string) string {
	var out strings.Builder
	in := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			in = !in
			continue
		}
		if !in {
			out.WriteString(line)
		}
	}
	return out.String()
}

// brokenLink says what is wrong with a link of a page, "" for nothing.
func brokenLink(page, link string, pages map[string]string, exists func(name string) bool) string {
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return ""
	}
	file, heading, _ := strings.Cut(link, "#")
	target := page
	if file != "" {
		target = path.Join(path.Dir(page), file)
	}
	if strings.HasPrefix(target, "../") || !exists(target) {
		return fmt.Sprintf("%s leads to no file", link)
	}
	if heading == "" {
		return ""
	}
	text, isPage := pages[target]
	if !isPage {
		return fmt.Sprintf("%s names a heading of what is no page", link)
	}
	if !slices.Contains(anchorsOf(text), heading) {
		return fmt.Sprintf("%s has no heading #%s", target, heading)
	}
	return ""
}

var (
	headingLine = regexp.MustCompile(`(?m)^#{1,6} +(.+?)\s*$`)
	linkText    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchorsOf returns the anchors of a page's headings, as GitHub and the documentation site make them.
func anchorsOf(page string) []string {
	var out []string
	seen := map[string]int{}
	for _, m := range headingLine.FindAllStringSubmatch(withoutBlocks(page), -1) {
		anchor := anchorOf(m[1])
		if n := seen[anchor]; n > 0 {
			out = append(out, fmt.Sprintf("%s-%d", anchor, n))
		} else {
			out = append(out, anchor)
		}
		seen[anchor]++
	}
	return out
}

// anchorOf returns the anchor of a heading: its letters, digits, hyphens and underscores in lower case, and
// a hyphen for each space.
func anchorOf(heading string) string {
	heading = linkText.ReplaceAllString(heading, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, heading)
}

func TestBrokenLinksAreFound(t *testing.T) {
	pages := map[string]string{
		"README.md": "# Top\n[a](docs/a.md) [b](docs/a.md#two-words) `[c](none.md)`\n" +
			"```\n# No heading\n[d](none.md)\n```\n",
		"docs/a.md":     "# A\n## Two words\n## `--flag`, *and* [more](b.md)\n## Two words\n",
		"docs/sub/b.md": "",
	}
	has := func(name string) bool {
		_, there := pages[name]
		return there || name == "docs" || name == "manifests/x.go"
	}
	if got := linksOf(pages["README.md"]); !slices.Equal(got, []string{"docs/a.md", "docs/a.md#two-words"}) {
		t.Errorf("links %q", got)
	}
	want := []string{"a", "two-words", "--flag-and-more", "two-words-1"}
	if got := anchorsOf(pages["docs/a.md"]); !slices.Equal(got, want) {
		t.Errorf("anchors %q", got)
	}
	for _, test := range []struct{ page, link, want string }{
		{"README.md", "docs/a.md", ""},
		{"README.md", "docs", ""},
		{"README.md", "#top", ""},
		{"README.md", "#no-heading", "README.md has no heading #no-heading"},
		{"docs/sub/b.md", "../a.md#two-words-1", ""},
		{"docs/sub/b.md", "../a.md#three", "docs/a.md has no heading #three"},
		{"docs/sub/b.md", "a.md", "a.md leads to no file"},
		{"docs/sub/b.md", "../../../README.md", "../../../README.md leads to no file"},
		{"docs/a.md", "../manifests/x.go#L1", "../manifests/x.go#L1 names a heading of what is no page"},
		{"docs/a.md", "https://example.com/none", ""},
	} {
		if got := brokenLink(test.page, test.link, pages, has); got != test.want {
			t.Errorf("%s in %s: %q, want %q", test.link, test.page, got, test.want)
		}
	}
}

// TestSiteNavigation: each page of docs/ is in the navigation of mkdocs.yml, and what that names is there.
// An entry that ends with a slash stands for all pages of a folder.
func TestSiteNavigation(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "mkdocs.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var site struct {
		Nav []any `json:"nav"`
	}
	if err := yaml.Unmarshal(text, &site); err != nil {
		t.Fatal(err)
	}
	var inDocs []string
	for name := range markdownPages(t) {
		if rest, is := strings.CutPrefix(name, "docs/"); is {
			inDocs = append(inDocs, rest)
		}
	}
	slices.Sort(inDocs)
	entries := navigation(site.Nav)
	for _, page := range unlisted(inDocs, entries) {
		t.Errorf("docs/%s is not in the navigation of mkdocs.yml", page)
	}
	for _, entry := range entries {
		// Pages of the root, such as SECURITY.md, are part of the site as well.
		if !exists(path.Join("docs", entry)) && !exists(entry) {
			t.Errorf("mkdocs.yml names %s, which is not there", entry)
		}
	}
}

// navigation returns the pages that a part of a navigation names, at all depths.
func navigation(of any) []string {
	var out []string
	switch of := of.(type) {
	case string:
		out = append(out, of)
	case []any:
		for _, one := range of {
			out = append(out, navigation(one)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(of)) {
			out = append(out, navigation(of[key])...)
		}
	}
	return out
}

// unlisted returns the pages that no entry names.
func unlisted(pages, entries []string) []string {
	var out []string
	for _, page := range pages {
		named := slices.ContainsFunc(entries, func(entry string) bool {
			return entry == page || strings.HasSuffix(entry, "/") && strings.HasPrefix(page, entry)
		})
		if !named {
			out = append(out, page)
		}
	}
	return out
}

func TestNavigationIsRead(t *testing.T) {
	var nav any
	if err := yaml.Unmarshal([]byte("[{A: a.md}, {B: [{C: b/c.md}, cli/]}]"), &nav); err != nil {
		t.Fatal(err)
	}
	entries := navigation(nav)
	if !slices.Equal(entries, []string{"a.md", "b/c.md", "cli/"}) {
		t.Fatalf("entries %q", entries)
	}
	got := unlisted([]string{"a.md", "b/c.md", "b/d.md", "cli/x.md"}, entries)
	if !slices.Equal(got, []string{"b/d.md"}) {
		t.Errorf("unlisted %q", got)
	}
}
