package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// An entry is what CHANGELOG.md says of a version.
type entry struct {
	// Text is what stands below the heading.
	Text string
	// Date is that of the heading, at midnight UTC. It is zero if the version is not released yet: then the
	// text is that of the section Unreleased.
	Date time.Time
}

var heading = regexp.MustCompile(`(?m)^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?[ \t]*$`)

// entryOf returns the section of a version, and if there is none, what is not released yet.
func entryOf(changelog, version string) (entry, error) {
	sections := map[string]entry{}
	marks := heading.FindAllStringSubmatchIndex(changelog, -1)
	for i, mark := range marks {
		end := len(changelog)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		name := changelog[mark[2]:mark[3]]
		if _, twice := sections[name]; twice {
			return entry{}, fmt.Errorf("the changelog has two sections %s", name)
		}
		e := entry{Text: strings.TrimSpace(withoutReferences(changelog[mark[1]:end]))}
		if mark[4] >= 0 {
			date, err := time.Parse(time.DateOnly, changelog[mark[4]:mark[5]])
			if err != nil {
				return entry{}, fmt.Errorf("the changelog's section %s: %w", name, err)
			}
			e.Date = date
		}
		sections[name] = e
	}
	name := strings.TrimPrefix(version, "v")
	if e, has := sections[name]; has {
		if e.Date.IsZero() {
			return entry{}, fmt.Errorf("the changelog's section %s has no date: want ## [%s] - 2026-01-31",
				name, name)
		}
		return e, nil
	}
	e, has := sections["Unreleased"]
	if !has {
		return entry{}, fmt.Errorf("the changelog has neither a section %s nor one that is Unreleased", name)
	}
	e.Date = time.Time{}
	return e, nil
}

var reference = regexp.MustCompile(`(?m)^\[[^\]]+\]: \S+\n?`)

// withoutReferences leaves out where links lead to, which the last section has below it.
func withoutReferences(section string) string { return reference.ReplaceAllString(section, "") }

// notes returns the release notes: what has changed, what to install, and how to verify it.
func notes(p plan, e entry, goVersion string, digests map[string]string) string {
	var out strings.Builder
	if e.Date.IsZero() {
		fmt.Fprintf(&out, "**%s has no section in CHANGELOG.md: this is what is not released yet.**\n\n",
			p.version)
	}
	out.WriteString(e.Text + "\n\n## Install\n\n")
	fmt.Fprintf(&out, "    kubectl apply -f %s/releases/download/%s/install.yaml\n\n", repository, p.version)
	fmt.Fprintf(&out, "or\n\n    helm install berth oci://%s/charts/berth --version %s \\\n"+
		"      --namespace berth-system --create-namespace\n\n", registry, strings.TrimPrefix(p.version, "v"))
	out.WriteString("| image | digest |\n|---|---|\n")
	for _, r := range roles {
		fmt.Fprintf(&out, "| `%s` | `%s` |\n", p.image(r), digests[r.Name])
	}
	page := repository + "/blob/" + p.version + "/docs/release.md#verify-a-release"
	fmt.Fprintf(&out, "\nBuilt with %s. [How to verify and to rebuild it](%s).\n", goVersion, page)
	return out.String()
}
