package layer2

import (
	"net/netip"
	"slices"
	"testing"
)

// TestUrgentFirst: the addresses of an owner that is dead come before those that are
// answered.
func TestUrgentFirst(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.Publishes("node2", "claim/192.0.2.10=2")
	w.look()
	all := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.3"), address}
	if got := w.c.UrgentFirst(all); !slices.Equal(got, all) {
		t.Errorf("nothing is urgent: %v", got)
	}
	w.died("node2", false)
	w.see()
	if got := w.c.UrgentFirst(all); got[0] != address || len(got) != 3 {
		t.Errorf("the order is %v", got)
	}
}
