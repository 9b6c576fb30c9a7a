package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Families says which IP families the addresses of something are of, and which comes first.
type Families string

// The families of a cluster, and of what a kubelet reports of its node.
const (
	DualStack          Families = "ipv4,ipv6"
	DualStackIPv6First Families = "ipv6,ipv4"
	IPv4Only           Families = "ipv4"
	IPv6Only           Families = "ipv6"
)

// familyV4 is the word for IPv4 in Families.
const familyV4 = string(IPv4Only)

// check returns an error that lists the choices if f is none of them.
func (f Families) check() error {
	if all := []Families{DualStack, DualStackIPv6First, IPv4Only, IPv6Only}; !slices.Contains(all, f) {
		return fmt.Errorf("families %q: want one of %q", string(f), all)
	}
	return nil
}

// pick returns those of two values, one of each family, whose families are in f, in its order.
func pick[V any](f Families, v4, v6 V) []V {
	var out []V
	for word := range strings.SplitSeq(string(f), ",") {
		if word == familyV4 {
			out = append(out, v4)
		} else {
			out = append(out, v6)
		}
	}
	return out
}

// list is pick for addresses in text, separated by commas.
func (f Families) list(v4, v6 string) string { return strings.Join(pick(f, v4, v6), ",") }

// clusterCIDRs returns the networks of all pods, and serviceCIDRs those of the addresses of
// Services inside the cluster.
func (f Families) clusterCIDRs() string { return f.list(clusterCIDR4, clusterCIDR6) }
func (f Families) serviceCIDRs() string { return f.list(serviceCIDR4, serviceCIDR6) }

// apiAddress is the address of cp at which all ask the API server: that of the cluster's first family.
func (f Families) apiAddress() netip.Addr { return f.Of(ControlPlaneAddresses)[0] }

func (f Families) apiURL() string {
	return "https://" + netip.AddrPortFrom(f.apiAddress(), apiPort).String()
}

// Of lists those of a host's addresses whose families are in f, in its order.
func (f Families) Of(a Addresses) []netip.Addr { return pick(f, a.V4, a.V6) }

// ReportFamilies has the kubelet of a node that runs report the node's addresses of these families, in this
// order, and returns when the Node says so. The node keeps all its addresses, as one does whose --node-ip is
// changed. Pods that are made from then on see the same as status.hostIPs.
func (n *Node) ReportFamilies(ctx context.Context, families Families) error {
	if err := errors.Join(n.check(), families.check()); err != nil {
		return err
	}
	if err := n.writeIPs(families); err != nil {
		return err
	}
	if err := n.KillProcess("kubelet", syscall.SIGTERM); err != nil {
		return err
	}
	want := families.Of(NodeAddresses(n.index()))
	failure := n.name + " does not report " + string(families)
	return poll(ctx, startLimit, 100*time.Millisecond, failure, func(ctx context.Context) error {
		got, err := n.lab.API().reportedAddresses(ctx, n.name)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("it reports %v", got)
		}
		return err
	})
}

// reportedAddresses returns the addresses of type InternalIP of a Node, in its order.
func (a *API) reportedAddresses(ctx context.Context, node string) ([]netip.Addr, error) {
	var object struct {
		Status struct {
			Addresses []struct {
				Type    string `json:"type"`
				Address string `json:"address"`
			} `json:"addresses"`
		} `json:"status"`
	}
	if err := a.Get(ctx, "/api/v1/nodes/"+node, &object); err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, entry := range object.Status.Addresses {
		if entry.Type != "InternalIP" {
			continue
		}
		addr, err := netip.ParseAddr(entry.Address)
		if err != nil {
			return nil, err
		}
		out = append(out, addr)
	}
	return out, nil
}
