// Package links holds what a node knows of its network interfaces, as plain values,
// and decides which of them are to carry an address ([Choose]). It is pure: package
// watch below it reads the kernel.
//
// A link is one network interface of this node at one moment.
package links
