package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// A LAN is one of the networks that hosts of a lab share. Each is a bridge of its own in the switch, as a
// VLAN is.
type LAN string

const (
	// ManagementLAN is what eth0 of every host is on, 10.77.0.0/24 and fd77::/64: the API server, the
	// kubelets and the speakers talk over it.
	ManagementLAN LAN = "management"
	// ServiceLAN is there with Options.ServiceLAN: svc0 of the nodes, of the client and of the stranger,
	// 10.78.0.0/24 and fd78::/64. Nothing of the cluster itself talks over it. A link that is on it has a
	// name that starts with "svc".
	ServiceLAN LAN = "service"
)

const (
	managementLink = "eth0"
	// ServiceLink is the interface by which a host is on the service LAN. It is made after eth0 and has the
	// higher index.
	ServiceLink = "svc0"
	// serviceLinks starts the names of all interfaces on the service LAN.
	serviceLinks = "svc"
)

// bridge is the interface of the switch that joins the ports of a LAN.
func (n LAN) bridge() string {
	if n == ServiceLAN {
		return "br1"
	}
	return "br0"
}

// lanOf is the LAN of an interface by its name.
func lanOf(link string) LAN {
	if strings.HasPrefix(link, serviceLinks) {
		return ServiceLAN
	}
	return ManagementLAN
}

// LANOfPort is the LAN of a port of the switch, and false for what is no port: the bridges themselves.
func LANOfPort(port string) (LAN, bool) {
	if port == ManagementLAN.bridge() || port == ServiceLAN.bridge() {
		return "", false
	}
	return lanOf(port), true
}

// portName is the end of a cable at the switch: the host's name for its eth0, and LINK-HOST for its other
// interfaces.
func portName(host, link string) string {
	if link == managementLink {
		return host
	}
	return link + "-" + host
}

// portsOf lists the ports of a host that are there.
func (n *Network) portsOf(host string) (ports []string, err error) {
	err = n.lab.Host(HostSwitch).Run(func() error {
		all, err := net.Interfaces()
		for _, port := range all {
			if port.Name == host || strings.HasSuffix(port.Name, "-"+host) {
				ports = append(ports, port.Name)
			}
		}
		return err
	})
	return ports, err
}

// setPorts plugs in all cables of a host at the switch ("up"), or pulls them ("down").
func (n *Network) setPorts(ctx context.Context, host, state string) error {
	ports, err := n.portsOf(host)
	if err != nil {
		return err
	}
	var lines []string
	for _, port := range ports {
		lines = append(lines, "link set "+port+" "+state)
	}
	return ipBatch(ctx, n.lab.netns(HostSwitch), lines...)
}

// OnServiceLAN returns the addresses that a host has on the service LAN, given those of its eth0: they end
// alike.
func OnServiceLAN(a Addresses) Addresses {
	v4, v6 := a.V4.As4(), a.V6.As16()
	v4[1], v6[1] = 78, 0x78
	return Addresses{V4: netip.AddrFrom4(v4), V6: netip.AddrFrom16(v6)}
}

// addBridge makes the bridge of a LAN. A port forwards at once: no spanning tree, and no waiting for
// multicast group members.
func (n *Network) addBridge(ctx context.Context, lan LAN) error {
	return ipBatch(ctx, n.lab.netns(HostSwitch),
		"link add "+lan.bridge()+" type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set "+lan.bridge()+" up")
}

// makeServiceLAN makes the service LAN and plugs in those who are no nodes, where the lab is to have it.
func (n *Network) makeServiceLAN(ctx context.Context) error {
	if !n.lab.options.ServiceLAN {
		return nil
	}
	if err := n.addBridge(ctx, ServiceLAN); err != nil {
		return err
	}
	return errors.Join(
		n.plugService(ctx, HostClient, ClientAddresses),
		n.plugService(ctx, HostStranger, StrangerAddresses),
	)
}

// plugService puts a host on the service LAN, where the lab has one.
func (n *Network) plugService(ctx context.Context, host string, a Addresses) error {
	if !n.lab.options.ServiceLAN {
		return nil
	}
	return n.plug(ctx, host, ServiceLink, ServiceLAN, OnServiceLAN(a))
}

