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

	"sigs.k8s.io/yaml"
)

// A workflow is what matters here of a file in .github/workflows. `make lint` has actionlint read all of it.
type workflow struct {
	On          any            `json:"true"` // YAML takes on for a truth value
	Permissions map[string]any `json:"permissions"`
	Jobs        map[string]job `json:"jobs"`
}

type job struct {
	Permissions map[string]string `json:"permissions"`
	Timeout     int               `json:"timeout-minutes"`
	Uses        string            `json:"uses"`
	Steps       []step            `json:"steps"`
}

type step struct {
	Uses string         `json:"uses"`
	Run  string         `json:"run"`
	With map[string]any `json:"with"`
}

// TestWorkflows: each action is pinned to a commit, each job has the rights that it names and no others, and
// ends.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Errorf("only %d workflows found", len(files))
	}
	pins := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range workflowProblems(string(text), pins) {
			t.Errorf("%s: %s", filepath.Base(file), problem)
		}
	}
}

// pinned is an action with its commit, and its version for a reader. Tags can be moved, commits cannot.
var pinned = regexp.MustCompile(`^([\w-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$`)

// workflowProblems says what is wrong with a workflow. Of each action it records the commit: there is one.
func workflowProblems(text string, pins map[string]string) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for line := range strings.Lines(text) {
		_, action, uses := strings.Cut(strings.TrimSpace(line), "uses: ")
		if !uses {
			continue
		}
		m := pinned.FindStringSubmatch(action)
		if m == nil {
			say("%s: want owner/name@COMMIT # v1.2.3", action)
			continue
		}
		if commit := m[2] + " " + m[3]; pins[m[1]] == "" {
			pins[m[1]] = commit
		} else if pins[m[1]] != commit {
			say("%s is at %s here, and at %s elsewhere", m[1], commit, pins[m[1]])
		}
	}
	var w workflow
	if err := yaml.Unmarshal([]byte(text), &w); err != nil {
		return append(out, err.Error())
	}
	if strings.Contains(fmt.Sprint(w.On), "pull_request_target") {
		say("pull_request_target gives strangers' code the rights of the repository")
	}
	if w.Permissions == nil || len(w.Permissions) > 0 {
		say("want permissions: {}, and those of each job at the job")
	}
	for _, name := range slices.Sorted(maps.Keys(w.Jobs)) {
		for _, problem := range jobProblems(w.Jobs[name]) {
			say("job %s %s", name, problem)
		}
	}
	return out
}

// jobProblems says what is wrong with a job.
func jobProblems(j job) []string {
	var out []string
	if len(j.Permissions) == 0 {
		out = append(out, "names no permissions")
	}
	if j.Timeout == 0 && j.Uses == "" {
		out = append(out, "has no timeout-minutes")
	}
	for _, s := range j.Steps {
		if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != false {
			out = append(out, "leaves the token in the checked out folder: want persist-credentials: false")
		}
		// What a stranger chooses, as the name of a branch, would be read as shell.
		if strings.Contains(s.Run, "${{") {
			out = append(out, fmt.Sprintf("puts an expression into a command: want a variable: %s", s.Run))
		}
	}
	return out
}

func TestWorkflowProblemsAreFound(t *testing.T) {
	const (
		commit = "0123456789012345678901234567890123456789"
		head   = "on: [push]\npermissions: {}\njobs:\n  a:\n"
		rights = "    timeout-minutes: 1\n    permissions: {contents: read}\n"
	)
	for _, test := range []struct{ story, text, want string }{
		{"a good one", head + rights + "    steps:\n    - uses: a/b@" + commit + " # v1.2.3\n", ""},
		{"a tag", head + rights + "    steps:\n    - uses: a/b@v1\n",
			"a/b@v1: want owner/name@COMMIT # v1.2.3"},
		{"no version", head + rights + "    steps:\n    - uses: a/b@" + commit + "\n",
			"a/b@" + commit + ": want owner/name@COMMIT # v1.2.3"},
		{"another commit", head + rights + "    steps:\n    - uses: a/c@" + commit + " # v1.2.3\n",
			"a/c is at " + commit + " v1.2.3 here, and at another elsewhere"},
		{"all rights", "on: [push]\njobs:\n  a:\n" + rights,
			"want permissions: {}, and those of each job at the job"},
		{"rights for all jobs", "on: [push]\npermissions: {contents: write}\njobs:\n  a:\n" + rights,
			"want permissions: {}, and those of each job at the job"},
		{"a job without rights and end", head + "    steps: []\n",
			"job a names no permissions; job a has no timeout-minutes"},
		{"a token that stays",
			head + rights + "    steps:\n    - uses: actions/checkout@" + commit + " # v1.2.3\n",
			"job a leaves the token in the checked out folder: want persist-credentials: false"},
		{"strangers' words", head + rights + "    steps:\n    - run: echo ${{ github.head_ref }}\n",
			"job a puts an expression into a command: want a variable: echo ${{ github.head_ref }}"},
		{"strangers' code", "on: {pull_request_target: {}}\npermissions: {}\njobs:\n  a:\n" + rights,
			"pull_request_target gives strangers' code the rights of the repository"},
	} {
		pins := map[string]string{"a/c": "another"}
		if got := strings.Join(workflowProblems(test.text, pins), "; "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.story, got, test.want)
		}
	}
}
