package v1beta1

// ConditionReady is the condition of every kind of this group. True: all that
// the object asks for is in force. False: some of it is not; reason and
// message say which part, why, and what to do. What can be in force is.
const ConditionReady = "Ready"

// ConditionStalled is a condition of every kind that users write. True: the object is
// not in force as written, and waiting does not help, only an edit of the object does.
// It is absent otherwise. Tools that wait for objects to get ready (Flux, Helm, all
// that read them as kstatus does) give up when they see it.
const ConditionStalled = "Stalled"

// ConditionCRDOutdated is a condition of every kind that users write. True: the
// CustomResourceDefinition of the kind is older than the controller, as after an upgrade
// that leaves definitions as they are; the message says what it lacks and what to do. It
// is absent otherwise.
const ConditionCRDOutdated = "CRDOutdated"

// ConditionOutOfRange is a condition of IPAddressPool. True: Services hold
// addresses of the pool that it no longer contains; they are listed in
// status.outOfRange. It is absent where there are none.
const ConditionOutOfRange = "OutOfRange"

// ConditionNodeAddresses is a condition of IPAddressPool. True: nodes have
// addresses of the pool; the message names some of them, and the reason says
// whether they are given out. It is absent where there are none.
const ConditionNodeAddresses = "NodeAddresses"

// ConditionAddressesClear is a condition of Speaker. True: the speaker knows of no address
// that another host than its owner answers for. False: it does; status.layer2.conflicts
// lists them, the message names a few with link-layer addresses.
const ConditionAddressesClear = "AddressesClear"

// ConditionMembersReachable is a condition of Speaker. True: it hears every other speaker
// that works, at the member port. False: it does not; the message says which, or why.
const ConditionMembersReachable = "MembersReachable"

// ConditionAddressAssigned is the condition that the controller writes into
// the status of a Service of type LoadBalancer. True: the Service holds every
// address it asks for; the message names pool and addresses. False: the
// message says, pool by pool, why not.
const ConditionAddressAssigned = "berth.io/AddressAssigned"

// ConditionBGPAnnounced is a condition that the controller writes into the status
// of a Service with an address that a BGPAdvertisement selects. True: nodes announce
// every such address to routers; the message says which nodes, and to how many
// sessions. False: it says why some address is announced to nobody. Unknown: the
// Speaker objects do not list all addresses. The message may be some time behind.
const ConditionBGPAnnounced = "berth.io/BGPAnnounced"

// A Reason is one word for an outcome. The same word is used in conditions, Events, logs
// and metrics.
type Reason string

