package output

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// Style is how texts look.
type Style struct {
	color bool
	ascii bool
}

// Style returns how texts for a writer look.
func (f *Flags) Style(w io.Writer) Style {
	file, isFile := w.(*os.File)
	terminal := isFile && term.IsTerminal(int(file.Fd()))
	s := Style{ascii: f.ascii || !utf8Locale()}
	switch f.color {
	case "always":
		s.color = true
	case "auto":
		s.color = terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return s
}

// utf8Locale reports whether the terminal shows characters beyond ASCII, as far as the
// locale says.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := os.Getenv(name); value != "" {
			upper := strings.ToUpper(value)
			return strings.Contains(upper, "UTF-8") || strings.Contains(upper, "UTF8")
		}
	}
	return true
}

// ANSI colours.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	bold   = "\x1b[1m"
	reset  = "\x1b[0m"
)

func (s Style) in(color, text string) string {
	if !s.color {
		return text
	}
	return color + text + reset
}

// Head returns a text as a headline.
func (s Style) Head(text string) string { return s.in(bold, text) }

// mark returns a sign in a colour, or what stands for it in ASCII.
func (s Style) mark(color, sign, word string) string {
	if s.ascii {
		sign = word
	}
	return s.in(color, sign)
}

// Severity returns the sign of a severity.
func (s Style) Severity(severity v1alpha1.Severity) string {
	if severity == v1alpha1.Error {
		return s.mark(red, "×", "[fail]")
	}
	return s.mark(yellow, "‼", "[warn]")
}

// State returns the sign of the state of a step.
func (s Style) State(state v1alpha1.StepState) string {
	switch state {
	case v1alpha1.StepOK:
		return s.mark(green, "√", "[ok]")
	case v1alpha1.StepProblem:
		return s.mark(red, "×", "[fail]")
	case v1alpha1.StepUnknown:
		return s.mark(yellow, "?", "[?]")
	}
	return s.mark(reset, "·", "[-]")
}