// checkLAN returns an error if the lab has no such LAN.
func (n *Network) checkLAN(lan LAN) error {
	switch {
	case lan == ManagementLAN, lan == ServiceLAN && n.lab.options.ServiceLAN:
		return nil
	case lan == ServiceLAN:
		return errors.New("the lab has no service LAN: `lab up --service-lan` makes one")
	}
	return fmt.Errorf("no LAN %q: the LANs are %s and %s", lan, ManagementLAN, ServiceLAN)
}

// LeaveVLAN takes the ports of a node out of a LAN, as a switch does whose port is no longer a member of the
// VLAN: no frame passes any more, and the node keeps its carrier. JoinVLAN and Heal put them back.
func (n *Node) LeaveVLAN(ctx context.Context, lan LAN) error {
	if err := errors.Join(n.check(), n.lab.Network().checkLAN(lan)); err != nil {
		return err
	}
	all, err := n.lab.Network().portsOf(n.name)
	if err != nil {
		return err
	}
	// Not every kernel has bridges that know VLANs; every one that runs a lab drops frames by their port.
	lines := []string{"chain forward { type filter hook forward priority -10;"}
	for _, port := range all {
		if lanOf(port) == lan {
			lines = append(lines,
				fmt.Sprintf("iifname %q drop;", port),
				fmt.Sprintf("oifname %q drop;", port))
		}
	}
	return n.lab.Host(HostSwitch).replaceTable(ctx, "bridge "+leaveTable(n.name, lan), append(lines, "}"))
}

// JoinVLAN puts the ports of a node back into a LAN.
func (n *Node) JoinVLAN(ctx context.Context, lan LAN) error {
	if err := errors.Join(n.check(), n.lab.Network().checkLAN(lan)); err != nil {
		return err
	}
	return n.lab.Host(HostSwitch).removeTables(ctx, func(name string) bool {
		return name == leaveTable(n.name, lan)
	})
}

func leaveTable(node string, lan LAN) string { return leavePrefix + string(lan) + "-" + node }

// AddLink gives a node that runs one more interface, on a LAN where it may have others, with addresses of
// that LAN's subnets. On the service LAN its name starts with "svc", elsewhere it does not. It is gone when
// the node crashes.
func (n *Node) AddLink(ctx context.Context, link string, lan LAN, a Addresses) error {
	if err := errors.Join(n.check(), n.lab.Network().checkLAN(lan)); err != nil {
		return err
	}
	if _, err := n.process(); err != nil {
		return err
	}
	if lanOf(link) != lan || len(portName(n.name, link)) > maxLinkName {
		return fmt.Errorf("link %q on the %s LAN: a short name that starts with %q is on the %s LAN, "+
			"all others on the %s LAN",
			link, lan, serviceLinks, ServiceLAN, ManagementLAN)
	}
	return n.lab.Network().plug(ctx, n.name, link, lan, a)
}

// maxLinkName is how long the kernel lets the name of an interface be.
const maxLinkName = 15

// RemoveLink takes an interface away that AddLink has made.
func (n *Node) RemoveLink(ctx context.Context, link string) error {
	if err := n.check(); err != nil {
		return err
	}
	if link == managementLink || link == ServiceLink {
		return fmt.Errorf("%s of %s stays: AddLink has not made it", link, n.name)
	}
	return ipBatch(ctx, n.lab.netns(HostSwitch), "link del "+portName(n.name, link))
}

// AddAddresses gives an interface of a host further addresses, at once usable.
func (h *Host) AddAddresses(ctx context.Context, link string, addresses ...netip.Prefix) error {
	return h.changeAddresses(ctx, "add", link, addresses)
}

// RemoveAddresses takes addresses from an interface of a host.
func (h *Host) RemoveAddresses(ctx context.Context, link string, addresses ...netip.Prefix) error {
	return h.changeAddresses(ctx, "del", link, addresses)
}

func (h *Host) changeAddresses(ctx context.Context, verb, link string, addresses []netip.Prefix) error {
	if err := h.check(); err != nil {
		return err
	}
	var lines []string
	for _, a := range addresses {
		line := fmt.Sprintf("addr %s %s dev %s", verb, a, link)
		if verb == "add" && a.Addr().Is6() {
			line += " nodad"
		}
		lines = append(lines, line)
	}
	return ipBatch(ctx, h.netns(), lines...)
}
