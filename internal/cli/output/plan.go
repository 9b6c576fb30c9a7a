package output

import (
	"fmt"
	"io"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// mostRows is how many rows each part of a plan has, unless all are asked for.
const mostRows = 20

// Plan writes the consequences of changes; all of them if wide is set, and of each part the
// first otherwise.
func Plan(w io.Writer, p v1alpha1.Plan, style Style, wide bool) error {
	t := planText{style: style, wide: wide}
	t.addf("%s\n", style.Head("Plan: "+p.Verdict))
	var done [][]string
	for _, c := range p.Changes {
		done = append(done, []string{style.verb(c.Verb), c.Object.String(), c.From})
	}
	t.lines("  ", done)
	t.part("SERVICES", len(p.Services), func(i int) []string { return serviceChange(p.Services[i], style) })
	t.part("ADDRESSES", len(p.Addresses), func(i int) []string {
		return addressChange(p.Addresses[i], style)
	})
	t.part("ROUTES", len(p.Routes), func(i int) []string { return routeChange(p.Routes[i], style) })
	t.pools(p.Pools)
	t.part("READY", len(p.Objects), func(i int) []string { return readyChange(p.Objects[i], style) })
	t.part("NOT JUDGED", len(p.NotJudged), func(i int) []string {
		c := p.NotJudged[i]
		return []string{style.State(v1alpha1.StepUnknown) + " " + c.Object.String(), c.From}
	})
	t.part("NOT KNOWN", len(p.Unknown), func(i int) []string {
		return []string{style.State(v1alpha1.StepUnknown) + " " + p.Unknown[i]}
	})
	t.part("REMARKS", len(p.Remarks), func(i int) []string { return []string{p.Remarks[i]} })
	t.unread(p.Unread, style)
	return t.print(w)
}

// planText is the text of a plan.
type planText struct {
	text
	style Style
	wide  bool
}

// part adds a part with its rows.
func (t *planText) part(head string, count int, row func(int) []string) {
	if count == 0 {
		return
	}
	t.addf("\n%s\n", t.style.Head(head))
	var rows [][]string
	for i := range count {
		if i == mostRows && !t.wide {
			break
		}
		rows = append(rows, row(i))
	}
	t.lines("", rows)
	if more := count - len(rows); more > 0 {
		t.addf("and %d more: -o wide or -o yaml lists all\n", more)
	}
}

// verb returns what is done to an object, in its colour.
func (s Style) verb(verb string) string {
	word := strings.ToLower(verb)
	switch verb {
	case "Create", "Add":
		return s.in(green, "+ "+word)
	case "Delete", "Fail":
		return s.in(red, "- "+word)
	case "Unchanged":
		return "  " + word
	}
	return s.in(yellow, "~ "+word)
}

// arrow parts what was from what comes.
func (s Style) arrow() string {
	if s.ascii {
		return " -> "
	}
	return " → "
}

func serviceChange(c v1alpha1.ServiceChange, style Style) []string {
	sign := style.in(yellow, "~")
	switch c.Change {
	case "Gets":
		sign = style.in(green, "+")
	case "Loses":
		sign = style.in(red, "-")
	}
	what := orNone(c.After)
	if c.Change != "Stays" {
		what = orNone(c.Before) + style.arrow() + orNone(c.After)
	}
	why := strings.TrimPrefix(c.Reason+": "+c.Message, ": ")
	return []string{sign + " " + c.Namespace + "/" + c.Name, what, why}
}

func orNone(addresses []string) string {
	if len(addresses) == 0 {
		return none
	}
	return strings.Join(addresses, ",")
}

func addressChange(c v1alpha1.AddressChange, style Style) []string {
	sign := style.in(yellow, "~")
	switch {
	case c.From == "":
		sign = style.in(green, "+")
	case c.To == "":
		sign = style.in(red, "-")
	}
	node := func(name string) string {
		if name == "" {
			return none
		}
		return name
	}
	why := strings.TrimSuffix(c.Reason+": "+c.Message, ": ")
	return []string{
		sign + " " + c.Address, node(c.From) + style.arrow() + node(c.To), few(c.Services), why,
	}
}

func routeChange(c v1alpha1.RouteChange, style Style) []string {
	sign := style.in(yellow, "~")
	switch {
	case c.Before == 0:
		sign = style.in(green, "+")
	case c.After == 0:
		sign = style.in(red, "-")
	}
	var parts []string
	for _, one := range []struct {
		word string
		some *v1alpha1.SomeOf
	}{{"begin: ", c.Gained}, {"cease: ", c.Lost}, {"tell it otherwise: ", c.Changed}} {
		if one.some != nil {
			parts = append(parts, one.word+someOf(one.some))
		}
	}
	how := fmt.Sprintf("%d%s%s", c.Before, style.arrow(), counted(c.After, "node"))
	last := communities(c)
	if c.Reason != "" {
		last = strings.TrimSuffix(c.Reason+"; "+last, "; ")
	}
	return []string{sign + " " + c.Peer, c.Prefix, how, strings.Join(parts, "; "), last}
}

func communities(c v1alpha1.RouteChange) string {
	if len(c.As.Communities) == 0 || c.After == 0 {
		return ""
	}
	return "communities " + strings.Join(c.As.Communities, ",")
}

// someOf names the first of some nodes.
func someOf(s *v1alpha1.SomeOf) string {
	const most = 5
	nodes := s.Nodes[:min(len(s.Nodes), most)]
	text := strings.Join(nodes, ",")
	if more := s.Count - len(nodes); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// pools adds how full pools are, those that stay as they are only if all is asked for.
func (t *planText) pools(pools []v1alpha1.PoolChange) {
	var rows [][]string
	for _, p := range pools {
		if !p.Differs && !t.wide {
			continue
		}
		for _, f := range []struct {
			name string
			of   func(*v1alpha1.PoolUse) *v1alpha1.PoolSize
		}{
			{"IPv4", func(u *v1alpha1.PoolUse) *v1alpha1.PoolSize { return u.IPv4 }},
			{"IPv6", func(u *v1alpha1.PoolUse) *v1alpha1.PoolSize { return u.IPv6 }},
		} {
			was, is := tellUse(p.Before, f.of), tellUse(p.After, f.of)
			if was != none || is != none {
				rows = append(rows, []string{t.sign(p) + " " + p.Name, f.name, was + t.style.arrow() + is})
			}
		}
		if p.OutOfRangeBefore != p.OutOfRange {
			rows = append(rows, []string{t.sign(p) + " " + p.Name, "out of range",
				fmt.Sprintf("%d%s%d", p.OutOfRangeBefore, t.style.arrow(), p.OutOfRange)})
		}
	}
	t.part("POOLS", len(rows), func(i int) []string { return rows[i] })
}

func (t *planText) sign(p v1alpha1.PoolChange) string {
	switch {
	case !p.Differs:
		return " "
	case p.Before == nil:
		return t.style.in(green, "+")
	case p.After == nil:
		return t.style.in(red, "-")
	}
	return t.style.in(yellow, "~")
}

// tellUse says how full a family of a pool is.
func tellUse(u *v1alpha1.PoolUse, of func(*v1alpha1.PoolUse) *v1alpha1.PoolSize) string {
	if u == nil || of(u) == nil {
		return none
	}
	s := of(u)
	text := fmt.Sprintf("%d/%d assigned, %d free", s.Assigned, s.Size-s.Excluded, s.Free)
	if s.Resting > 0 {
		text += fmt.Sprintf(", %d resting", s.Resting)
	}
	return text
}

func readyChange(c v1alpha1.ReadyChange, style Style) []string {
	state := v1alpha1.StepProblem
	if c.Reason == string(v1beta1.ReasonAccepted) {
		state = v1alpha1.StepOK
	}
	was := c.Before
	if was == "" {
		was = none
	}
	return []string{
		style.State(state) + " " + c.Object.String(), was + style.arrow() + c.Reason, c.Message,
	}
}
