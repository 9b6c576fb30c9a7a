package lab

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// OpenRouter plugs in the cable between a router and ext, as a router brings up its ports when it knows all routes. From then on
// ext sends by it, or by both in equal parts if both are open.
func (l *Lab) OpenRouter(ctx context.Context, router string) error {
	if err := l.checkRouterThere(router); err != nil {
		return err
	}
	far := routerFarAddresses
	if router == HostRouter2 {
		far = router2FarAddresses
	}
	if err := ipBatch(ctx, l.netns(router), l.interfaceLines("eth1", far)...); err != nil {
		return err
	}
	// A cable carries nothing for a moment after it is plugged in.
	for _, addr := range l.options.Families.Of(far) {
		err := poll(ctx, 10*time.Second, 10*time.Millisecond, fmt.Sprintf("ext does not reach %s", addr), func(ctx context.Context) error {
			_, err := l.Exec(ctx, HostExt, tool("ping"), "-c1", "-W1", addr.String())
			return err
		})
		if err != nil {
			return err
		}
	}
	return l.turnFar(ctx)
}

// turnFar has ext send by the routers whose cables to it are plugged in, by the hash of each flow. The kernel would leave out
// a dead cable by itself, but only after up to a second. With both unplugged nothing changes.
func (l *Lab) turnFar(ctx context.Context) error {
	var v4, v6 []string
	for _, way := range []struct {
		router, device string
		via            Addresses
	}{{HostRouter, "eth0", routerFarAddresses}, {HostRouter2, "eth1", router2FarAddresses}} {
		if l.checkRouterThere(way.router) != nil {
			continue
		}
		open := false
		err := l.RunIn(way.router, func() error {
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
	return ipBatch(ctx, l.netns(HostExt), pick(l.options.Families,
		"route replace default "+strings.Join(v4, " "), "route replace default "+strings.Join(v6, " "))...)
}

// addSecondRouter makes router2 and its network to ext, with the cable to ext unplugged, unless it is there.
func (l *Lab) addSecondRouter(ctx context.Context, router string) error {
	if router != HostRouter2 || l.checkRouterThere(router) == nil {
		return nil
	}
	if err := l.addLANHost(ctx, HostRouter2, Router2Addresses, routerSettings()); err != nil {
		return err
	}
	cable := fmt.Sprintf("link add eth1 address %s type veth peer name eth1 address %s netns %s",
		mac(router2FarAddresses.V4), mac(ext2Addresses.V4), l.netns(HostExt))
	if err := ipBatch(ctx, l.netns(HostRouter2), cable); err != nil {
		return err
	}
	return ipBatch(ctx, l.netns(HostExt), l.interfaceLines("eth1", ext2Addresses)...)
}
