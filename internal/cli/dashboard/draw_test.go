package dashboard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// spots returns a column of names, whose state is the sign before each.
func spots(names ...string) view.Column {
	states := map[string]v1alpha1.StepState{
		"√": v1alpha1.StepOK,
		"×": v1alpha1.StepProblem,
		"?": v1alpha1.StepUnknown,
		"·": v1alpha1.StepInfo,
	}
	var out view.Column
	for _, n := range names {
		sign, name, _ := strings.Cut(n, " ")
		out.Spots = append(out.Spots, view.Spot{Name: name, State: states[sign]})
	}
	return out
}

// told returns what a drawing of a diagram shows: a line for each column and each path.
func told(d drawing) string {
	columns := map[int][]string{}
	for _, b := range d.Boxes {
		columns[b.X] = append(columns[b.X], b.Sign+" "+b.Name)
	}
	var out []string
	for _, c := range diagramColumns {
		out = append(out, strings.Join(columns[c.x], ", "))
	}
	for _, p := range d.Paths {
		out = append(out, strings.TrimPrefix(p.Class, "line "))
	}
	return strings.Join(out, "\n")
}

var nowhere = Links{Explain: func(v1alpha1.Ref) string { return "" }}

func TestDiagrams(t *testing.T) {
	many := spots("√ node1")
	many.More = 41
	ok, wrong := v1alpha1.StepOK, v1alpha1.StepProblem
	for _, test := range []struct {
		story   string
		diagram view.Diagram
		want    string
	}{
		{
			"a router hears a node that owns an address",
			view.Diagram{
				Routers:   spots("√ tor"),
				Nodes:     spots("√ node1"),
				Addresses: spots("√ 192.0.2.1"),
				Sessions:  []view.Line{{Kind: view.LineSession, State: ok}},
				Announcements: []view.Line{
					{Kind: view.LineOwner, State: ok},
					{Kind: view.LineBGP, State: ok},
				},
			},
			"√ tor\n√ node1\n√ 192.0.2.1\nsession ok\nowner ok\nbgp ok",
		},
		{
			"a session is down, another is not known, a node stands in",
			view.Diagram{
				Routers:   spots("× tor"),
				Nodes:     spots("× node1", "? node2"),
				Addresses: spots("√ 192.0.2.1"),
				Sessions: []view.Line{
					{Kind: view.LineSession, State: wrong},
					{To: 1, Kind: view.LineSession, State: v1alpha1.StepUnknown},
				},
				Announcements: []view.Line{{From: 1, Kind: view.LineStandIn, State: ok}},
			},
			"× tor\n× node1, ? node2\n√ 192.0.2.1\nsession problem\nsession unknown\nstandin ok",
		},
		{
			"a node would die, and another take over",
			view.Diagram{
				Nodes:     spots("× node1", "√ node2"),
				Addresses: spots("√ 192.0.2.1"),
				Announcements: []view.Line{
					{Kind: view.LineOwner, State: ok, Lost: true},
					{From: 1, Kind: view.LineNext, State: ok},
				},
			},
			"· none known\n× node1, √ node2\n√ 192.0.2.1\nowner ok lost\nnext ok",
		},
		{
			"there is more than fits",
			view.Diagram{Nodes: many},
			"· none known\n√ node1, · and 41 more\n· none known",
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			d := drawDiagram("d", "A diagram", test.diagram, nowhere)
			if got := told(d); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			within(t, d)
		})
	}
}