// Reasons of ConditionReady on the kinds that users write.
const (
	// ReasonAccepted: the object is in force as written.
	ReasonAccepted Reason = "Accepted"
	// ReasonInvalid: the object cannot be understood. Its last good version,
	// if this process has seen one, stays in force.
	ReasonInvalid Reason = "Invalid"
	// ReasonOverlapping: some addresses of the pool belong to an older pool,
	// which keeps them. The rest of the pool is in use.
	ReasonOverlapping Reason = "Overlapping"
	// ReasonNodeAddresses: nodes have every address of a family of the pool, so it assigns
	// none of them. It is also why such a pool is passed over for a Service.
	ReasonNodeAddresses Reason = "NodeAddresses"
	// ReasonPoolNotFound: the object names a pool that does not exist. The
	// pools that do exist are served.
	ReasonPoolNotFound Reason = "PoolNotFound"
	// ReasonPeerNotFound: the advertisement names a BGPPeer that does not
	// exist or is not in force, and the others are served; or there is none at
	// all, or none that has sessions with a node of the advertisement.
	ReasonPeerNotFound Reason = "PeerNotFound"
	// ReasonSecretNotFound: the Secret with the password of a BGPPeer is not
	// there, is of another type, or has no password. The last good version of the peer, if this
	// process has seen one, stays in force.
	ReasonSecretNotFound Reason = "SecretNotFound"
	// ReasonBFDProfileNotFound: the peer names a BFDProfile that does not exist
	// or is not in force. Its last version, if this process has seen one, stays in
	// force; else the sessions run without BFD.
	ReasonBFDProfileNotFound Reason = "BFDProfileNotFound"
	// ReasonBFDEchoUnusable: the peer is several hops away, so its BFDProfile
	// is in force without echo mode.
	ReasonBFDEchoUnusable Reason = "BFDEchoUnusable"
	// ReasonCommunityNotFound: the advertisement names a community alias that
	// no Community object gives. Its last good version, if this process has
	// seen one, stays in force.
	ReasonCommunityNotFound Reason = "CommunityNotFound"
	// ReasonDuplicateAlias: an older Community object gives the same alias,
	// and its value counts.
	ReasonDuplicateAlias Reason = "DuplicateAlias"
	// ReasonAggregationTooWide: a pool has an entry that is smaller than the
	// aggregate, so the aggregate would bring traffic for addresses that are
	// not in the pool. Its addresses are announced one by one.
	ReasonAggregationTooWide Reason = "AggregationTooWide"
	// ReasonNotConfigured: the BGPPeer asks for what some of its nodes do not
	// have, such as its sourceAddress. They have no session; the others do.
	ReasonNotConfigured Reason = "NotConfigured"
	// ReasonNoNodeSelected: no node of the cluster has labels that the object
	// selects.
	ReasonNoNodeSelected Reason = "NoNodeSelected"
	// ReasonNodesExcluded: every node that the advertisement selects carries
	// LabelExcludeNode, and others do not; so no node announces by it.
	ReasonNodesExcluded Reason = "NodesExcluded"
	// ReasonProtocolDisabled: no speaker announces by the protocol of the object, because
	// their settings turn it off; or, of a node, its speaker does not.
	ReasonProtocolDisabled Reason = "ProtocolDisabled"
	// ReasonNoInterface: no node that the L2Advertisement selects has a usable
	// interface that it names.
	ReasonNoInterface Reason = "NoInterface"
	// ReasonNoPeerForFamily: pools of the advertisement have addresses of a family that no
	// session with its peers carries, so these are announced to no router. As a decision of
	// a speaker: no session of this node carries the address's family.
	ReasonNoPeerForFamily Reason = "NoPeerForFamily"
	// ReasonSameRouterID: the BGPPeer gives several nodes the same BGP identifier.
	// Their sessions are tried, and routers may refuse them.
	ReasonSameRouterID Reason = "SameRouterID"
	// ReasonConflicting: an older advertisement gives the same routes another
	// localPref, med or asPathPrepend, and its values count. Of a BGPPeer: an older
	// one has the session with its router, so this one is not in force.
	ReasonConflicting Reason = "Conflicting"
)

// ReasonCRDOutdated is the reason of ConditionCRDOutdated.
const ReasonCRDOutdated Reason = "CRDOutdated"

// ReasonHeldOutside is the reason of ConditionOutOfRange.
const ReasonHeldOutside Reason = "HeldOutside"

// Reasons of ConditionNodeAddresses.
const (
	// ReasonNotAssignable: nodes have addresses of the pool, and it assigns none of these.
	ReasonNotAssignable Reason = "NotAssignable"
	// ReasonAssignable: nodes have addresses of the pool, and it assigns them; nobody
	// announces them.
	ReasonAssignable Reason = "Assignable"
)

// Reasons of ConditionReady on Speaker.
const (
	// ReasonAnnouncing: the speaker has a complete view of the cluster and
	// announces what it owns. Of an Event at a Service: a node has begun to announce
	// an address.
	ReasonAnnouncing Reason = "Announcing"
	// ReasonStarting: the speaker does not know the cluster or the other speakers
	// yet, and announces nothing.
	ReasonStarting Reason = "Starting"
	// ReasonStopped: the speaker shut down cleanly and announces nothing.
	ReasonStopped Reason = "Stopped"
	// ReasonNodeNotReady: the node is not ready. What its speaker last reported may no
	// longer hold; a speaker that works corrects it at once.
	ReasonNodeNotReady Reason = "NodeNotReady"
)

