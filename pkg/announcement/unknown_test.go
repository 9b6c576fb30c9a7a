package announcement

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/berth-lb/berth/api/v1beta1"
)

// TestWhatAnotherMayOwn: n1 is to own the address by what is known, and n2 may own it.
func TestWhatAnotherMayOwn(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 12}
	unknown := func(name string, p Presence) func(*Input) {
		return func(in *Input) {
			s := in.Speakers[name]
			s.Presence, s.ClaimsUnknown = p, true
			in.Speakers[name] = s
		}
	}
	claims := func(name string, generation uint64) func(*Input) {
		return func(in *Input) { in.Claims[name] = Claim{Generation: generation} }
	}
	probe := func(p Probe) func(*Input) { return func(in *Input) { in.Probe = p } }
	mine := claims("n1", 3)
	all := func(changes ...func(*Input)) []func(*Input) { return changes }
	for _, test := range []struct {
		story  string
		given  []func(*Input)
		reason v1beta1.Reason
		owner  string
		asks   bool
		claim  uint64 // 0 for none
	}{
		{"all claims of all are known", all(mine), v1beta1.ReasonOwner, "n1", false, 3},
		{"not all of n2 are",
			all(mine, unknown("n2", Present), probe(Probe{})), v1beta1.ReasonProbing, "n1", true, 3},
		{"the LAN is being asked", all(mine, unknown("n2", Present), probe(Probe{State: ProbeAsking})),
			v1beta1.ReasonProbing, "n1", false, 3},
		{"nobody answers", all(mine, unknown("n2", Present)), v1beta1.ReasonOwner, "n1", false, 3},
		{"n2 answers",
			all(mine, unknown("n2", Present), probe(Probe{State: ProbeTaken, Holder: mac, Node: "n2"})),
			v1beta1.ReasonClaimsUnknown, "n2", false, 0},
		{"n3 answers",
			all(mine, unknown("n2", Present), probe(Probe{State: ProbeTaken, Holder: mac, Node: "n3"})),
			v1beta1.ReasonClaimsUnknown, "n3", false, 0},
		{"another stands in for n1", all(mine, unknown("n2", Present),
			probe(Probe{State: ProbeTaken, Holder: mac, Node: "n1"})), v1beta1.ReasonOwner, "n1", false, 3},
		{"a stranger answers", all(mine, unknown("n2", Present),
			probe(Probe{State: ProbeTaken, Holder: mac, Node: ""})), v1beta1.ReasonConflict, "n1", false, 3},
		{"n2 is held: nobody would answer",
			all(mine, unknown("n2", Held)), v1beta1.ReasonClaimsUnknown, "", false, 3},
		{"n2 is held and n3 is there", all(mine, unknown("n2", Held), unknown("n3", Present)),
			v1beta1.ReasonClaimsUnknown, "", false, 3},
		{"n2 is gone", all(mine, unknown("n2", Gone), probe(Probe{})), v1beta1.ReasonOwner, "n1", false, 3},
		{"n1 announces it already", all(mine, unknown("n2", Held), probe(Probe{}), func(in *Input) {
			in.Announcing = true
		}), v1beta1.ReasonOwner, "n1", false, 3},
		{"n3 has it, which is known",
			all(mine, unknown("n2", Held), claims("n3", 4)), v1beta1.ReasonNotOwner, "n3", false, 0},
		{"the owner is gone, and n2 may have taken over",
			all(only("n1", "n2"), claims("n3", 4), unknown("n2", Present), probe(Probe{}),
				claims("n1", 1)), v1beta1.ReasonProbing, "n1", true, 0},
		{"it was never announced, as far as is known",
			all(only("n1", "n2"), unknown("n2", Held)), v1beta1.ReasonClaimsUnknown, "", false, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			for _, change := range test.given {
				change(&in)
			}
			d := Decide(in)
			claim := uint64(0)
			if d.Claim != nil {
				claim = d.Claim.Generation
			}
			if d.Reason != test.reason || d.Owner != test.owner || (len(d.Ask) > 0) != test.asks ||
				claim != test.claim || d.Announce != (test.reason == v1beta1.ReasonOwner) {
				t.Errorf("got %s, owner %q, asks %q, claims %d: %s",
					d.Reason, d.Owner, d.Ask, claim, d.Message)
			}
		})
	}
}

