// Package lab runs a real Kubernetes cluster of a few nodes in Linux network namespaces of one machine, with
// a LAN, a router and clients around it, and breaks it on request.
//
//	client 10.77.0.100 fd77::100 ─┐              ┌─ node1 10.77.0.11 fd77::11
//	cp     10.77.0.2   fd77::2  ──┤ switch (sw)  ├─ node2 10.77.0.12 fd77::12
//	router 10.77.0.1   fd77::1  ──┘              └─ node3 10.77.0.13 fd77::13
//	   └─ 10.88.0.1 fd88::1 ── ext 10.88.0.100 fd88::100
//
// The pods of node1 are in 10.244.1.0/24 and fd44:0:0:1::/64, those of node2 in 10.244.2.0/24 and
// fd44:0:0:2::/64, and so on.
//
// There is also a stranger, 10.77.0.66 fd77::66, a machine on the LAN that belongs to nobody of the cluster.
// With Options.ServiceLAN, nodes, client and stranger are on a second LAN as well, see LAN.
//
// On request there is a second router, 10.77.0.3 fd77::3, with a cable of its own to ext, and both run FRR;
// see Router.Start.
//
// Nothing is imitated: etcd and the control plane run in the namespace cp; every node has network, mount,
// process, host name and IPC namespaces of its own, with containerd, kubelet and kube-proxy under a PID 1
// whose end is the end of the node. Only the registry is missing: images are loaded from files.
//
// What is done to a part of a lab is done by its handle: Lab.Node, Lab.Router, Lab.Host, Lab.Component,
// Lab.Network, Lab.API.
//
// Words used here. A host is anything with a namespace: sw, cp, router, router2, client, ext, stranger and
// the nodes. A port is a host's end of a cable at the switch; it carries the name of the host, with the link
// in front if that is not eth0. A component is a process of the control plane.
//
// A lab has a name, and several run side by side with the same addresses. The host's own interfaces are never
// touched. The processes outlive the program that called Up; Open attaches to them again. Everything the lab
// keeps is in one directory, and Down removes all of it.
//
// Root is needed, and the Debian packages that Requirements lists.
package lab
