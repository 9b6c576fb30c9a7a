package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/e2e/bench"
)

// A bed is a lab with the product and what is measured in it.
type bed struct {
	*bench.Bed
	macs map[[6]byte]string // of the nodes, with their names
	sets map[string][]netip.Addr
}

// makeBed brings everything up that all scenarios share, or nothing.
func makeBed(ctx context.Context, s settings) (*bed, error) {
	shared, err := bench.Make(ctx, s.Settings)
	if err != nil {
		return nil, err
	}
	b := &bed{Bed: shared, macs: map[[6]byte]string{}, sets: map[string][]netip.Addr{}}
	for _, node := range b.Lab.NodeNames() {
		out, err := b.Lab.Node(node).Exec(ctx, "cat", "/sys/class/net/eth0/address")
		if err != nil {
			return nil, errors.Join(err, b.Close(context.WithoutCancel(ctx)))
		}
		hw, err := net.ParseMAC(strings.TrimSpace(string(out)))
		if err != nil {
			return nil, errors.Join(err, b.Close(context.WithoutCancel(ctx)))
		}
		b.macs[[6]byte(hw)] = node
	}
	return b, nil
}

// The sets of Services. In each, every Service has an address of both families.
const (
	// setLocal: externalTrafficPolicy Local and a pod on each node. What a client loses when a node dies is
	// due to the address alone: no proxy still sends to a pod of the dead node.
	setLocal = "local"
	// setCluster: externalTrafficPolicy Cluster, announced by node2 and node3, and the only pod is on node1.
	setCluster = "cluster"
	// setMany: as setCluster, 1,000 Services, all announced by node2 as long as it is there.
	setMany = "many"
)

// A kind is how a set is made.
type kind struct {
	count            int
	pool             string
	nodes, preferred string // of the L2Advertisement
	app              string
	policy           corev1.ServiceExternalTrafficPolicy
}

func kinds() map[string]kind {
	const others = "[{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: " +
		"[node2, node3]}]}]"
	const second = "[{weight: 100, preference: {matchLabels: {kubernetes.io/hostname: node2}}}]"
	return map[string]kind{
		setLocal: {32, "10.77.0.160/27, fd77::a00/123", "[]", "[]", bench.AppEverywhere,
			corev1.ServiceExternalTrafficPolicyLocal},
		setCluster: {32, "10.77.0.192/27, fd77::b00/123", others, "[]", bench.AppOnNode1,
			corev1.ServiceExternalTrafficPolicyCluster},
		setMany: {1000, "10.99.0.0/22, fd77::1:0/118", others, second, bench.AppOnNode1,
			corev1.ServiceExternalTrafficPolicyCluster},
	}
}

// A set is what a scenario announces.
type set struct {
	addresses []netip.Addr // all of them
	probed    []netip.Addr // those that are sent to and asked for
}

// maxProbed bounds how many addresses are sent to: the client must not keep the machine busy.
const maxProbed = 64

// makeSet makes the Services of a set, unless an earlier scenario has.
func (b *bed) makeSet(ctx context.Context, name string) (set, error) {
	kind := kinds()[name]
	if _, made := b.sets[name]; !made {
		if name == setMany {
			// These are not in the LAN's subnet: a route makes the client resolve them there.
			_, err := b.Lab.Client().Exec(ctx, "ip", "route", "replace", "10.99.0.0/22", "dev", "eth0")
			if err != nil {
				return set{}, err
			}
		}
		manifest := fmt.Sprintf(`
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: %[1]s}
spec: {addresses: [%[2]s], serviceAllocation: {serviceSelectors: [{matchLabels: {set: %[1]s}}]}}
---
apiVersion: berth.io/v1beta1
kind: L2Advertisement
metadata: {name: %[1]s}
spec: {ipAddressPools: [%[1]s], nodeSelectors: %[3]s, preferredNodeSelectors: %[4]s}
`, name, kind.pool, kind.nodes, kind.preferred)
		if err := b.Apply(ctx, manifest); err != nil {
			return set{}, err
		}
		addresses, err := b.MakeServices(ctx, bench.Set{
			Name:   name,
			Count:  kind.count,
			App:    kind.app,
			Policy: kind.policy,
		})
		if err != nil {
			return set{}, err
		}
		b.sets[name] = addresses
	}
	all := b.sets[name]
	step := max(1, len(all)/maxProbed)
	out := set{addresses: all}
	for i := 0; i < len(all) && len(out.probed) < maxProbed; i += step {
		out.probed = append(out.probed, all[i])
	}
	return out, nil
}
