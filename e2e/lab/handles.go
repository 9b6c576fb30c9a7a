package lab

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// What one can do to a lab is on handles: to a Host, to a Node or a Router, which are hosts too, to a
// Component of the control plane, to the Network between them, and to the API. A handle costs nothing, and is
// good for as long as the lab is. What it names need not be there: its methods say so.

// A Host is anything in a lab with a network namespace.
type Host struct {
	lab  *Lab
	name string
}

// Host returns the host of that name: one of HostNames.
func (l *Lab) Host(name string) *Host { return &Host{lab: l, name: name} }

// Client returns HostClient, the machine on the LAN.
func (l *Lab) Client() *Host { return l.Host(HostClient) }

// A Node is a node of the cluster.
type Node struct{ Host }

// Node returns the node of that name: one of NodeNames.
func (l *Lab) Node(name string) *Node { return &Node{Host{lab: l, name: name}} }

// A Router is HostRouter or HostRouter2.
type Router struct{ Host }

// Router returns the router of that name.
func (l *Lab) Router(name string) *Router { return &Router{Host{lab: l, name: name}} }

// A Component is a process of the control plane.
type Component struct {
	lab  *Lab
	name string
}

// Component returns the component of that name: one of ComponentNames.
func (l *Lab) Component(name string) *Component { return &Component{lab: l, name: name} }

// An API is the cluster's API server as its administrator sees it.
type API struct{ lab *Lab }

// API returns the API server.
func (l *Lab) API() *API { return &API{lab: l} }

// Address is where the API server is reached from every host, and from pods, without kube-proxy.
func (a *API) Address() netip.AddrPort {
	return netip.AddrPortFrom(a.lab.options.Families.apiAddress(), apiPort)
}

// A Network is the switch with its LANs, and what connects the hosts.
type Network struct{ lab *Lab }

// Network returns the network between all hosts.
func (l *Lab) Network() *Network { return &Network{lab: l} }

// Name is that of the host.
func (h *Host) Name() string { return h.name }

// netns is the name of the host's network namespace.
func (h *Host) netns() string { return h.lab.netns(h.name) }

// check returns an error that lists the hosts if h is not one of them.
func (h *Host) check() error {
	hosts := h.lab.HostNames()
	if !slices.Contains(hosts, h.name) {
		return fmt.Errorf("no host %q: the hosts are %s", h.name, strings.Join(hosts, ", "))
	}
	return nil
}

// index is the number of the node, counted from 1, or 0 if there is none of that name.
func (n *Node) index() int { return nodeIndex(n.name, n.lab.options.Nodes) }

// check returns an error that lists the nodes if n is not one of them.
func (n *Node) check() error {
	if n.index() == 0 {
		return fmt.Errorf("no node %q: the nodes are %s", n.name, strings.Join(n.lab.NodeNames(), ", "))
	}
	return nil
}

// check returns an error if r is no router.
func (r *Router) check() error {
	if r.name != HostRouter && r.name != HostRouter2 {
		return fmt.Errorf("no router %q: the routers are %s and %s", r.name, HostRouter, HostRouter2)
	}
	return nil
}

// checkThere returns an error for a second router that nobody has started.
func (r *Router) checkThere() error {
	if err := r.check(); err != nil {
		return err
	}
	if _, err := os.Lstat(netnsDir + "/" + r.netns()); err != nil {
		return fmt.Errorf("%s was never started: %w", r.name, err)
	}
	return nil
}
