package dashboard

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// drawing is an SVG: what is in it, at which place. Lengths are CSS pixels of a drawing that
// is not scaled.
type drawing struct {
	ID            string
	Title         string
	Width, Height int
	Labels        []label
	Paths         []path
	Boxes         []box
	Cells         []cell
	Dots          []dot
}

// label is a text on its own.
type label struct {
	X, Y  int
	Class string
	Text  string
}

// path is a line, with a text for the pointer.
type path struct {
	Class, D, Text string
}

// box is a rectangle with a name, a note and a sign for its state.
type box struct {
	X, Y, Width, Height int
	Class, Sign         string
	Name, Note          string
	Text                string // for the pointer
	Href                string
}

// cell is an address of a pool: Mark is drawn over it, so that colour alone tells nothing.
type cell struct {
	X, Y, Width, Height int
	Class, Mark         string
	Text, Href          string
}

// dot is a move.
type dot struct {
	X, Y        int
	Class, Text string
}

// classOf returns the class of a state, signOf the sign that says the same without colour.
func classOf(s v1alpha1.StepState) string {
	return strings.ToLower(string(cmp.Or(s, v1alpha1.StepInfo)))
}

func signOf(s v1alpha1.StepState) string {
	switch s {
	case v1alpha1.StepOK:
		return "√"
	case v1alpha1.StepProblem:
		return "×"
	case v1alpha1.StepUnknown:
		return "?"
	}
	return "·"
}

// The measures of a diagram.
const (
	boxHeight   = 40
	boxGap      = 10
	diagramHead = 28
	diagramWide = 1040
	mostSpare   = 200 // above a column
	charWide    = 8   // of a name; notes are smaller
)

// diagramColumns are the left edge and the width of each column.
var diagramColumns = [3]struct{ x, width int }{{0, 220}, {355, 230}, {720, 320}}

// drawDiagram lays a diagram out: routers, nodes and addresses in three columns.
func drawDiagram(id, title string, d view.Diagram, links Links) drawing {
	columns := []view.Column{d.Routers, d.Nodes, d.Addresses}
	most := 1
	for _, c := range columns {
		most = max(most, rows(c))
	}
	out := drawing{
		ID:     id,
		Title:  title,
		Width:  diagramWide,
		Height: diagramHead + most*(boxHeight+boxGap),
	}
	for i, head := range []string{"Routers", "Nodes", "Addresses"} {
		out.Labels = append(out.Labels, label{X: diagramColumns[i].x, Y: 16, Class: "head", Text: head})
	}
	top := func(column, row int) int {
		// Beside a long column a short one begins where it is seen without scrolling.
		spare := min(mostSpare, (most-rows(columns[column]))*(boxHeight+boxGap)/2)
		return diagramHead + spare + row*(boxHeight+boxGap)
	}
	for _, side := range []struct {
		column int
		lines  []view.Line
	}{{0, d.Sessions}, {1, d.Announcements}} {
		for _, l := range side.lines {
			from, to := diagramColumns[side.column], diagramColumns[side.column+1]
			out.Paths = append(out.Paths, path{
				Class: lineClass(l),
				Text:  l.Text,
				D: curve(from.x+from.width, top(side.column, l.From)+boxHeight/2,
					to.x, top(side.column+1, l.To)+boxHeight/2),
			})
		}
	}
	for i, c := range columns {
		for row, s := range c.Spots {
			out.Boxes = append(out.Boxes, spotBox(s, i, top(i, row), links))
		}
		if len(c.Spots) == 0 {
			out.Boxes = append(out.Boxes, spotBox(view.Spot{Name: "none known"}, i, top(i, 0), links))
		}
		if c.More > 0 {
			name := fmt.Sprintf("and %d more", c.More)
			more := spotBox(view.Spot{Name: name}, i, top(i, len(c.Spots)), links)
			more.Class += " more"
			out.Boxes = append(out.Boxes, more)
		}
	}
	return out
}

