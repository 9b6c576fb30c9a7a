// Package recipe reads pages of documentation whose commands are tried in the lab as they stand.
package recipe

import (
	"fmt"
	"strings"
)

// A Recipe is a section of a page: a heading of the second level, and the blocks below it that a reader
// pastes.
type Recipe struct {
	Title  string
	Blocks []Block
}

// A Block is what stands between two fences.
type Block struct {
	// Language is Shell or YAML.
	Language string
	Text     string
	// Line is that of the page where the block begins.
	Line int
}

// Languages of blocks that are tried. Blocks of others, and of none, are for reading.
const (
	Shell = "sh"
	YAML  = "yaml"
)

const fence = "```"

// Parse reads the recipes of a page, in their order: its sections that have blocks. It returns
// an error for a fence that is not closed, for a block in front of the first heading, and for
// a title that comes twice.
func Parse(page string) ([]Recipe, error) {
	var out []Recipe
	title, titles := "", map[string]bool{}
	var open *Block
	number := 0
	for line := range strings.Lines(page) {
		number++
		text := strings.TrimRight(line, "\r\n")
		heading, isHeading := strings.CutPrefix(text, "## ")
		language, isFence := strings.CutPrefix(text, fence)
		switch {
		case open != nil && text == fence:
			if open.Language == Shell || open.Language == YAML {
				if title == "" {
					return nil, fmt.Errorf("line %d: a block before the first heading", open.Line)
				}
				if len(out) == 0 || out[len(out)-1].Title != title {
					out = append(out, Recipe{Title: title})
				}
				last := &out[len(out)-1]
				last.Blocks = append(last.Blocks, *open)
			}
			open = nil
		case open != nil:
			open.Text += text + "\n"
		case isFence:
			open = &Block{Language: strings.TrimSpace(language), Line: number}
		case isHeading:
			if titles[heading] {
				return nil, fmt.Errorf("line %d: %q comes twice", number, heading)
			}
			title, titles[heading] = heading, true
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the fence is not closed", open.Line)
	}
	return out, nil
}
