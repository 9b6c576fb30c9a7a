package output

import (
	"io"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// TakeOver writes the steps from another load balancer to Berth: of those that are done one line,
// of the others what to type and how to go back.
func TakeOver(w io.Writer, i v1alpha1.Import, title string, style Style) error {
	var t text
	done := 0
	for _, s := range i.Steps {
		if s.State == v1alpha1.ImportStepDone {
			done++
		}
	}
	t.addf("%s  %d of %s done\n", style.Head("From "+title+" to Berth"), done,
		counted(len(i.Steps), "step"))
	for _, s := range i.Steps {
		t.addf("\n%s %s: %s\n", stepSign(s.State, style), s.Name, s.Message)
		if s.State == v1alpha1.ImportStepDone {
			t.backs(s)
			continue
		}
		for _, d := range s.Details {
			t.addf("    %s\n", d)
		}
		for _, c := range s.Commands {
			t.addf("      %s\n", c)
		}
		t.backs(s)
	}
	t.unread(i.Unread, style)
	return t.print(w)
}

// backs adds how to undo a step.
func (t *text) backs(s v1alpha1.ImportStep) {
	for _, c := range s.Back {
		t.addf("    back: %s\n", c)
	}
}

// stepSign returns the sign of the state of a step of a take-over.
func stepSign(state v1alpha1.ImportStepState, style Style) string {
	switch state {
	case v1alpha1.ImportStepDone:
		return style.State(v1alpha1.StepOK)
	case v1alpha1.ImportStepNext:
		return style.mark(bold, "→", "[next]")
	case v1alpha1.ImportStepBlocked:
		return style.State(v1alpha1.StepProblem)
	case v1alpha1.ImportStepUnknown:
		return style.State(v1alpha1.StepUnknown)
	}
	return style.State(v1alpha1.StepInfo)
}
