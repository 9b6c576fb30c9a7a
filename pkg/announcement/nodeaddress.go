package announcement

import (
	"fmt"
	"net/netip"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// nodeOwn says that an address is a node's own, so that nobody announces it, or "".
// The node's kernel answers for it, and its service proxy takes its traffic there.
//
// Of a pool that gives out addresses of nodes it is enough that a node's status names
// the address, or a link has it. Of others it takes both: they give out nothing that
// a node is known to have, and what a node's status names may be what Berth has given
// and another program found on the node.
func (b *Basis) nodeOwn(addr netip.Addr, pool *config.Pool) (v1beta1.Reason, string) {
	for _, own := range b.owns[addr] {
		if own.named && own.linked || pool.AllowNodeAddresses {
			return v1beta1.ReasonNodeAddress, fmt.Sprintf("The address is node %s's own: "+
				"nobody announces it, and that node's service proxy serves it.", own.node)
		}
	}
	return "", ""
}
