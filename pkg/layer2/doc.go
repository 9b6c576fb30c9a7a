// Package layer2 makes a network segment deliver an address to this node: it
// answers ARP (RFC 826, IPv4) and Neighbor Discovery (RFC 4861, IPv6) for
// addresses that no interface carries, and tells the segment when such an
// address has moved here.
//
// The package is in two halves. The pure half decides and has no goroutine,
// clock, socket or logger: which links may carry an address ([Choose]), which
// node owns it ([Elect], [Rank]), what a received frame deserves (arp.go and
// ndp.go, which share the [Verdict] words), which claims of others are to be
// defended against (conflicts.go), what is to be announced when (burst.go), and
// what probes prove (probebook.go). The other half is thin shells around it:
//
//   - [LinkWatcher] reports the links of this node as the kernel tells of them.
//   - [Announcer] owns the sockets that answer and announce, and applies whole
//     desired states. A guard suspends it when the process stood still, because
//     others may have taken over meanwhile.
//   - [Prober] asks the segment: whether another node's kernel lives, and who
//     has an address (RFC 5227, RFC 4862 5.4).
//
// None of them touches the kernel's addresses or routes: what happens to a
// packet once it has arrived is the business of kube-proxy or its replacement.
package layer2
