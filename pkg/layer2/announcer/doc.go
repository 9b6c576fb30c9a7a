// Package announcer makes a LAN deliver an address to this node: it answers ARP (RFC
// 826, IPv4) and Neighbor Discovery (RFC 4861, IPv6) for addresses that no interface
// carries, and tells the LAN when such an address has moved here.
//
// The pure half decides and has no goroutine, clock, socket or logger: what a received
// frame deserves (handle.go, in the words of [Verdict]), which claims of others are to
// be defended against (conflicts.go), and what is to be announced when (burst.go). The
// other half is the shell around it: [Announcer] owns the sockets that answer and
// announce, and applies whole desired states. A guard suspends it when the process was
// stalled, because others may have taken over meanwhile.
//
// Nothing here touches the kernel's addresses or routes: what happens to a packet once
// it has arrived is the business of kube-proxy or its replacement.
package announcer