// within checks that all of a drawing is in it, and that no two boxes are at one place.
func within(t *testing.T, d drawing) {
	t.Helper()
	places := map[string]bool{}
	for _, b := range d.Boxes {
		if b.X < 0 || b.Y < 0 || b.X+b.Width > d.Width || b.Y+b.Height > d.Height {
			t.Errorf("box %q is outside of the drawing of %dx%d: %+v", b.Name, d.Width, d.Height, b)
		}
		place := fmt.Sprint(b.X, b.Y)
		if places[place] {
			t.Errorf("two boxes are at %s", place)
		}
		places[place] = true
	}
	for _, c := range d.Cells {
		if c.X < 0 || c.Y < 0 || c.X+c.Width > d.Width || c.Y+c.Height > d.Height {
			t.Errorf("cell %q is outside of the drawing of %dx%d: %+v", c.Text, d.Width, d.Height, c)
		}
	}
	for _, o := range d.Dots {
		if o.X < 0 || o.Y < 0 || o.X > d.Width || o.Y > d.Height {
			t.Errorf("dot %q is outside of the drawing of %dx%d: %+v", o.Text, d.Width, d.Height, o)
		}
	}
}

// TestLinesMeetTheirBoxes: each begins at the right of one box and ends at the left of another.
func TestLinesMeetTheirBoxes(t *testing.T) {
	d := drawDiagram("d", "A diagram", view.Diagram{
		Routers:       spots("√ a"),
		Nodes:         spots("√ n1", "√ n2", "√ n3"),
		Addresses:     spots("√ 192.0.2.1", "√ 192.0.2.2"),
		Sessions:      []view.Line{{To: 2, Kind: view.LineSession}},
		Announcements: []view.Line{{From: 1, To: 0, Kind: view.LineOwner}},
	}, nowhere)
	at := func(name string) box {
		return d.Boxes[slices.IndexFunc(d.Boxes, func(b box) bool { return b.Name == name })]
	}
	for i, ends := range [][2]box{{at("a"), at("n3")}, {at("n2"), at("192.0.2.1")}} {
		from, to := ends[0], ends[1]
		want := curve(from.X+from.Width, from.Y+from.Height/2, to.X, to.Y+to.Height/2)
		if d.Paths[i].D != want {
			t.Errorf("line %d is %s, want %s", i, d.Paths[i].D, want)
		}
	}
}

func TestStrips(t *testing.T) {
	cells := func(states ...view.CellState) []view.Cell {
		var out []view.Cell
		addr := netip.MustParseAddr("192.0.2.30")
		for _, s := range states {
			out = append(out, view.Cell{Address: addr, State: s, Text: strings.ToLower(string(s))})
			addr = addr.Next()
		}
		return out
	}
	size := func(held, resting, excluded, free int64) view.Strip {
		var s view.Strip
		s.IPv4 = &v1alpha1.PoolSize{
			Size:     held + resting + excluded + free,
			Assigned: held,
			Resting:  resting,
			Excluded: excluded,
			Free:     free,
		}
		return s
	}
	for _, test := range []struct {
		story string
		strip view.Strip
		want  string // class, width and whether it is marked
	}{
		{
			"each state looks different without colour too",
			view.Strip{Cells: cells(view.CellHeld, view.CellFree, view.CellResting, view.CellExcluded,
				view.CellUnknown)},
			"held 18, free 18, freeorresting 18 marked, excluded 18 marked, unknown 18 marked",
		},
		{"a large pool, half of it held", size(32768, 0, 0, 32768), "held 320, free 320"},
		{"one address of many is seen", size(1, 0, 0, 65535), "held 3, free 637"},
		{
			"what rests and is excluded", size(25, 25, 25, 25),
			"held 160, freeorresting 160, excluded 160, free 160",
		},
		{"a pool of which nothing is counted", view.Strip{}, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			d := drawStrip("s", test.strip, nowhere)
			var got []string
			for _, c := range d.Cells {
				text := fmt.Sprintf("%s %d", strings.TrimPrefix(c.Class, "cell "), c.Width)
				if c.Mark != "" {
					text += " marked"
				}
				got = append(got, text)
			}
			if strings.Join(got, ", ") != test.want {
				t.Errorf("got %s, want %s", strings.Join(got, ", "), test.want)
			}
			within(t, d)
		})
	}
}

