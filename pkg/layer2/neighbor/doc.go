// Package neighbor speaks ARP (RFC 826, RFC 5227) and Neighbor Discovery (RFC 4861)
// on one link.
//
// [Parse] reads a received frame; what it accepts is decided there, once, for all who
// listen. [Request], [Packet.Reply] and [Announcement] make the frames to send. The
// filters of [Protocol] are kernel programs that pass hardly more than a listener
// wants. All these are pure. [Socket] is a packet socket with such a filter, the
// groups that it has joined, and the queue that it reads.
package neighbor
