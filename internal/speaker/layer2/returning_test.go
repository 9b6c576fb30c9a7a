package layer2

import (
	"testing"

	"github.com/berth-lb/berth/api/v1beta1"
)

// TestReturningNodeHearsItsSuccessorLast: while this node was off the LAN, another took its
// address. When this node is back, a third one tells it so, before it hears the new owner
// itself. It leaves the address to that one until it knows it for dead.
func TestReturningNodeHearsItsSuccessorLast(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"), node("node3"))...)
	w.look()
	w.Publishes("node2")
	w.Publishes("node3")
	w.look()
	if w.reason() != v1beta1.ReasonOwner {
		t.Fatalf("at first the reason is %s", w.reason())
	}
	w.died("node2", false)
	w.died("node3", true)
	w.Returns(w.tracker, func() {
		w.Publishes("node2")
		w.Publishes("node3", "claim/192.0.2.10=2")
		w.Dies("node3", true)
	})
	w.look()
	if d := w.memory.of(address); d.Announce || d.Owner != "node3" {
		t.Errorf("the owner is %q (%s), and node3 is %s", d.Owner, d.Reason, w.isMember("node3"))
	}

	w.died("node3", false)
	w.look()
	if d := w.memory.of(address); d.Owner == "node3" {
		t.Errorf("the owner is %q although it is dead: %s", d.Owner, w.isMember("node3"))
	}
}
