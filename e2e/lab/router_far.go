package lab

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// Open plugs in the cable between the router and ext, as a router brings up its ports when it knows all
// routes. From then on ext sends by it, or by both in equal parts if both are open.
func (r *Router) Open(ctx context.Context) error {
	if err := r.checkThere(); err != nil {
		return err
	}
	far := routerFarAddresses
	if r.name == HostRouter2 {
		far = router2FarAddresses
	}
	if err := ipBatch(ctx, r.netns(), r.lab.options.Families.interfaceLines("eth1", far)...); err != nil {
		return err
	}
	// A cable carries nothing for a moment after it is plugged in.
	for _, addr := range r.lab.options.Families.Of(far) {
		failure := fmt.Sprintf("ext does not reach %s", addr)
		err := poll(ctx, 10*time.Second, 10*time.Millisecond, failure, func(ctx context.Context) error {
			_, err := r.lab.Host(HostExt).Exec(ctx, tool("ping"), "-c1", "-W1", addr.String())
			return err
		})
		if err != nil {
			return err
		}
	}
	return r.lab.Network().turnFar(ctx)
}

// turnFar has ext send by the routers whose cables to it are plugged in, by the hash of each flow. The kernel
// would leave out a dead cable by itself, but only after up to a second. With both unplugged nothing changes.
func (n *Network) turnFar(ctx context.Context) error {
	var v4, v6 []string
	for _, way := range []struct {
		router, device string
		via            Addresses
	}{{HostRouter, "eth0", routerFarAddresses}, {HostRouter2, "eth1", router2FarAddresses}} {
		if n.lab.Router(way.router).checkThere() != nil {
			continue
		}
		open := false
		err := n.lab.Host(way.router).Run(func() error {
			link, err := net.InterfaceByName("eth1")
			if err == nil {
				open = link.Flags&net.FlagUp != 0
			}
			return err
		})
		if err != nil {
			return err
		}
		if open {
			v4 = append(v4, fmt.Sprintf("nexthop via %s dev %s", way.via.V4, way.device))
			v6 = append(v6, fmt.Sprintf("nexthop via %s dev %s", way.via.V6, way.device))
		}
	}
	if len(v4) == 0 {
		return nil
	}
	return ipBatch(ctx, n.lab.netns(HostExt), pick(n.lab.options.Families,
		"route replace default "+strings.Join(v4, " "), "route replace default "+strings.Join(v6, " "))...)
}

// addSecondRouter makes router2 and its network to ext, with the cable to ext unplugged, unless it is there.
func (n *Network) addSecondRouter(ctx context.Context, router string) error {
	if router != HostRouter2 || n.lab.Router(router).checkThere() == nil {
		return nil
	}
	if err := n.addLANHost(ctx, HostRouter2, Router2Addresses, routerSettings()); err != nil {
		return err
	}
	cable := fmt.Sprintf("link add eth1 address %s type veth peer name eth1 address %s netns %s",
		mac(router2FarAddresses.V4), mac(ext2Addresses.V4), n.lab.netns(HostExt))
	if err := ipBatch(ctx, n.lab.netns(HostRouter2), cable); err != nil {
		return err
	}
	return ipBatch(ctx, n.lab.netns(HostExt), n.lab.options.Families.interfaceLines("eth1", ext2Addresses)...)
}