// Reasons of ConditionAddressesClear on Speaker.
const (
	// ReasonNoConflicts: only the owners answer.
	ReasonNoConflicts Reason = "NoConflicts"
	// ReasonConflicts: another than the owner answers for an address, or
	// nobody does.
	ReasonConflicts Reason = "Conflicts"
)

// Reasons of ConditionAddressAssigned on a Service.
const (
	// ReasonAssigned: the Service holds the addresses named in the message.
	ReasonAssigned Reason = "Assigned"
	// ReasonPartlyAssigned: a PreferDualStack Service holds an address of one
	// family; no pool has one of the other.
	ReasonPartlyAssigned Reason = "PartlyAssigned"
	// ReasonNoPools: there is no usable IPAddressPool in the cluster.
	ReasonNoPools Reason = "NoPools"
	// ReasonNoEligiblePool: pools exist, but none may serve this Service.
	ReasonNoEligiblePool Reason = "NoEligiblePool"
	// ReasonPoolsExhausted: every eligible pool is full.
	ReasonPoolsExhausted Reason = "PoolsExhausted"
	// ReasonPoolNotFoundForService: the Service asks for a pool that does not
	// exist.
	ReasonPoolNotFoundForService Reason = "RequestedPoolNotFound"
	// ReasonAddressNotInPool: the Service asks for an address that no pool
	// (or not the requested pool) contains.
	ReasonAddressNotInPool Reason = "AddressNotInPool"
	// ReasonAddressInUse: the address asked for is held by another Service
	// with which it may not be shared.
	ReasonAddressInUse Reason = "AddressInUse"
	// ReasonNodeAddress: the address asked for is a node's own, and its pool does
	// not give out such addresses. Of a speaker's decision: the address is a
	// node's own, so nobody announces it.
	ReasonNodeAddress Reason = "NodeAddress"
	// ReasonExternalIP: another Service names the address asked for in spec.externalIPs; or
	// Services name every free address of a pool there.
	ReasonExternalIP Reason = "ExternalIP"
	// ReasonForeignAddress: the Service has addresses that no pool contains and no node
	// has, or host names, and Berth did not assign them. It leaves them alone.
	ReasonForeignAddress Reason = "ForeignAddress"
	// ReasonStatusOverwritten: somebody else has put addresses or host names in
	// the place of those that Berth had written into the Service's status. Berth
	// does not write in turn with them.
	ReasonStatusOverwritten Reason = "StatusOverwritten"
	// ReasonPoolMissing: the Service keeps an address that no pool contains: its
	// pool was not there when the controller started. Nobody announces it.
	ReasonPoolMissing Reason = "PoolMissing"
	// ReasonPoolDeleted: the pool of the Service's address was deleted, and the
	// Service is about to lose the address. A reason of Events only.
	ReasonPoolDeleted Reason = "PoolDeleted"
	// ReasonPoolGone: the pool of the Service's address is gone, and no other
	// pool has one for it.
	ReasonPoolGone Reason = "PoolGone"
	// ReasonInvalidRequest: annotations or fields of the Service contradict
	// each other or cannot be read.
	ReasonInvalidRequest Reason = "InvalidRequest"
	// ReasonUnknownAnnotation, of Events: an annotation of the Service begins like
	// those of Berth or MetalLB, and has a name that Berth does not know. The message
	// of the condition says so too, whatever its reason.
	ReasonUnknownAnnotation Reason = "UnknownAnnotation"
	// ReasonNoClusterIP: the Service has no cluster IP yet, so its families
	// are not known.
	ReasonNoClusterIP Reason = "NoClusterIP"
)

// Reasons of ConditionBGPAnnounced on a Service. ReasonAnnounced,
// ReasonNoPeerForFamily and ReasonPeerNotFound are three more.
const (
	// ReasonNoSession: nodes would announce an address, and none of them has an established
	// session that carries it. Of an Event at a BGPPeer: a node cannot establish a session
	// with it.
	ReasonNoSession Reason = "NoSession"
	// ReasonNoNodeAnnounces: sessions could carry an address, and no node announces
	// it, for want of ready endpoints or because the nodes may not. The logs of the
	// speakers have the reason of each node.
	ReasonNoNodeAnnounces Reason = "NoNodeAnnounces"
	// ReasonNotListed: no Speaker object lists an address, and some have no room to
	// list all that their nodes announce.
	ReasonNotListed Reason = "NotListed"
)

