package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Kernel settings of every namespace of a lab. IPv4 settings of a new namespace are copied from the machine,
// so those that matter are written even where they usually have this value.
var commonSettings = []string{
	"ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0",
	"ipv4/conf/all/arp_ignore=0", "ipv4/conf/default/arp_ignore=0",
	"ipv4/conf/all/arp_announce=0", "ipv4/conf/default/arp_announce=0",
	// else an address is unusable for its first second or two
	"ipv6/conf/all/accept_dad=0", "ipv6/conf/default/accept_dad=0",
	"ipv6/conf/default/accept_ra=0",
}

// forwardSettings make a namespace a router.
var forwardSettings = []string{"ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"}

// multipathSettings make a host choose among equal routes by addresses and ports. One that forwards goes on
// choosing neighbours that do not answer, which shows how long BGP takes to notice: over IPv4 because
// fib_multipath_use_neigh is off, over IPv6 because the kernel looks at neighbours only where forwarding is
// off. So ext, which does not forward, leaves out a router over IPv6 that has not answered; its cables tell
// it sooner, see turnFar.
var multipathSettings = []string{
	"ipv4/fib_multipath_hash_policy=1", "ipv6/fib_multipath_hash_policy=1",
}

// routerSettings returns the settings of a gateway.
func routerSettings() []string { return slices.Concat(forwardSettings, multipathSettings) }

// make makes the switch and the hosts that are not nodes.
func (n *Network) make(ctx context.Context) error {
	if err := n.addNamespace(ctx, HostSwitch, "ipv6/conf/default/disable_ipv6=1"); err != nil {
		return err
	}
	if err := n.addBridge(ctx, ManagementLAN); err != nil {
		return err
	}
	return errors.Join(
		n.addLANHost(ctx, HostControlPlane, ControlPlaneAddresses, nil, n.controlPlaneRoutes()...),
		n.addLANHost(ctx, HostRouter, RouterAddresses, routerSettings()),
		n.addLANHost(ctx, HostClient, ClientAddresses, nil, n.lab.options.Families.lanRoutes()...),
		n.addLANHost(ctx, HostStranger, StrangerAddresses, nil, n.lab.options.Families.lanRoutes()...),
		n.addFarHost(ctx),
		n.makeServiceLAN(ctx),
	)
}

// addNode makes the namespace of node i and plugs it in.
func (n *Network) addNode(ctx context.Context, i int) error {
	pods4, pods6 := podSubnets(i)
	lines := append(n.lab.options.Families.lanRoutes(),
		// With an address of its own. Else it has the lowest of its ports', and each pod that comes or goes
		// may change it: the other pods then send to an address that is nobody's, for half a minute if over
		// IPv6.
		fmt.Sprintf("link add cni0 address %s type bridge forward_delay 0", mac(pods4.Addr().Next())),
		"link set cni0 up",
	)
	lines = append(lines, pick(n.lab.options.Families,
		fmt.Sprintf("addr add %s/%d dev cni0", pods4.Addr().Next(), pods4.Bits()),
		fmt.Sprintf("addr add %s/%d dev cni0 nodad", pods6.Addr().Next(), pods6.Bits()),
	)...)
	for j := 1; j <= n.lab.options.Nodes; j++ {
		if j != i {
			lines = append(lines, n.lab.options.Families.podRoutes(j)...)
		}
	}
	if err := n.addLANHost(ctx, NodeName(i), NodeAddresses(i), forwardSettings, lines...); err != nil {
		return err
	}
	return n.plugService(ctx, NodeName(i), NodeAddresses(i))
}

// removeNode takes the memory of a node's kernel: addresses, routes, rules, neighbours.
func (n *Network) removeNode(ctx context.Context, node string) error {
	// The cables first: a namespace goes in the background, and the ports' names must be free at once.
	ports, err := n.portsOf(node)
	if err != nil {
		return err
	}
	var lines []string
	for _, port := range ports {
		lines = append(lines, "link del "+port)
	}
	if err := ipBatch(ctx, n.lab.netns(HostSwitch), lines...); err != nil {
		return err
	}
	return run(ctx, "ip", "netns", "del", n.lab.netns(node))
}

// addLANHost makes a namespace with eth0 at the switch, and runs further lines of `ip -batch` in it.
func (n *Network) addLANHost(
	ctx context.Context, host string, a Addresses, settings []string, lines ...string,
) error {
	if err := n.addNamespace(ctx, host, settings...); err != nil {
		return err
	}
	if err := n.plug(ctx, host, managementLink, ManagementLAN, a); err != nil {
		return err
	}
	return ipBatch(ctx, n.lab.netns(host), lines...)
}

