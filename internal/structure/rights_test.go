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

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// TestSecurityPageHasEveryRight: SECURITY.md says of each right in the roles of controller and speaker what
// it is for, and of no other.
func TestSecurityPageHasEveryRight(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := toldRights(string(page))
	granted := map[string]bool{}
	for _, who := range []string{"controller", "speaker"} {
		text, err := os.ReadFile(filepath.Join(root, "manifests", "base", who, "role.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		rights, err := grantedRights(who, string(text))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(granted, rights)
	}
	if len(granted) < 30 {
		t.Errorf("only %d rights found: does this test still see them?", len(granted))
	}
	for _, right := range slices.Sorted(maps.Keys(granted)) {
		if !told[right] {
			t.Errorf("SECURITY.md does not say what this right is for: %s", right)
		}
	}
	for _, right := range slices.Sorted(maps.Keys(told)) {
		if !granted[right] {
			t.Errorf("SECURITY.md has a right that nobody has: %s", right)
		}
	}
}

// grantedRights returns the rights of roles, one for each resource, as sentences.
func grantedRights(who, roles string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, text := range strings.Split(roles, "\n---\n") {
		var role rbacv1.Role // a ClusterRole has the same fields
		if err := yaml.Unmarshal([]byte(text), &role); err != nil {
			return nil, err
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				where := "`" + resource + "`"
				if role.Namespace != "" {
					where += ", in `" + role.Namespace + "`"
				}
				for _, name := range rule.ResourceNames {
					where += ", only `" + name + "`"
				}
				slices.Sort(rule.Verbs)
				out[fmt.Sprintf("%s: %s: %s", who, where, strings.Join(rule.Verbs, ", "))] = true
			}
		}
	}
	return out, nil
}

var (
	rightRow = regexp.MustCompile(
		"(?m)^\\| (controller|speaker|controller, speaker) \\| (`[^|]+) \\| ([a-z, ]+) \\| [^|]+ \\|$")
	limits = regexp.MustCompile("(, in `[^`]+`)?(, only `[^`]+`)*$")
)

// toldRights returns the rights in the table of a page, as grantedRights does.
func toldRights(page string) map[string]bool {
	out := map[string]bool{}
	for _, row := range rightRow.FindAllStringSubmatch(page, -1) {
		limit := limits.FindString(row[2])
		for _, who := range strings.Split(row[1], ", ") {
			for _, resource := range strings.Split(strings.TrimSuffix(row[2], limit), ", ") {
				out[fmt.Sprintf("%s: %s: %s", who, resource+limit, row[3])] = true
			}
		}
	}
	return out
}

func TestRightsAreRead(t *testing.T) {
	granted, err := grantedRights("speaker", `kind: ClusterRole
rules:
- {resources: [a, b/status], verbs: [watch, get]}
---
kind: Role
metadata: {namespace: x}
rules:
- {resources: [secrets], resourceNames: [one], verbs: [get]}
`)
	if err != nil {
		t.Fatal(err)
	}
	told := toldRights("| who | right | verbs | for |\n|---|---|---|---|\n" +
		"| speaker | `a`, `b/status` | get, watch | things |\n" +
		"| speaker | `secrets`, in `x`, only `one` | get | one |\n")
	if len(granted) != 3 || !maps.Equal(granted, told) {
		t.Errorf("granted %v\ntold %v", granted, told)
	}
}