// Reasons for which one pool is passed over for a Service.
const (
	// ReasonPoolFull: every address of the family is held.
	ReasonPoolFull Reason = "PoolFull"
	// ReasonResting: the free addresses of the pool were released less than reuseDelay ago.
	ReasonResting Reason = "Resting"
	// ReasonQuotaReached: the Service's namespace holds as many addresses of the
	// pool as quotaPerNamespace allows.
	ReasonQuotaReached Reason = "QuotaReached"
	// ReasonPoolDraining: the pool assigns nothing new.
	ReasonPoolDraining Reason = "PoolDraining"
	// ReasonFamilyMissing: the pool has no address of the family.
	ReasonFamilyMissing Reason = "FamilyMissing"
	// ReasonAutoAssignFalse: the pool assigns addresses only to Services that ask for it by
	// name.
	ReasonAutoAssignFalse Reason = "AutoAssignFalse"
	// ReasonNamespaceNotSelected: serviceAllocation does not select the
	// Service's namespace.
	ReasonNamespaceNotSelected Reason = "NamespaceNotSelected"
	// ReasonServiceNotSelected: serviceAllocation does not select the
	// Service's labels.
	ReasonServiceNotSelected Reason = "ServiceNotSelected"
	// ReasonPoolInvalid: whom the pool is for cannot be read.
	ReasonPoolInvalid Reason = "PoolInvalid"
	// ReasonNotRequested: the Service asks for another pool.
	ReasonNotRequested Reason = "NotRequested"
)

// Reasons of ConditionMembersReachable on Speaker.
const (
	// ReasonAllMembersReachable: every other speaker that works is heard.
	ReasonAllMembersReachable Reason = "AllMembersReachable"
	// ReasonNoMemberReachable: other speakers work, according to the API server, and none
	// of them is heard.
	ReasonNoMemberReachable Reason = "NoMemberReachable"
	// ReasonSomeMembersUnreachable: other speakers work, according to the API server, and
	// some of them are not heard.
	ReasonSomeMembersUnreachable Reason = "SomeMembersUnreachable"
	// ReasonOtherFamily: other speakers work, and use another IP family than this one; so
	// neither reaches the other.
	ReasonOtherFamily Reason = "OtherFamily"
	// ReasonMemberKeyNotFound: the member Secret has no key that can be used.
	ReasonMemberKeyNotFound Reason = "MemberKeyNotFound"
	// ReasonMemberPortUnavailable: this speaker cannot listen on the member port, for
	// example because another process does.
	ReasonMemberPortUnavailable Reason = "MemberPortUnavailable"
)

