package prober

import (
	"fmt"
	"strings"
	"testing"
)

// TestLinkReach: nodes a, b and c have svc0 and mgmt0; this node probes them on its
// own links of these names.
func TestLinkReach(t *testing.T) {
	is := func(node, link string, state Reachability) linkTrack {
		return linkTrack{node: node, on: link, own: link, state: state}
	}
	for _, tt := range []struct {
		story                    string
		all                      []linkTrack
		answers, silent, suspect string
	}{
		{story: "nothing is probed"},
		{
			story: "all is well",
			all: []linkTrack{
				is("a", "svc0", Answers),
				is("a", "mgmt0", Answers),
				is("b", "svc0", Answers),
			},
			answers: "a:mgmt0 a:svc0 b:svc0",
		},
		{
			story: "a has lost svc0",
			all: []linkTrack{
				is("a", "svc0", Silent),
				is("a", "mgmt0", Answers),
				is("b", "svc0", Answers),
			},
			answers: "a:mgmt0 b:svc0",
			silent:  "a:svc0",
			suspect: "svc0",
		},
		{
			story: "nobody answers there: it may be this node",
			all: []linkTrack{
				is("a", "svc0", Silent),
				is("a", "mgmt0", Answers),
				is("b", "svc0", Silent),
				is("c", "svc0", Unknown),
			},
			answers: "a:mgmt0",
			suspect: "svc0",
		},
		{
			story:   "one that has never answered is not silent",
			all:     []linkTrack{is("a", "svc0", Unknown), is("b", "svc0", Answers)},
			answers: "b:svc0",
		},
		{
			story:   "one family is enough",
			all:     []linkTrack{is("a", "svc0", Silent), is("a", "svc0", Answers), is("b", "svc0", Answers)},
			answers: "a:svc0 b:svc0",
			suspect: "svc0",
		},
		{
			story: "its own other address proves nothing of this node's link",
			all: []linkTrack{
				is("a", "svc0", Silent),
				{node: "a", on: "svc1", own: "svc0", state: Answers},
			},
			answers: "a:svc1",
			suspect: "svc0",
		},
		{
			story: "where the link does not matter, nothing is said of it",
			all: []linkTrack{
				{node: "a", own: "svc0", state: Silent},
				{node: "b", own: "svc0", state: Answers},
			},
		},
	} {
		got := linkReach(tt.all)
		in := func(links map[string][]string) string {
			var out []string
			for _, node := range []string{"a", "b", "c"} {
				for _, l := range links[node] {
					out = append(out, fmt.Sprint(node, ":", l))
				}
			}
			return strings.Join(out, " ")
		}
		if in(got.Answers) != tt.answers || in(got.Silent) != tt.silent ||
			strings.Join(got.Suspect, " ") != tt.suspect {
			t.Errorf("%s: %+v", tt.story, got)
		}
	}
}
