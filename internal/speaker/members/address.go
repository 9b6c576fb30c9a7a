package members

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
)

// All speakers talk to each other over one IP family: each listens on one address, and
// speakers of different families do not reach each other. Which of a node's addresses comes
// first, and so is its status.hostIP, may differ from node to node. So a speaker gets all
// of them (status.hostIPs) and chooses the family that all nodes have.

// ParseAddresses returns the addresses at which the other speakers may reach this one, the
// first of each family, in their order.
func ParseAddresses(list string) ([]netip.Addr, error) {
	var out []netip.Addr
	for text := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := netip.ParseAddr(text)
		if err != nil || a.IsUnspecified() || a.Zone() != "" {
			return nil, fmt.Errorf("%q is no IP address of a node", text)
		}
		if a = a.Unmap(); !slices.ContainsFunc(out, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("an IP address of this node is required")
	}
	return out, nil
}

// families holds the IP families of a node's addresses, and which comes first.
type families struct {
	v4, v6 bool
	first6 bool
}

// familiesOf returns the families of addresses, and false when there are none.
func familiesOf(addresses []netip.Addr) (families, bool) {
	f := families{}
	for i, a := range addresses {
		f.v4, f.v6 = f.v4 || a.Is4(), f.v6 || a.Is6()
		f.first6 = f.first6 || i == 0 && a.Is6()
	}
	return f, len(addresses) > 0
}

// others is what chooseFamily knows of the rest of the cluster.
type others struct {
	// nodes has the families of each node that lists an address, by name, this one
	// included.
	nodes map[string]families
	// running has the address of each speaker according to its object, by node; also that
	// of this node's former speaker.
	running map[string]netip.Addr
}

// chooseFamily chooses, of a node's own addresses, the one by which its speaker takes
// part in the membership. Every speaker chooses the same family when it starts, as far
// as that is possible, whatever order the nodes list their addresses in:
//
//  1. one that all nodes with a speaker have; or all nodes, while no other node has
//     a speaker,
//  2. of two, the one of most speakers that there are: so a membership that works is
//     not split by a restart of one of them, with a new version or without,
//  3. then the one that most nodes name first, which is what a node has as
//     status.hostIP,
//  4. then IPv4.
//
// Where no family is common, rules 2 to 4 choose between those of this node.
func chooseFamily(own []netip.Addr, node string, o others) netip.Addr {
	if len(own) == 1 {
		return own[0]
	}
	counts := func(name string) bool {
		_, runs := o.running[name]
		return runs || name == node || len(o.running) == 0 || len(o.running) == 1 && o.running[node].IsValid()
	}
	common := families{v4: true, v6: true}
	first4, first6 := 0, 0
	for name, f := range o.nodes {
		if !counts(name) {
			continue
		}
		common.v4, common.v6 = common.v4 && f.v4, common.v6 && f.v6
		if f.first6 {
			first6++
		} else {
			first4++
		}
	}
	running4, running6 := 0, 0
	for _, a := range o.running {
		if a.Is4() {
			running4++
		} else {
			running6++
		}
	}
	prefer4 := cmp.Or(cmp.Compare(running4, running6), cmp.Compare(first4, first6)) >= 0
	if common.v4 != common.v6 {
		prefer4 = common.v4
	}
	return own[slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() == prefer4 })]
}

// ChooseAddress returns the one of a node's own addresses by which its speaker takes part
// in the membership. If there are several, it asks the API server what the other nodes
// have, and waits for the answer.
func ChooseAddress(
	ctx context.Context, api client.Reader, node string, own []netip.Addr, log *slog.Logger,
) (netip.Addr, error) {
	if len(own) == 1 {
		return own[0], nil
	}
	var known others
	logged := ""
	err := wait.PollUntilContextCancel(ctx, askPause, true, func(ctx context.Context) (bool, error) {
		var err error
		if known, err = readOthers(ctx, api); err == nil {
			return true, nil
		}
		if err.Error() != logged {
			log.Warn("waiting to know which IP family the speakers have in common", "error", err)
			logged = err.Error()
		}
		return false, nil
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find out which IP family the speakers have in common: %w", err)
	}
	chosen := chooseFamily(own, node, known)
	log.Info("address among speakers chosen", "address", chosen.String(), "count", len(known.running))
	return chosen, nil
}

// readOthers asks the API server for what chooseFamily needs. The API server's cache is
// recent enough: speakers that start at the same time choose by the same nodes.
func readOthers(ctx context.Context, api client.Reader) (others, error) {
	out := others{nodes: map[string]families{}, running: map[string]netip.Addr{}}
	cached := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}
	var nodes corev1.NodeList
	if err := api.List(ctx, &nodes, cached); err != nil {
		return others{}, fmt.Errorf("list Nodes: %w", err)
	}
	for i := range nodes.Items {
		if f, known := familiesOf(internalAddresses(&nodes.Items[i])); known {
			out.nodes[nodes.Items[i].Name] = f
		}
	}
	var speakers v1beta1.SpeakerList
	if err := api.List(ctx, &speakers, cached); err != nil {
		return others{}, fmt.Errorf("list Speakers: %w", err)
	}
	for _, s := range speakers.Items {
		if peer, err := netip.ParseAddrPort(s.Status.MemberAddress); err == nil {
			out.running[s.Name] = peer.Addr()
		}
	}
	return out, nil
}

// internalAddresses returns the addresses of a node from which the kubelet makes
// status.hostIPs.
func internalAddresses(node *corev1.Node) []netip.Addr {
	return addressesOf(node, corev1.NodeInternalIP)
}

// addressesOf returns the IP addresses of a node that are of one of these types.
func addressesOf(node *corev1.Node, types ...corev1.NodeAddressType) []netip.Addr {
	var out []netip.Addr
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && slices.Contains(types, a.Type) {
			out = append(out, addr)
		}
	}
	return out
}

// familyName returns the family of an address as users write it.
func familyName(a netip.Addr) string { return map[bool]string{true: "IPv4", false: "IPv6"}[a.Is4()] }
