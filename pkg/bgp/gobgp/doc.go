// Package gobgp keeps BGP sessions with routers and announces routes to them.
// It is the only importer of github.com/osrg/gobgp.
//
// Each peer has a gobgp server of its own, because router ID, next hops and
// graceful restart are global to a server, and so that no peer can hold up
// another. gobgp does not talk to the router itself:
//
//	router  <-- TCP -->  relay  <-- loopback, with a random key -->  gobgp
//
// The relay owns the connection. So this package decides about source
// address, TTL, MD5 key, VRF, listening and retries, and can say in words why
// something fails. Of what the router sends it passes on only what keeps the
// session: OPEN, KEEPALIVE, NOTIFICATION and ROUTE-REFRESH. UPDATEs are
// discarded without being parsed. Nothing is learnt, a flood of routes costs no memory,
// and a malformed one meets no parser. The relay rewrites both OPENs: of the router's,
// gobgp sees the capabilities that matter here; in gobgp's, it sets that for which gobgp
// has no switch, a hold time of 0 and the flags of graceful restart, and takes out what
// the router is not to be offered or has refused.
//
// A session in time: connect to the router (or wait for it), connect to gobgp
// and join the two; when the router's OPEN comes, choose the next hops, and give
// gobgp the routes before it sees the OPEN. When one connection ends, the other
// does, and it begins again.
package gobgp
