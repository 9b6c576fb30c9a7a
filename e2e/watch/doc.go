// Package watch judges from outside who has an address in a lab, and what a client loses.
//
//   - Traffic sends datagrams from a client to many addresses and notes which are answered. The
//     client's kernel resolves the addresses, and only what comes over the LAN changes its mind.
//   - Capture reads every ARP frame and Neighbor Advertisement where it enters the switch, and keeps
//     who claims what.
//   - Asker asks for addresses all the time, so that whoever would answer is heard. It is not the
//     client: answers would freshen the client's neighbour cache, and the loss would look shorter
//     than it is.
//   - Overlaps, Changes, OutageOf and SummaryOf are pure and say what all that means.
//
// Frames are read and written by offset, as the RFCs lay them out: nothing here is shared with the product.
package watch