// rows returns how many boxes a column has.
func rows(c view.Column) int {
	n := max(1, len(c.Spots))
	if c.More > 0 {
		n++
	}
	return n
}

func spotBox(s view.Spot, column, y int, links Links) box {
	at := diagramColumns[column]
	text := s.Name
	for _, part := range []string{s.Note, s.Reason, s.Text} {
		if part != "" {
			text += "\n" + part
		}
	}
	out := box{
		X:      at.x,
		Y:      y,
		Width:  at.width,
		Height: boxHeight,
		Class:  classOf(s.State),
		Sign:   signOf(s.State),
		Name:   shorten(s.Name, (at.width-30)/charWide),
		Note:   shorten(s.Note, (at.width-30)/(charWide-2)),
		Text:   text,
	}
	if s.Ref.Kind != "" {
		out.Href = links.Explain(s.Ref)
	}
	return out
}

func lineClass(l view.Line) string {
	out := "line " + string(l.Kind) + " " + classOf(l.State)
	if l.Lost {
		out += " lost"
	}
	return out
}

// curve returns a path from the right of one box to the left of another.
func curve(x1, y1, x2, y2 int) string {
	middle := (x1 + x2) / 2
	return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, middle, y1, middle, y2, x2, y2)
}

// shorten cuts a text to at most so many characters.
func shorten(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// The measures of a strip.
const (
	cellSide   = 20
	cellsInRow = 32
	stripLabel = 110
)

// cellMarks are drawn over the cells of a state.
var cellMarks = map[view.CellState]string{
	view.CellExcluded: "M%d %dl14 14m0 -14l-14 14", // a cross
	view.CellResting:  "M%d %dm0 14l14 -14",        // a stroke
	view.CellUnknown:  "M%d %dm2 7h10",             // a dash
}

// drawStrip lays out the addresses of a pool, or its counts if these are too many.
func drawStrip(id string, s view.Strip, links Links) drawing {
	out := drawing{ID: id, Title: "Addresses of pool " + s.Name, Width: stripLabel + cellsInRow*cellSide}
	if len(s.Cells) == 0 {
		out.Height = 0
		for _, family := range families(s.PoolUse) {
			out.bar(family.Name, family.Size)
		}
		return out
	}
	for i, c := range s.Cells {
		x, y := stripLabel+i%cellsInRow*cellSide, i/cellsInRow*cellSide
		if i%cellsInRow == 0 {
			text := c.Address.String()
			if len(text) > 15 {
				text = "…" + text[len(text)-14:]
			}
			out.Labels = append(out.Labels, label{X: 0, Y: y + 14, Class: "note", Text: text})
		}
		one := cell{
			X:      x + 1,
			Y:      y + 1,
			Width:  cellSide - 2,
			Height: cellSide - 2,
			Class:  "cell " + strings.ToLower(string(c.State)),
			Text:   c.Address.String() + ": " + c.Text,
			Href:   links.Explain(v1alpha1.Ref{Kind: "address", Name: c.Address.String()}),
		}
		if mark := cellMarks[c.State]; mark != "" {
			one.Mark = fmt.Sprintf(mark, x+3, y+3)
		}
		out.Cells = append(out.Cells, one)
	}
	out.Height = (len(s.Cells) + cellsInRow - 1) / cellsInRow * cellSide
	return out
}

// family is how full a pool is of one family.
type family struct {
	Name string
	Size *v1alpha1.PoolSize
}

func families(p v1alpha1.PoolUse) []family {
	var out []family
	for _, f := range []family{{"IPv4", p.IPv4}, {"IPv6", p.IPv6}} {
		if f.Size != nil {
			out = append(out, f)
		}
	}
	return out
}

// bar adds a bar with the counts of a pool, each part as long as its share.
func (d *drawing) bar(name string, size *v1alpha1.PoolSize) {
	d.Labels = append(d.Labels, label{X: 0, Y: d.Height + 15, Class: "note", Text: name})
	x := stripLabel
	for _, part := range []struct {
		state view.CellState
		n     int64
		word  string
	}{
		{view.CellHeld, size.Assigned, "assigned"},
		{view.CellResting, size.Resting, "resting"},
		{view.CellExcluded, size.Excluded, "excluded"},
		{view.CellFree, size.Free, "free"},
	} {
		if part.n == 0 {
			continue
		}
		share := float64(part.n) / float64(max(1, size.Size)) * cellsInRow * cellSide
		width := max(3, int(math.Round(share))) // what there is can be seen
		width = min(width, stripLabel+cellsInRow*cellSide-x)
		if width <= 0 {
			continue
		}
		d.Cells = append(d.Cells, cell{
			X:      x,
			Y:      d.Height + 1,
			Width:  width,
			Height: cellSide - 2,
			Class:  "cell " + strings.ToLower(string(part.state)),
			Text:   fmt.Sprintf("%d of %d %s", part.n, size.Size, part.word),
		})
		x += width
	}
	d.Height += cellSide + 4
}

// The measures of a time line.
const (
	laneHeight = 26
	laneLabel  = 150
	mostLanes  = 14
)

// timeTicks are the ages that a time line names.
var timeTicks = []struct {
	age  time.Duration
	text string
}{
	{0, "now"}, {time.Minute, "1m"}, {10 * time.Minute, "10m"}, {time.Hour, "1h"}, {6 * time.Hour, "6h"},
	{24 * time.Hour, "1d"}, {7 * 24 * time.Hour, "7d"}, {30 * 24 * time.Hour, "30d"},
	{365 * 24 * time.Hour, "1y"},
}

// drawMoves lays out moves: a lane for each node and one for the controller; the axis is
// logarithmic, so that the last minute has as much room as a day.
func drawMoves(id string, m view.Moves, now time.Time) drawing {
	out := drawing{ID: id, Title: "Moves, by node and age", Width: diagramWide}
	oldest := time.Hour
	lanes, at := []string{}, map[string]int{}
	for _, move := range m.List {
		oldest = max(oldest, now.Sub(move.Time.Time))
		if _, known := at[move.Node]; !known && len(lanes) < mostLanes {
			at[move.Node] = len(lanes)
			lanes = append(lanes, move.Node)
		}
	}
	bottom := len(lanes) * laneHeight
	out.Height = bottom + 24
	scale := func(age time.Duration) int {
		const room = diagramWide - laneLabel - 30
		share := math.Log1p(max(0, age).Minutes()) / math.Log1p(oldest.Minutes())
		return diagramWide - 20 - int(share*room)
	}
	for _, t := range timeTicks {
		if t.age > oldest {
			break
		}
		x := scale(t.age)
		out.Paths = append(out.Paths, path{Class: "tick", D: fmt.Sprintf("M%d 0V%d", x, bottom)})
		out.Labels = append(out.Labels, label{X: x, Y: bottom + 16, Class: "note middle", Text: t.text})
	}
	for i, lane := range lanes {
		y := i*laneHeight + laneHeight/2
		name := shorten(cmp.Or(lane, "controller"), laneLabel/charWide)
		out.Labels = append(out.Labels, label{X: 0, Y: y + 4, Class: "note", Text: name})
	}
	for _, move := range m.List {
		lane, drawn := at[move.Node]
		if !drawn {
			continue // the table has it
		}
		class := "dot object"
		if move.From == view.FromEvent {
			class = "dot event"
		}
		out.Dots = append(out.Dots, dot{
			X:     scale(now.Sub(move.Time.Time)),
			Y:     lane*laneHeight + laneHeight/2,
			Class: class,
			Text: fmt.Sprintf("%s ago: %s. %s: %s", view.Ago(move.Time.Time, now), move.Object, move.Reason,
				move.Message),
		})
	}
	return out
}
