package structure

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-lb/berth/internal/logging"
)

// retired has the words that Berth no longer uses for a thing, with those that it uses:
// one thing has one word, everywhere. GLOSSARY.md has the words in use.
var retired = map[string]string{
	"acquaintance":                        "member",
	"begins? anew|begun anew":             "restart, reset",
	"doubt(s|ed|ers?|ful)?":               "suspect, suspicion",
	"fellow(s|ship|ships)?":               "member, the other speakers",
	"goodbye":                             "leave notice",
	"outbox":                              "broadcast queue",
	"pictures?":                           "snapshot",
	"(stood|stands?) still":               "stalled",
	"suspensions?_total":                  "stalls_total",
	"members_unheard":                     "members_unreachable",
	"(Not)?GivenOut":                      "Assignable, NotAssignable",
	"(Some|No)?Members?(Not)?Heard":       "AllMembersReachable, NoMemberReachable, SomeMembersUnreachable",
	"NodeHeard":                           "NodeRenewing",
	"MemberKeyMade":                       "MemberKeyCreated",
	"Member(Key|Secret)Missing":           "MemberKeyNotFound, MemberSecretNotFound",
	"(strong|weak) claims?":               "majority claim, minority claim",
	"object_write_failures_total":         "object_write_errors_total",
	"layer2_(questions|gratuitous)_total": "layer2_address_probes_total, layer2_gratuitous_frames_total",
}

// TestRetiredWordsStayAway: code, pages and manifests have no word that was given up for
// another. Only CHANGELOG.md may have some: it says what things were called.
func TestRetiredWordsStayAway(t *testing.T) {
	read := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if entry.IsDir() {
			if strings.HasPrefix(entry.Name(), ".") && path != root || name == filepath.Join("e2e", "kube") {
				return filepath.SkipDir
			}
			return nil
		}
		known := slices.Contains([]string{".go", ".md", ".yaml", ".sh"}, filepath.Ext(name))
		own := name == "CHANGELOG.md" || name == filepath.Join("internal", "structure", "words_test.go")
		if !known || own {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		for _, problem := range retiredIn(string(text)) {
			t.Errorf("%s:%s", name, problem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 500 {
		t.Errorf("only %d files read: does this test still see them?", read)
	}
}

// retiredWord matches each of the retired words, in any case.
var retiredWord = func() *regexp.Regexp {
	words := slices.Sorted(maps.Keys(retired))
	return regexp.MustCompile(`(?i)(?:^|[^a-z])(` + strings.Join(words, "|") + `)(?:$|[^a-z])`)
}()

// retiredIn returns which retired words a text has, by line, and what to write.
func retiredIn(text string) []string {
	var out []string
	number := 0
	for line := range strings.Lines(text) {
		number++
		for _, m := range retiredWord.FindAllStringSubmatch(line, -1) {
			out = append(out, fmt.Sprintf("%d: %q is retired: write %s", number, m[1], insteadOf(m[1])))
		}
	}
	return out
}

// insteadOf returns what to write for a retired word.
func insteadOf(word string) string {
	for _, pattern := range slices.Sorted(maps.Keys(retired)) {
		if regexp.MustCompile(`(?i)^(?:` + pattern + `)$`).MatchString(word) {
			return retired[pattern]
		}
	}
	return ""
}

func TestRetiredWordsAreFound(t *testing.T) {
	for _, test := range []struct{ story, text, want string }{
		{"a word", "two\n// each fellow\n", `2: "fellow" is retired: write member, the other speakers`},
		{"in another form, at the start of a line",
			"Doubted by all", `1: "Doubted" is retired: write suspect, suspicion`},
		{"in a name with underscores",
			"berth_speaker_members_unheard 3", `1: "members_unheard" is retired: write members_unreachable`},
		{"several words", "it stood still", `1: "stood still" is retired: write stalled`},
		{"part of another word", "undoubtedly", ""},
		{"none", "a member suspects it", ""},
	} {
		if got := strings.Join(retiredIn(test.text), "\n"); got != test.want {
			t.Errorf("%s: got %q, want %q", test.story, got, test.want)
		}
	}
}

// TestNoLogKeyIsDead: each key of internal/logging is used by a log call.
func TestNoLogKeyIsDead(t *testing.T) {
	used := map[string]bool{}
	for _, file := range sources(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range logCalls(t, file, string(source)) {
			for _, key := range call.keys {
				used[key] = true
			}
		}
	}
	for _, key := range unused(used) {
		t.Errorf("no log call uses the key %q: take it out of internal/logging and docs/logs.md", key)
	}
}

// unused returns the log keys that are not among those used.
func unused(used map[string]bool) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(logging.Keys)) {
		if !used[key] {
			out = append(out, key)
		}
	}
	return out
}
