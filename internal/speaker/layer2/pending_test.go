package layer2

import (
	"net/netip"
	"testing"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
)

// TestPending: a former speaker of this node answers until this one does, and not for
// what this one cannot answer for, or does not own.
func TestPending(t *testing.T) {
	decided := func(reason v1beta1.Reason) map[netip.Addr]remembered {
		return map[netip.Addr]remembered{address: {Decision: announcement.Decision{Reason: reason}}}
	}
	for _, test := range []struct {
		story    string
		reason   v1beta1.Reason
		problems []announcer.Problem
		want     bool
	}{
		{"it owns nothing", v1beta1.ReasonNotOwner, nil, false},
		{"it answers", v1beta1.ReasonAnnouncing, []announcer.Problem{""}, false},
		{"the announcer has not come to it",
			v1beta1.ReasonAnnouncing, []announcer.Problem{announcer.ProblemPending}, true},
		{"it answers on one link, and not yet on the other",
			v1beta1.ReasonAnnouncing, []announcer.Problem{"", announcer.ProblemPending}, true},
		{"a link is down", v1beta1.ReasonAnnouncing, []announcer.Problem{announcer.ProblemLinkDown}, false},
		{"nobody remembers that it owned it: the LAN is probed", v1beta1.ReasonProbing, nil, true},
		{"another host has it", v1beta1.ReasonConflict, nil, false},
	} {
		var state []announcer.Announcement
		for _, problem := range test.problems {
			state = append(state, announcer.Announcement{Addr: address, Problem: problem})
		}
		if got := pending(decided(test.reason), state); got != test.want {
			t.Errorf("%s: something is pending is %t", test.story, got)
		}
	}
}
