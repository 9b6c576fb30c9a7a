package recipe

import (
	"regexp"
	"strings"
)

// A Command is a line of a page that a reader types into a shell, in a block that is set in.
type Command struct {
	// Text is the line without its comment.
	Text string
	Line int
	// Section is the heading above it.
	Section string
	// Marked is set if the paragraph before its block says whether it was executed, Not if it says
	// that it was not.
	Marked, Not bool
}

var (
	// The targets of make are not among them: they are for those who have the sources.
	isCommand = regexp.MustCompile(
		`^ {4}(kubectl|helm|curl|ctr|arping|ndisc6|ln|git|cd|[A-Z]+=\$\()[ a-z]`)
	isMark = regexp.MustCompile(`\*\((not\s+executed|executed\s+by\s)[^*]*\)\*[.:]?\s*$`)
	// A comment begins behind two spaces, so that a # in quotes is none.
	comment = regexp.MustCompile(` {2,}# .*$`)
	// reads are the commands that change nothing.
	reads = regexp.MustCompile(`^kubectl (-n [-\w]+ )?(get|describe|logs|auth can-i|rollout status) `)
)

// Commands reads the commands of a page, in their order.
func Commands(page string) []Command {
	var out []Command
	var section string
	var paragraph []string
	inBlock, mark, number := false, []string(nil), 0
	for line := range strings.Lines(page) {
		number++
		text := strings.TrimRight(line, "\r\n")
		switch set := strings.HasPrefix(text, "    "); {
		case strings.HasPrefix(text, "#"):
			section, paragraph, inBlock = strings.TrimLeft(text, "# "), nil, false
		case set && !inBlock && len(paragraph) > 0 && paragraph[len(paragraph)-1] != "":
			paragraph = append(paragraph, text) // it continues an item of a list
		case set:
			if !inBlock {
				mark = isMark.FindStringSubmatch(strings.TrimSpace(strings.Join(paragraph, "\n")))
				inBlock, paragraph = true, nil
			}
			if isCommand.MatchString(text) {
				out = append(out, Command{
					Text:    comment.ReplaceAllString(strings.TrimSpace(text), ""),
					Line:    number,
					Section: section,
					Marked:  mark != nil,
					Not:     mark != nil && strings.HasPrefix(strings.Join(mark, "\n"), "*(not"),
				})
			}
		case text == "" && len(paragraph) > 0 && paragraph[len(paragraph)-1] != "":
			paragraph = append(paragraph, "")
		case text != "":
			if len(paragraph) > 0 && paragraph[len(paragraph)-1] == "" {
				paragraph = nil
			}
			paragraph, inBlock = append(paragraph, text), false
		}
	}
	return out
}

// Reads reports whether a command changes nothing and asks no plugin, so that the suite can run it wherever
// it likes.
func (c Command) Reads() bool {
	changes := strings.Contains(c.Text, "apply") || strings.Contains(c.Text, " > ")
	return reads.MatchString(c.Text+" ") && !changes
}

// Tried are the pages whose commands that read the suite runs, in TestCommandsOfPages.
var Tried = []string{
	"docs/alerts.md",
	"docs/bgp.md",
	"docs/concepts.md",
	"docs/install.md",
	"docs/logs.md",
	"docs/troubleshooting.md",
	"README.md",
}

// Elsewhere are the pages that other tests look after: docs/cli.md shows what the stories of the program
// print, and docs/how-do-i.md is TestHowDoI's.
var Elsewhere = []string{
	"docs/cli.md",
	"docs/how-do-i.md",
}
