// Package prober asks the LANs of this node by ARP and Neighbor Discovery: whether
// another node's kernel lives ([Prober.Reach]), and who has an address ([Prober.Ask];
// RFC 5227, RFC 4862 5.4).
//
// What probes prove (book.go) and what is known of a question (ask.go) is pure; the
// rest is the shell around it.
package prober
