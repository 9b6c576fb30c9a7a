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
// What memberlist leaves to its user is done here: members that were lost are
// joined again for as long as they are known, whatever tore them away, and
// a starting member can tell whether it has asked everybody ([Membership.Settled])
// before it thinks itself alone. The peers are found by the caller, who sets them
// whenever it learns of a change; when it cannot ask any more, the last ones
// stay, so the package works while the Kubernetes API is away.
//
// Members publish what others are to know of them ([Membership.Say]): keys and values
// of which all have a copy, as package kv describes. They travel in three ways, each of
// which makes up for the others: directly to the other members, by gossip from member to
// member, and when two exchange all that they know, at a join and now and then. So what a
// member published outlives it: the others still know it when it is dead, and it learns
// from them what it had published before it was restarted.
package membership