// Reasons of a speaker's decision for one address.
const (
	// ReasonOwner: this node answers for the address.
	ReasonOwner Reason = "Owner"
	// ReasonNotOwner: another node answers for the address.
	ReasonNotOwner Reason = "NotOwner"
	// ReasonNoService: no Service that Berth handles has the address.
	ReasonNoService Reason = "NoService"
	// ReasonNoPool: no pool contains the address.
	ReasonNoPool Reason = "NoPool"
	// ReasonAnnounced: this node announces the address by BGP. Of a Service: nodes
	// announce all its addresses that are for BGP.
	ReasonAnnounced Reason = "Announced"
	// ReasonNoAdvertisement: no L2Advertisement, or no BGPAdvertisement, selects
	// the pool and the Service.
	ReasonNoAdvertisement Reason = "NoAdvertisement"
	// ReasonNoEndpoint: no ready endpoint in the cluster.
	ReasonNoEndpoint Reason = "NoEndpoint"
	// ReasonNoCandidate: every node was rejected; the decision lists why.
	ReasonNoCandidate Reason = "NoCandidate"
	// ReasonHandingOver: another node is to answer for the address; this node
	// announces it until that one does.
	ReasonHandingOver Reason = "HandingOver"
	// ReasonLingering: another node owns the address and answers for it; this node, which
	// owned it before, goes on answering those that know it, for lingerPeriod at most.
	ReasonLingering Reason = "Lingering"
	// ReasonStandIn: the owner's speaker restarts or is silent while its node
	// goes on forwarding; this node answers with that node's hardware address.
	ReasonStandIn Reason = "StandIn"
	// ReasonProbing: the speaker probes whether the address is free, before its very first
	// announcement.
	ReasonProbing Reason = "Probing"
	// ReasonConflict: another host has the address, so nobody announces it.
	ReasonConflict Reason = "Conflict"
	// ReasonNodeAnswers: another node of the cluster answers for the address, which nobody
	// claims. Its speaker is not heard and may own it, so this node does not announce it.
	ReasonNodeAnswers Reason = "NodeAnswers"
	// ReasonContested: this node and another both claim the address, again and again. This
	// node leaves it to the other for a while.
	ReasonContested Reason = "Contested"
	// ReasonClaimsUnknown: another node may own the address. Not all of that node's claims
	// are known, because its speaker is not heard and its object does not list them all.
	ReasonClaimsUnknown Reason = "ClaimsUnknown"
	// ReasonIsolated: this speaker hears neither the API server nor another speaker, and
	// another node has taken the address meanwhile.
	ReasonIsolated Reason = "Isolated"
	// ReasonReturning: this node had lost the network of the others, so others may have
	// taken over. It asks the others before it announces again.
	ReasonReturning Reason = "Returning"
)

// Reasons for the presence of a node, and for which it may be no candidate for an address.
// ReasonSpeakerNotAlive is one of them too.
const (
	// ReasonNodePresent: the node's speaker works.
	ReasonNodePresent Reason = "NodePresent"
	// ReasonNodeRenewing: the node's speaker is not heard as a member, but renews its
	// Speaker object; so it works.
	ReasonNodeRenewing Reason = "NodeRenewing"
	// ReasonFormatUnknown: the node's speaker is a member, but publishes in a format that
	// this speaker's version does not read. Its Speaker object counts instead.
	ReasonFormatUnknown Reason = "FormatUnknown"
	// ReasonNodeAssumed: this speaker has no contact with any other and with the
	// API server, so it cannot know whether the node's speaker works. The node's
	// kernel answers as far as it is probed; what was known last counts.
	ReasonNodeAssumed Reason = "NodeAssumed"
	// ReasonNodeHeld: the node's speaker restarts or is silent, and the node may still
	// forward. It keeps what it owns for a while and takes nothing new.
	ReasonNodeHeld Reason = "NodeHeld"
	// ReasonNodeLeaving: the node's speaker hands over what it owns, or has
	// done so.
	ReasonNodeLeaving Reason = "NodeLeaving"
	// ReasonNodeSilent: the node's kernel answers neither ARP nor NDP any
	// more, and its speaker is not heard.
	ReasonNodeSilent Reason = "NodeSilent"
)

