// Package membership knows which speakers of the cluster are alive, and what each
// publishes of itself.
//
// It is a small face for hashicorp/memberlist, a SWIM protocol with Lifeguard's
// refinements: every member probes the others in turn by UDP, asks third members
// when one does not answer, suspects it, and declares it dead when nobody
// refutes the suspicion in time. Everything is encrypted with AES-GCM; packets of
// strangers, without the label or the key, are dropped.
//
// Strangers cost little: a TCP connection proves that it has a key before anything
// else of it is read, and what is read is bounded for those who have one, too. So
// memberlist works on a transport of this package, and all members must.
//
// The package does what memberlist leaves to its user: it joins lost members again for as
// long as they are known, and it reports to a starting member whether it has asked
// everybody ([Membership.Settled]), before that member takes itself for alone. The caller
// finds the peers and sets them whenever they change. The last ones stay while the caller
// cannot ask, so the package works while the Kubernetes API is unreachable.
//
// Members publish keys and values about themselves ([Membership.Publish]). All members have
// a copy, as package kv describes. They travel in three ways, each of which makes up for
// the others: directly to the other members, by gossip from member to member, and when two
// exchange all that they know, at a join and now and then. So what a member published
// outlives it: the others still know it when it is dead, and it learns from them what it
// had published before it was restarted.
package membership
