package output

import (
	"fmt"
	"io"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// checkSign returns the sign of the state of a check.
func (s Style) checkSign(state v1alpha1.CheckState) string {
	switch state {
	case v1alpha1.CheckOK:
		return s.State(v1alpha1.StepOK)
	case v1alpha1.CheckWarning:
		return s.Severity(v1alpha1.Warning)
	case v1alpha1.CheckProblem:
		return s.Severity(v1alpha1.Error)
	case v1alpha1.CheckUnknown:
		return s.State(v1alpha1.StepUnknown)
	}
	return s.State(v1alpha1.StepInfo)
}

// Checks writes what was looked at, group by group, and the verdict.
func Checks(w io.Writer, c v1alpha1.Checks, style Style) error {
	var t text
	for _, g := range c.Groups {
		t.addf("%s\n", style.Head(g.Name))
		for _, one := range g.Checks {
			t.addf("%s %s\n", style.checkSign(one.State), one.Message)
			for _, d := range one.Details {
				t.addf("    %s\n", d)
			}
			if one.State == v1alpha1.CheckOK {
				continue
			}
			if one.Command != "" {
				t.addf("    %s\n", one.Command)
			}
			t.addf("    see %s\n", one.Link)
		}
		t.addf("\n")
	}
	t.addf("%s  %s\n", style.Head("Berth: "+c.Verdict), CheckSummary(c))
	return t.print(w)
}

// CheckSummary says in one line how checks came out.
func CheckSummary(c v1alpha1.Checks) string {
	return fmt.Sprintf("%s, %s, %d not seen, %d well", counted(c.Counts.Problems, "problem"),
		counted(c.Counts.Warnings, "warning"), c.Counts.Unknown, c.Counts.OK)
}
