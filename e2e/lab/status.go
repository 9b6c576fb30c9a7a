package lab

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"time"
)

// A Status tells how a lab is.
type Status struct {
	Name    string
	Dir     string
	Created time.Time
	// ProxyMode is that of kube-proxy.
	ProxyMode ProxyMode
	// Components are those of the control plane, in the order in which they are started.
	Components []ComponentStatus
	Nodes      []NodeStatus
	// Images are the references of what is loaded into the nodes.
	Images []string
}

// A ComponentStatus tells of one process of the control plane.
type ComponentStatus struct {
	Name    string
	Running bool
	PID     int
	RSS     int64 // resident memory in bytes; pages of the binary count in every process that uses them
}

// A NodeStatus tells of one node.
type NodeStatus struct {
	Name      string
	Addresses []netip.Addr // on its eth0
	State     NodeState
	Plugged   bool  // its cable is in the switch
	PID       int   // of its process 1
	Processes int   // how many run on it
	RSS       int64 // of all of them together, in bytes
	// Ready is what Kubernetes says: "yes", "no", or "unknown" if the API server does not answer.
	Ready string
}

// A NodeState is one of the constants below.
type NodeState string

// States of a node.
const (
	NodeRunning NodeState = "running"
	NodeHung    NodeState = "hung" // its processes are stopped, see Hang
	NodeDown    NodeState = "down" // it crashed
)

// Status looks at every process of the lab and asks the API server, for at most two seconds, about the nodes.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	all, err := processes()
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Name:      l.options.Name,
		Dir:       l.dir,
		Created:   l.created,
		ProxyMode: l.options.ProxyMode,
	}
	for _, c := range components {
		status := ComponentStatus{Name: c.name}
		if p, err := readProcess(l.recordFile(c.name)); err == nil && p.alive() {
			status.Running, status.PID, status.RSS = true, p.PID, all[p.PID].rss
		}
		s.Components = append(s.Components, status)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ports := l.Network().pluggedPorts()
	for i, node := range l.NodeNames() {
		status := l.Node(node).status(ctx, all)
		status.Addresses = l.options.Families.Of(NodeAddresses(i + 1))
		status.Plugged = ports[node]
		s.Nodes = append(s.Nodes, status)
	}
	archives, err := filepath.Glob(l.path("images", "*.tar"))
	if err != nil {
		return Status{}, err
	}
	for _, archive := range archives {
		s.Images = append(s.Images, imageRef(archive))
	}
	return s, nil
}

func (n *Node) status(ctx context.Context, all map[int]procStat) NodeStatus {
	s := NodeStatus{Name: n.name, State: NodeDown, Ready: "unknown"}
	if conditions, err := n.lab.API().nodeConditions(ctx, n.name); err == nil {
		s.Ready = "yes"
		if conditions.ready() != nil {
			s.Ready = "no"
		}
	}
	init, err := n.process()
	if err != nil {
		return s
	}
	s.State, s.PID = NodeRunning, init.PID
	for _, pid := range family(all, init.PID) {
		s.Processes++
		s.RSS += all[pid].rss
		if all[pid].state == 'T' {
			s.State = NodeHung
		}
	}
	return s
}

// pluggedPorts tells which ports of the switch are up. On an error none is.
func (n *Network) pluggedPorts() map[string]bool {
	up := map[string]bool{}
	_ = n.lab.Host(HostSwitch).Run(func() error {
		ports, err := net.Interfaces()
		for _, port := range ports {
			up[port.Name] = port.Flags&net.FlagUp != 0
		}
		return err
	})
	return up
}
