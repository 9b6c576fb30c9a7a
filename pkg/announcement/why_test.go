package announcement

import (
	"testing"

	"github.com/berth-lb/berth/api/v1beta1"
)

func TestWhy(t *testing.T) {
	rejections := []Rejection{{"node1", v1beta1.ReasonNodeCordoned}, {"node3", v1beta1.ReasonNodeNotSelected}}
	for _, test := range []struct {
		story       string
		decision    Decision
		cause, says string // what node3 says of the owner
	}{
		{
			"a cordoned node hands over",
			Decision{Owner: "node2", Before: "node1", Cause: v1beta1.CauseHandOver, Rejections: rejections},
			"HandOver; node node1: NodeCordoned",
			"Node node2 announces the address. This node is no candidate: NodeNotSelected.",
		},
		{
			"a node comes back to its address",
			Decision{
				Owner:      "node2",
				Before:     "node4",
				Cause:      v1beta1.CauseFailback,
				Rejections: rejections[:1],
			},
			"Failback", "Node node2 announces the address.",
		},
		{
			"the very first owner",
			Decision{Owner: "node2", Cause: v1beta1.CauseFirst, Rejections: rejections},
			"First", "Node node2 announces the address. This node is no candidate: NodeNotSelected.",
		},
	} {
		if got := test.decision.CauseText(); got != test.cause {
			t.Errorf("%s: the cause is %q, want %q", test.story, got, test.cause)
		}
		if got := test.decision.announcedBy("node3"); got != test.says {
			t.Errorf("%s: node3 says %q, want %q", test.story, got, test.says)
		}
	}
}