// TestCellsThatSayTheSameAreOneRow of the table behind a strip.
func TestCellsThatSayTheSameAreOneRow(t *testing.T) {
	addr := netip.MustParseAddr
	s := view.Strip{Cells: []view.Cell{
		{Address: addr("192.0.2.1"), State: view.CellFree, Text: "free"},
		{Address: addr("192.0.2.2"), State: view.CellFree, Text: "free"},
		{Address: addr("192.0.2.3"), State: view.CellHeld, Text: "held by a/b", Holders: []string{"a/b"}},
		{Address: addr("192.0.2.4"), State: view.CellHeld, Text: "held by a/c", Holders: []string{"a/c"}},
		{Address: addr("192.0.2.9"), State: view.CellFree, Text: "free"},
		{Address: addr("192.0.2.11"), State: view.CellFree, Text: "free"},
	}}
	var got []string
	for _, row := range cellTable(s, paths).Rows {
		got = append(got, row[0].Text+" "+row[1].Text+" "+row[2].Href)
	}
	want := "192.0.2.1–192.0.2.2 free |192.0.2.3 held /explain?kind=service&name=b&namespace=a|" +
		"192.0.2.4 held /explain?kind=service&name=c&namespace=a|192.0.2.9 free |192.0.2.11 free "
	if strings.Join(got, "|") != want {
		t.Errorf("got %s, want %s", strings.Join(got, "|"), want)
	}
}

func TestMovesAreDrawnByAge(t *testing.T) {
	move := func(node string, age time.Duration) view.Move {
		m := view.Move{Node: node}
		m.Time, m.Reason = metav1.NewTime(noon.Add(-age)), "Announcing"
		return m
	}
	moves := view.Moves{List: []view.Move{
		move("node1", -time.Second), // its clock is ahead
		move("node1", time.Minute),
		move("node2", time.Hour),
		move("", 40*24*time.Hour),
	}}
	d := drawMoves("m", moves, noon)
	within(t, d)
	if len(d.Dots) != 4 {
		t.Fatalf("there are %d dots, want 4", len(d.Dots))
	}
	if d.Dots[0].Y != d.Dots[1].Y || d.Dots[2].Y <= d.Dots[1].Y || d.Dots[3].Y <= d.Dots[2].Y {
		t.Errorf("the lanes are wrong: %+v", d.Dots)
	}
	for i := 1; i < len(d.Dots); i++ {
		if d.Dots[i].X >= d.Dots[i-1].X {
			t.Errorf("dot %d is older than dot %d, and not to the left of it: %+v", i, i-1, d.Dots)
		}
	}
	for i := range 30 {
		moves.List = append(moves.List, move(fmt.Sprintf("other%d", i), time.Hour))
	}
	if d := drawMoves("m", moves, noon); d.Height > (mostLanes+1)*laneHeight {
		t.Errorf("the time line is %d high", d.Height)
	}
	if rows := moveTable(moves, noon).Rows; len(rows) != 34 {
		t.Errorf("the table has %d rows, want all 34", len(rows))
	}
}

func TestParts(t *testing.T) {
	list := make([]int, 450)
	for i := range list {
		list[i] = i
	}
	for _, test := range []struct {
		story              string
		list               []int
		number             int
		first, length      int
		wantNumber, wantOf int
	}{
		{"the first", list, 1, 0, 200, 1, 3},
		{"the last is short", list, 3, 400, 50, 3, 3},
		{"beyond the last is the last", list, 99, 400, 50, 3, 3},
		{"before the first is the first", list, -1 << 62, 0, 200, 1, 3},
		{"of nothing", nil, 1, 0, 0, 1, 1},
	} {
		got, number, of := part(test.list, test.number, rowsOfPage)
		if len(got) != test.length || number != test.wantNumber || of != test.wantOf ||
			len(got) > 0 && got[0] != test.first {
			t.Errorf("%s: got %d, part %d of %d", test.story, len(got), number, of)
		}
	}
}
