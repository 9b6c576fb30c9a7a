package lab

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestClientsOfServices(t *testing.T) {
	f := clientFilter{nodes: []string{"node1", "node2"}}
	for _, tt := range []struct {
		story, from, to string
		client          bool
	}{
		{"a client on the LAN", "10.77.0.100", "10.77.0.200", true},
		{"one behind the router", "fd88::100", "2001:db8:100::1", true},
		{"one on the service LAN", "10.78.0.100", "10.78.0.200", true},
		{"a pod and the API server", "10.244.1.2", "10.96.0.1", false},
		{"the same, seen from its answer", "10.77.0.2", "10.244.1.2", false},
		{"a kubelet and the API server", "fd77::11", "fd77::2", false},
		{"the control plane and a kubelet", "10.77.0.2", "10.77.0.12", false},
		{"a node's own", "127.0.0.1", "127.0.0.1", false},
		{"a node, on the service LAN", "10.78.0.11", "10.78.0.200", false},
	} {
		t.Run(tt.story, func(t *testing.T) {
			flow := &netlink.ConntrackFlow{Forward: netlink.IPTuple{
				SrcIP: net.ParseIP(tt.from),
				DstIP: net.ParseIP(tt.to),
			}}
			if got := f.MatchConntrackFlow(flow); got != tt.client {
				t.Errorf("%v, want %v", got, tt.client)
			}
		})
	}
}
