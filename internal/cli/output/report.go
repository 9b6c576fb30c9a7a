package output

import (
	"fmt"
	"strings"
	"time"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// PlainStyle is that of texts in files.
func PlainStyle() Style { return Style{} }

// ReportHead returns the beginning of a report: when it was made, and what is not in it.
func ReportHead(
	taken time.Time, redacted bool, cut []v1alpha1.ReportCut, unread []v1alpha1.Unread,
) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Report of Berth\n\nMade at %s. Times in it are those of that moment.\n",
		taken.UTC().Format(time.RFC3339))
	b.WriteString("Secrets were not read, and passwords in other objects are left out.\n")
	if redacted {
		b.WriteString("Addresses and names are replaced by tokens in capital letters: the same by the " +
			"same.\n")
	}
	if len(cut) > 0 {
		b.WriteString("\n## What did not fit\n\n")
		for _, c := range cut {
			fmt.Fprintf(&b, "- %s: %d of %d %s are here\n", c.Name, c.Kept, c.Of, c.Unit)
		}
	}
	if len(unread) > 0 {
		b.WriteString("\n## What could not be read\n\n")
		for _, u := range unread {
			fmt.Fprintf(&b, "- %s: %s. %s\n", u.Kind, u.Reason, u.Message)
		}
	}
	return b.String()
}