// Reasons for which one node is no candidate for an address.
const (
	// ReasonSpeakerNotAlive: no speaker of the node is a live member.
	ReasonSpeakerNotAlive Reason = "SpeakerNotAlive"
	// ReasonNodeFull: the node claims as many addresses as its speaker can publish, so it
	// gets no more.
	ReasonNodeFull Reason = "NodeFull"
	// ReasonNodeExcluded: the node carries LabelExcludeNode.
	ReasonNodeExcluded Reason = "NodeExcluded"
	// ReasonNetworkUnavailable: the node's NetworkUnavailable condition is
	// True.
	ReasonNetworkUnavailable Reason = "NetworkUnavailable"
	// ReasonNodeNotSelected: no advertisement of the address selects the node.
	ReasonNodeNotSelected Reason = "NodeNotSelected"
	// ReasonNoLocalEndpoint: externalTrafficPolicy is Local and the node has
	// no usable endpoint.
	ReasonNoLocalEndpoint Reason = "NoLocalEndpoint"
	// ReasonProxyNotReady: the node's service proxy has not written its rules since it was
	// started; or externalTrafficPolicy is Local, and it has not programmed the endpoint
	// there yet.
	ReasonProxyNotReady Reason = "ProxyNotReady"
	// ReasonNoLinkForAddress: the node has no usable link that may carry the
	// address, or none in its subnet while other nodes have one.
	ReasonNoLinkForAddress Reason = "NoLinkForAddress"
	// ReasonLinkSilent: the node's kernel answers neither ARP nor NDP any more on a
	// link that is to carry the address, while those of other nodes do.
	ReasonLinkSilent Reason = "LinkSilent"
	// ReasonNodeUnknown: the API server has no Node object of the name.
	ReasonNodeUnknown Reason = "NodeUnknown"
	// ReasonNodeCordoned: the node is cordoned, and others are not.
	ReasonNodeCordoned Reason = "NodeCordoned"
)

// Reasons of Events that no condition has.
const (
	// ReasonWithdrawn: a node no longer announces an address of the Service.
	ReasonWithdrawn Reason = "Withdrawn"
	// ReasonSessionUp: a node has a session with the BGPPeer.
	ReasonSessionUp Reason = "SessionUp"
	// ReasonSessionDown: a node has lost its session with the BGPPeer, or has ended it.
	ReasonSessionDown Reason = "SessionDown"
	// ReasonSessionDamped: sessions of a node with the BGPPeer have ended soon after
	// they began, so the node waits before it tries again.
	ReasonSessionDamped Reason = "SessionDamped"
	// ReasonMemberKeyCreated: the controller has filled the empty member Secret.
	ReasonMemberKeyCreated Reason = "MemberKeyCreated"
	// ReasonMemberKeyRestored: the member Secret was emptied, and the controller has put
	// its former keys back.
	ReasonMemberKeyRestored Reason = "MemberKeyRestored"
	// ReasonMemberSecretNotFound: there is no member Secret to be filled.
	ReasonMemberSecretNotFound Reason = "MemberSecretNotFound"
)

// Reason returns the reason of the Event that reports a conflict at a Service.
func (k ConflictKind) Reason() Reason { return Reason("Address" + string(k)) }

// A Cause is one word for why a node takes an address. The same word is used in Events,
// logs and metrics.
type Cause string

// Causes for which a node takes an address.
const (
	// CauseFirst: nobody has announced the address before.
	CauseFirst Cause = "First"
	// CauseReturn: it was announced before, but lately by nobody, for want of
	// a Service, an endpoint or a candidate.
	CauseReturn Cause = "Return"
	// CauseRestart: this node owns the address; its speaker is back.
	CauseRestart Cause = "Restart"
	// CauseNodeGone: the node that owned it is gone.
	CauseNodeGone Cause = "NodeGone"
	// CauseHandOver: the node that owned it is there, and gives it up because it is
	// leaving, cordoned or no longer a candidate.
	CauseHandOver Cause = "HandOver"
	// CauseLinkSilent: the node that owned it lives, and no longer answers on the LAN of
	// the address.
	CauseLinkSilent Cause = "LinkSilent"
	// CausePreferred: preferredNodeSelectors put this node before the one that
	// owned it.
	CausePreferred Cause = "Preferred"
	// CauseFailback: failback is Immediate, and this node is before the one
	// that owned it by rank.
	CauseFailback Cause = "Failback"
	// CausePartitionHealed: speakers see each other again after a partition, and of the
	// several nodes that owned the address this one keeps it.
	CausePartitionHealed Cause = "PartitionHealed"
	// CauseConflictOver: another host had the address, and no longer has it.
	CauseConflictOver Cause = "ConflictOver"
)

// Planned reports whether the node that owned the address before goes on working, and
// gives it up because that is wanted.
func (c Cause) Planned() bool {
	return c == CauseHandOver || c == CausePreferred || c == CauseFailback
}
