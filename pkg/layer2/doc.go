// Package layer2 makes a network segment deliver an address to this node: it
// answers ARP (RFC 826, IPv4) and Neighbor Discovery (RFC 4861, IPv6) for
// addresses that no interface carries, and tells the segment when such an
// address has moved here.
//
// The package is in two halves. The pure half decides and has no goroutine,
// clock, socket or logger: which links may carry an address ([Choose]), which
// node owns it ([Elect], [Rank]), and what a received frame deserves (arp.go and
// ndp.go, which share the [Verdict] words). The other half is a thin shell
// around it: [LinkWatcher] reports the links of this node as the kernel tells
// of them, and [Announcer] owns the sockets and applies whole desired states.
//
// The announcer never touches the kernel's addresses or routes: what happens to
// a packet once it has arrived is the business of kube-proxy or its replacement.
package layer2
