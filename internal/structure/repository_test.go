package structure

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// An issueForm is what GitHub reads of a file in .github/ISSUE_TEMPLATE. Unknown fields are refused, as
// GitHub does.
type issueForm struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Title       string    `json:"title"`
	Labels      []string  `json:"labels"`
	Assignees   []string  `json:"assignees"`
	Body        []element `json:"body"`
}

type element struct {
	Type       string     `json:"type"`
	ID         string     `json:"id"`
	Attributes attributes `json:"attributes"`
	Required   struct {
		Required bool `json:"required"`
	} `json:"validations"`
}

type attributes struct {
	Label       string `json:"label"`
	Description string `json:"description"`
	Placeholder string `json:"placeholder"`
	Value       string `json:"value"`
	Render      string `json:"render"`
	Multiple    bool   `json:"multiple"`
	Options     []any  `json:"options"`
}

// TestIssueForms: GitHub shows each form, and the form for faults asks for what one needs to find them.
func TestIssueForms(t *testing.T) {
	folder := filepath.Join(root, ".github", "ISSUE_TEMPLATE")
	files, err := filepath.Glob(filepath.Join(folder, "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, file := range files {
		base := filepath.Base(file)
		if base == "config.yml" {
			continue
		}
		form := readForm(t, file)
		for _, problem := range formProblems(form) {
			t.Errorf("%s: %s", base, problem)
		}
		if other := names[form.Name]; other != "" {
			t.Errorf("%s and %s have one name", base, other)
		}
		names[form.Name] = base
	}
	if len(names) < 3 {
		t.Errorf("only %d forms found", len(names))
	}

	fault := readForm(t, filepath.Join(folder, "fault.yml"))
	for _, label := range []string{"kubectl berth status", "kubectl berth report"} {
		required := slices.ContainsFunc(fault.Body, func(e element) bool {
			return e.Attributes.Label == label && e.Required.Required
		})
		if !required {
			t.Errorf("fault.yml does not ask for the output of %s", label)
		}
	}
}

func readForm(t *testing.T, file string) issueForm {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var form issueForm
	if err := yaml.UnmarshalStrict(text, &form); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return form
}

var formID = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// formProblems says what keeps GitHub from showing a form.
func formProblems(form issueForm) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if form.Name == "" || form.Description == "" {
		say("it has no name or no description")
	}
	if !slices.ContainsFunc(form.Body, func(e element) bool { return e.Type != "markdown" }) {
		say("it asks for nothing")
	}
	ids := map[string]bool{}
	for i, e := range form.Body {
		at := e.Attributes
		switch e.Type {
		case "markdown":
			if at.Value == "" || e.ID != "" || e.Required.Required {
				say("element %d: a text has a value, and nothing to fill in", i)
			}
			continue
		case "textarea", "input":
			if len(at.Options) > 0 || at.Render != "" && e.Type == "input" {
				say("element %d: an %s has no such attribute", i, e.Type)
			}
		case "dropdown", "checkboxes":
			for _, problem := range optionProblems(e) {
				say("element %d: %s", i, problem)
			}
		default:
			say("element %d: there is no type %q", i, e.Type)
		}
		if at.Label == "" {
			say("element %d has no label", i)
		}
		if !formID.MatchString(e.ID) || ids[e.ID] {
			say("element %d: the id %q is no word, or is there twice", i, e.ID)
		}
		ids[e.ID] = true
	}
	return out
}

// optionProblems says what is wrong with the options of a dropdown or of checkboxes.
func optionProblems(e element) []string {
	var out []string
	if len(e.Attributes.Options) == 0 {
		out = append(out, "there is nothing to choose from")
	}
	for _, option := range e.Attributes.Options {
		text, isText := option.(string)
		entry, isEntry := option.(map[string]any)
		switch {
		case e.Type == "dropdown" && (!isText || text == ""):
			out = append(out, fmt.Sprintf("option %v is no text", option))
		case e.Type == "checkboxes" && (!isEntry || entry["label"] == nil):
			out = append(out, fmt.Sprintf("option %v has no label", option))
		}
	}
	return out
}

func TestFormProblemsAreFound(t *testing.T) {
	const begin = "name: a\ndescription: b\nbody:\n"
	const boxes = "- {type: checkboxes, id: x, attributes: {label: X, options: [z]}}\n"
	for _, test := range []struct{ story, form, want string }{
		{"a good one", begin + "- {type: input, id: x, attributes: {label: X}}\n", ""},
		{"nothing to fill in", begin + "- {type: markdown, attributes: {value: x}}\n", "it asks for nothing"},
		{"no label", begin + "- {type: input, id: x, attributes: {}}\n", "element 0 has no label"},
		{"one id twice", begin + "- {type: input, id: x, attributes: {label: X}}\n" +
			"- {type: input, id: x, attributes: {label: Y}}\n",
			`element 1: the id "x" is no word, or is there twice`},
		{"an unknown type", begin + "- {type: text, id: x, attributes: {label: X}}\n",
			`element 0: there is no type "text"`},
		{"nothing to choose", begin + "- {type: dropdown, id: x, attributes: {label: X}}\n",
			"element 0: there is nothing to choose from"},
		{"boxes without labels", begin + boxes, "element 0: option z has no label"},
	} {
		var form issueForm
		if err := yaml.UnmarshalStrict([]byte(test.form), &form); err != nil {
			t.Fatalf("%s: %v", test.story, err)
		}
		if got := strings.Join(formProblems(form), "; "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.story, got, test.want)
		}
	}
}

// TestDependabotSeesEveryModule: each Go module that requires others is updated.
func TestDependabotSeesEveryModule(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, ".github", "dependabot.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Version int `json:"version"`
		Updates []struct {
			Ecosystem   string   `json:"package-ecosystem"`
			Directory   string   `json:"directory"`
			Directories []string `json:"directories"`
			Schedule    struct {
				Interval string `json:"interval"`
			} `json:"schedule"`
			Limit  int `json:"open-pull-requests-limit"`
			Groups map[string]struct {
				Patterns []string `json:"patterns"`
				Exclude  []string `json:"exclude-patterns"`
			} `json:"groups"`
		} `json:"updates"`
	}
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		t.Fatal(err)
	}
	if config.Version != 2 {
		t.Errorf("version %d, want 2", config.Version)
	}
	var patterns, systems []string
	for _, update := range config.Updates {
		systems = append(systems, update.Ecosystem)
		if update.Schedule.Interval == "" || (update.Directory == "") == (len(update.Directories) == 0) {
			t.Errorf("%s has no interval, or not one way to name its folders", update.Ecosystem)
		}
		if update.Ecosystem == "gomod" {
			patterns = append(patterns, update.Directories...)
		}
	}
	if !slices.Equal(systems, []string{"gomod", "github-actions"}) {
		t.Errorf("it updates %q", systems)
	}

	modules := goModules(t)
	if len(modules) < 6 {
		t.Errorf("only %d modules found", len(modules))
	}
	for _, module := range modules {
		seen := slices.ContainsFunc(patterns, func(pattern string) bool {
			matched, err := path.Match(pattern, module)
			return err == nil && matched
		})
		if !seen {
			t.Errorf("dependabot.yml does not name the module in %s", module)
		}
	}
}

// goModules returns the folders of the Go modules that require others, from the root, with a slash.
func goModules(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(file string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && file != root {
			return filepath.SkipDir
		}
		if entry.Name() != "go.mod" {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "\nrequire ") {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(file))
		out = append(out, path.Join("/", filepath.ToSlash(folder)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
