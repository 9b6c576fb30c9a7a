// Package incumbent stands for another load balancer that is at work when Berth comes. It behaves as
// MetalLB's speakers do. At layer 2, it answers ARP and NDP for each address from one node, with that
// node's Ethernet address, announces addresses unasked for five seconds when it takes them, and heeds no
// announcement of others. It does not answer who probes an IPv6 address from ::. By BGP, it is FRR on a node.
package incumbent
