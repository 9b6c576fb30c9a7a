package announcement

import (
	"fmt"

	"github.com/berth-lb/berth/api/v1beta1"
)

// WhyNot returns why a node is no candidate for the address; "" when it is one, or
// when that was not decided.
func (d Decision) WhyNot(node string) v1beta1.Reason {
	for _, r := range d.Rejections {
		if r.Node == node {
			return r.Reason
		}
	}
	return ""
}

// CauseText returns for a person why this node takes the address: the cause and, where
// the node that owned it before is no candidate any more, the reason of that.
func (d Decision) CauseText() string {
	if why := d.WhyNot(d.Before); why != "" {
		return fmt.Sprintf("%s; node %s: %s", d.Cause, d.Before, why)
	}
	return string(d.Cause)
}

// announcedBy says that the owner, another node, announces the address, and why this
// node may not where that is so.
func (d Decision) announcedBy(node string) string {
	text := fmt.Sprintf("Node %s announces the address.", d.Owner)
	if why := d.WhyNot(node); why != "" {
		text += fmt.Sprintf(" This node is no candidate: %s.", why)
	}
	return text
}