// TestAFullNodeGetsNothingNew: one that can say no more claims keeps what it claims,
// and is passed over for the rest, by all.
func TestAFullNodeGetsNothingNew(t *testing.T) {
	for _, viewer := range []string{"n1", "n2", "n3"} {
		in := lan()
		in.Node = viewer
		free := Decide(in).Owner
		full := in.Speakers[free]
		full.Full = true
		in.Speakers[free] = full
		rejected := Rejection{free, v1beta1.ReasonNodeFull}
		if d := Decide(in); d.Owner == free || d.Owner == "" || !slices.Contains(d.Rejections, rejected) {
			t.Errorf("%s: owner %q, rejected %v", viewer, d.Owner, d.Rejections)
		}
		in.Claims[free] = Claim{Generation: 1}
		if d := Decide(in); d.Owner != free {
			t.Errorf("%s: %q owns what %s claims", viewer, d.Owner, free)
		}
	}
	d := Unclaimable(Decision{
		Announce: true,
		Links:    []string{"eth0"},
		Claim:    &Claim{Generation: 1},
		Owner:    "n1",
		Services: []string{"default/web"},
	})
	if d.Announce || d.Claim != nil || d.Owner != "" || d.Reason != v1beta1.ReasonNodeFull ||
		len(d.Services) != 1 || d.Message == "" {
		t.Errorf("what cannot be claimed: %+v", d)
	}
}

// TestAnotherProgramOnANode: n1 is to announce an address for the first time, or does, and
// hosts answer for it.
func TestAnotherProgramOnANode(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 12}
	taken := func(nodes ...string) func(*Input) {
		return func(in *Input) {
			in.Probe = Probe{State: ProbeTaken, Holder: mac, Nodes: nodes}
			if len(nodes) > 0 {
				in.Probe.Node = nodes[0]
			}
		}
	}
	change := func(name string, what func(*Speaker)) func(*Input) {
		return func(in *Input) {
			s := in.Speakers[name]
			what(&s)
			in.Speakers[name] = s
		}
	}
	unheard := func(s *Speaker) { s.Heard = false }
	announcing := func(in *Input) {
		in.Claims["n1"], in.Highest, in.Announcing = Claim{Generation: 1}, 1, true
	}
	all := func(changes ...func(*Input)) []func(*Input) { return changes }
	for _, test := range []struct {
		story  string
		given  []func(*Input)
		reason v1beta1.Reason
		beside []string
	}{
		{"a node answers", all(taken("n2")), v1beta1.ReasonOwner, []string{"n2"}},
		{"several do", all(taken("n3", "n2", "n2")), v1beta1.ReasonOwner, []string{"n2", "n3"}},
		{"this node does, on another link", all(taken("n1")), v1beta1.ReasonOwner, []string{"n1"}},
		{"a stranger does", all(taken()), v1beta1.ReasonConflict, nil},
		{"a stranger does, and a node", all(taken("n2"), func(in *Input) { in.Probe.Node = "" }),
			v1beta1.ReasonConflict, nil},
		{"its speaker is not heard, so it may own the address", all(taken("n2"), change("n2", unheard)),
			v1beta1.ReasonNodeAnswers, nil},
		{"one of two is not heard", all(taken("n3", "n2"), change("n2", unheard)),
			v1beta1.ReasonNodeAnswers, nil},
		{"its speaker restarts", all(taken("n2"), change("n2", func(s *Speaker) { s.Presence = Held })),
			v1beta1.ReasonNodeAnswers, nil},
		{"not all of its claims are known",
			all(taken("n2"), change("n2", func(s *Speaker) { s.ClaimsUnknown = true })),
			v1beta1.ReasonClaimsUnknown, nil},
		{"a node without a speaker", all(taken("n4")), v1beta1.ReasonNodeAnswers, nil},
		{"it goes on while this node announces", all(taken("n2"), announcing), v1beta1.ReasonOwner,
			[]string{"n2"}},
		{"it is gone", all(announcing), v1beta1.ReasonOwner, nil},
		{"a stranger comes while this node announces", all(taken(), announcing), v1beta1.ReasonOwner, nil},
		{"it was Berth after all, whose claim comes late", all(taken("n2"), announcing,
			func(in *Input) { in.Claims["n2"] = Claim{Generation: 1} }), v1beta1.ReasonOwner, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			in.Nodes = in.Nodes[:1] // the others are no candidates
			for _, change := range test.given {
				change(&in)
			}
			d := Decide(in)
			if d.Reason != test.reason || !slices.Equal(d.Beside, test.beside) ||
				d.Announce != (test.reason == v1beta1.ReasonOwner) {
				t.Errorf("got %s, beside %q: %s", d.Reason, d.Beside, d.Message)
			}
			if said := strings.Contains(d.Message, "as well"); said != (len(test.beside) > 0) {
				t.Errorf("the message is %q", d.Message)
			}
			if d.Announce && !in.Announcing && d.Cause != v1beta1.CauseFirst {
				t.Errorf("the cause is %q", d.Cause)
			}
		})
	}
}