// plug gives a host an interface on a LAN, with addresses.
func (n *Network) plug(ctx context.Context, host, link string, lan LAN, a Addresses) error {
	// Both ends are made where they belong, and so never appear among the machine's own interfaces.
	port := portName(host, link)
	err := ipBatch(ctx, n.lab.netns(HostSwitch),
		fmt.Sprintf("link add %s type veth peer name %s address %s netns %s",
			port, link, mac(a.V4), n.lab.netns(host)),
		fmt.Sprintf("link set %s master %s up", port, lan.bridge()))
	if err != nil {
		return err
	}
	return ipBatch(ctx, n.lab.netns(host), n.lab.options.Families.interfaceLines(link, a)...)
}

// addFarHost makes ext and the network between it and the router.
func (n *Network) addFarHost(ctx context.Context) error {
	// It has two ways when there is a second router.
	if err := n.addNamespace(ctx, HostExt, multipathSettings...); err != nil {
		return err
	}
	cable := fmt.Sprintf("link add eth1 address %s type veth peer name eth0 address %s netns %s",
		mac(routerFarAddresses.V4), mac(ExtAddresses.V4), n.lab.netns(HostExt))
	far := n.lab.options.Families.interfaceLines("eth1", routerFarAddresses)
	err := ipBatch(ctx, n.lab.netns(HostRouter), append([]string{cable}, far...)...)
	if err != nil {
		return err
	}
	return ipBatch(ctx, n.lab.netns(HostExt), append(
		n.lab.options.Families.interfaceLines("eth0", ExtAddresses),
		n.lab.options.Families.defaultRoutes(routerFarAddresses)...,
	)...)
}

// addNamespace makes a network namespace with these settings, given as paths below /proc/sys/net with values.
func (n *Network) addNamespace(ctx context.Context, host string, settings ...string) error {
	if err := run(ctx, "ip", "netns", "add", n.lab.netns(host)); err != nil {
		return err
	}
	// /proc/sys/net shows the namespace of the thread that looks.
	err := runIn(filepath.Join(netnsDir, n.lab.netns(host)), func() error {
		for _, setting := range append(append([]string{}, commonSettings...), settings...) {
			key, value, _ := strings.Cut(setting, "=")
			if err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("kernel settings of %s: %w", host, err)
	}
	return ipBatch(ctx, n.lab.netns(host), "link set lo up")
}

// controlPlaneRoutes returns the routes that let the API server call webhooks in pods.
func (n *Network) controlPlaneRoutes() []string {
	lines := n.lab.options.Families.lanRoutes()
	for i := 1; i <= n.lab.options.Nodes; i++ {
		lines = append(lines, n.lab.options.Families.podRoutes(i)...)
	}
	return lines
}

// interfaceLines returns lines that bring an interface up, for the first time or again: one
// that goes down loses its IPv6 addresses.
func (f Families) interfaceLines(name string, a Addresses) []string {
	return append([]string{fmt.Sprintf("link set %s up", name)}, pick(f,
		fmt.Sprintf("addr replace %s/24 dev %s", a.V4, name),
		fmt.Sprintf("addr replace %s/64 dev %s nodad", a.V6, name),
	)...)
}

func (f Families) defaultRoutes(via Addresses) []string {
	return pick(f,
		fmt.Sprintf("route add default via %s", via.V4),
		fmt.Sprintf("route add default via %s", via.V6))
}

// lanRoutes returns the routes of the hosts on the LAN: to everywhere by the router, and back
// to what came by the second router by that one, whether or not it is there.
func (f Families) lanRoutes() []string {
	return append(f.defaultRoutes(RouterAddresses), pick(f,
		fmt.Sprintf("route add %s via %s",
			netip.PrefixFrom(router2FarAddresses.V4, 24).Masked(), Router2Addresses.V4),
		fmt.Sprintf("route add %s via %s",
			netip.PrefixFrom(router2FarAddresses.V6, 64).Masked(), Router2Addresses.V6),
	)...)
}

// podRoutes returns the routes to the pods of node i.
func (f Families) podRoutes(i int) []string {
	pods4, pods6 := podSubnets(i)
	via := NodeAddresses(i)
	return pick(f,
		fmt.Sprintf("route add %s via %s", pods4, via.V4),
		fmt.Sprintf("route add %s via %s", pods6, via.V6))
}

// removeNamespaces deletes the namespaces a lab of this name may have.
func removeNamespaces(ctx context.Context, name string) error {
	var errs []error
	for _, host := range hostNames(MaxNodes) {
		netns := name + "-" + host
		if _, err := os.Lstat(filepath.Join(netnsDir, netns)); err == nil {
			errs = append(errs, run(ctx, "ip", "netns", "del", netns))
		}
	}
	return errors.Join(errs...)
}

// ipBatch runs lines of `ip -batch` in a network namespace and stops at the first that fails.
func ipBatch(ctx context.Context, netns string, lines ...string) error {
	cmd := exec.CommandContext(ctx, tool("ip"), "-n", netns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -n %s: %w: %s\n(of: %s)",
			netns, err, strings.TrimSpace(string(out)), strings.Join(lines, "; "))
	}
	return nil
}

// run runs a program of this machine; its output is part of the error.
func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, tool(program), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s",
			program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
