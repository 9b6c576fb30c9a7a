package announcement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
)

// disputing is a node that does not believe that some others can own the address,
// whatever the reason.
type disputing struct {
	name      string
	disregard map[string]bool
	decision  Decision
	highest   uint64
	alive     bool
}

// dispute is a cluster whose nodes differ for good in what they see. Each hears at
// once what the others claim.
type dispute struct {
	nodes []*disputing
	now   time.Time
	// moves counts new claims, together how long more than one node announced, dark
	// how long none did.
	moves          int
	together, dark time.Duration
}

func (c *dispute) decide(n *disputing) {
	in := lan()
	in.Node, in.Now, in.Nodes = n.name, c.now, nil
	in.Speakers, in.Claims = map[string]Speaker{}, map[string]Claim{}
	in.Dispute, in.Announcing, in.Highest = n.decision.Dispute, owns(n.decision), n.highest
	for i, other := range c.nodes {
		in.Nodes = append(in.Nodes, node(other.name))
		s := Speaker{
			Presence: Present,
			Reason:   v1beta1.ReasonNodePresent,
			Links:    linksOf(byte(i + 1)),
			Heard:    other.alive,
		}
		switch {
		case !other.alive:
			s.Presence, s.Reason = Gone, v1beta1.ReasonSpeakerNotAlive
		case n.disregard[other.name]:
			s.Presence, s.Reason = Gone, v1beta1.ReasonNodeSilent
		}
		in.Speakers[other.name] = s
		if other.decision.Claim != nil {
			in.Claims[other.name] = *other.decision.Claim
			n.highest = max(n.highest, other.decision.Claim.Generation)
		}
	}
	before := n.decision.Claim
	n.decision = Decide(in)
	if n.decision.Claim != nil && (before == nil || *before != *n.decision.Claim) {
		c.moves++
	}
}

func owns(d Decision) bool { return d.Announce && d.StandInFor == "" }

// run has every node look five times a second, in an order of its own.
func (c *dispute) run(t *rapid.T, length time.Duration) {
	const step = 200 * time.Millisecond
	order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
	for range length / step {
		for _, i := range order.Perm(len(c.nodes)) {
			if c.nodes[i].alive {
				c.decide(c.nodes[i])
			}
		}
		announcing := 0
		for _, n := range c.nodes {
			if n.alive && owns(n.decision) {
				announcing++
			}
		}
		switch {
		case announcing > 1:
			c.together += step
		case announcing == 0:
			c.dark += step
		}
		c.now = c.now.Add(step)
	}
}

// TestADisagreementThatLastsIsDamped: whatever nodes see differently, and for
// however long, the address is announced all the while, by one node nearly all the
// time, and it moves seldom.
func TestADisagreementThatLastsIsDamped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &dispute{now: now}
		count := rapid.IntRange(2, 4).Draw(t, "nodes")
		for i := range count {
			n := &disputing{name: fmt.Sprint("n", i+1), disregard: map[string]bool{}, alive: true}
			for j := range count {
				if j != i && rapid.Bool().Draw(t, "disregards") {
					n.disregard[fmt.Sprint("n", j+1)] = true
				}
			}
			c.nodes = append(c.nodes, n)
		}
		c.run(t, 90*time.Second)
		// Each pair needs a few claims to find out, and the rests get longer.
		if most := 20 * count; c.moves > most {
			t.Errorf("the address was claimed anew %d times in a minute and a half, want %d at most",
				c.moves, most)
		}
		if c.together > 10*time.Second || c.dark > 2*time.Second {
			t.Errorf("two announced it for %s, nobody for %s", c.together, c.dark)
		}
	})
}

// TestWhoRestsTakesOverFromTheDead: a node that has left the address to another
// does not wait for the end of its rest when that one dies.
func TestWhoRestsTakesOverFromTheDead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &dispute{now: now, nodes: []*disputing{
			{name: "n1", disregard: map[string]bool{"n2": true}, alive: true},
			{name: "n2", disregard: map[string]bool{"n1": true}, alive: true},
		}}
		c.run(t, 5*time.Second)
		resting := slices.IndexFunc(c.nodes, func(n *disputing) bool {
			return n.decision.Reason == v1beta1.ReasonContested
		})
		if resting < 0 {
			t.Fatal("nobody rests")
		}
		d := c.nodes[resting].decision
		if other := c.nodes[1-resting]; d.Owner != other.name ||
			!strings.Contains(d.Message, "n1") || !strings.Contains(d.Message, "n2") ||
			!d.Recheck.Equal(d.Dispute.Until) || !other.decision.Dispute.Lasts(c.now) {
			t.Fatalf("%+v; the other %+v", d, other.decision)
		}
		c.nodes[1-resting].alive = false
		c.run(t, time.Second)
		if got := c.nodes[resting].decision; !owns(got) {
			t.Errorf("after the other died: %s, %s", got.Reason, got.Message)
		}
	})
}

// TestAnAddressThatMovesIsNoDispute: what is superseded now and then, by whomever,
// is none.
func TestAnAddressThatMovesIsNoDispute(t *testing.T) {
	var d Dispute
	at := now
	for range 100 {
		d = d.again(lan().Address, "n1", "n2", at)
		at = at.Add(disputeWindow/(disputeCount-2) + time.Millisecond)
	}
	if d.Lasts(at) {
		t.Errorf("%+v", d)
	}
}
