package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// ForgetClients has the node's kernel forget the connections that hosts which are not of the cluster have
// with Services through it: which pod each goes to, and from which address. What pods and nodes have between
// themselves and with the API server stays.
func (n *Node) ForgetClients() error {
	clients := clientFilter{nodes: n.lab.NodeNames()}
	err := n.Run(func() error {
		var errs []error
		for _, family := range []netlink.InetFamily{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, clients)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("connections that %s tracks: %w", n.name, err)
	}
	return nil
}

// clientFilter selects connections of which neither end, as the one that opened it sees them, is a pod or one
// of the nodes.
type clientFilter struct{ nodes []string }

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (f clientFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, end := range []net.IP{flow.Forward.SrcIP, flow.Forward.DstIP} {
		addr, ok := netip.AddrFromSlice(end)
		if !ok || f.isOfCluster(addr.Unmap()) {
			return false
		}
	}
	return true
}

func (f clientFilter) isOfCluster(addr netip.Addr) bool {
	for _, cidr := range []string{clusterCIDR4, clusterCIDR6} {
		if netip.MustParsePrefix(cidr).Contains(addr) {
			return true
		}
	}
	for i := range f.nodes {
		for _, of := range []Addresses{NodeAddresses(i + 1), OnServiceLAN(NodeAddresses(i + 1))} {
			if addr == of.V4 || addr == of.V6 {
				return true
			}
		}
	}
	return addr.IsLoopback()
}
