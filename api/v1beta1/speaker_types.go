package v1beta1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Speaker tells what the speaker of one node is doing. It has the name of the
// Node, is owned by it, and is written by that node's speaker; only when the
// node is not ready, the controller says in it once that this may no longer
// hold. There is nothing in it for a user to set.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=spk,categories=berth
// +kubebuilder:printcolumn:name="Owned",type=integer,JSONPath=`.status.layer2.owned`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.layer2.addresses`
// +kubebuilder:printcolumn:name="BGP Sessions",type=integer,JSONPath=`.status.bgp.count`
// +kubebuilder:printcolumn:name="Established",type=integer,JSONPath=`.status.bgp.established`
// +kubebuilder:printcolumn:name="Absent",type=integer,JSONPath=`.status.absentCount`
// +kubebuilder:printcolumn:name="Conflicts",type=integer,JSONPath=`.status.layer2.conflictCount`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Stage",type=string,JSONPath=`.status.stage`,priority=1
// +kubebuilder:printcolumn:name="Member Address",type=string,JSONPath=`.status.memberAddress`,priority=1
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Speaker struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the speaker is doing.
	// +optional
	Status SpeakerStatus `json:"status,omitempty"`
}

// MaxSpeakerAnnouncements is how many announcements, conflicts, BGP sessions, ranges
// of addresses, links and members a Speaker object lists at most, of each; the counts beside
// the lists are always complete.
const MaxSpeakerAnnouncements = 256

// MaxLinkPrefixes is how many prefixes of one link a Speaker object lists at most.
const MaxLinkPrefixes = 256

// SpeakerStatus is what a speaker tells of itself.
type SpeakerStatus struct {
	// IP address and port at which this speaker talks to the others. Other
	// speakers find it here.
	// +optional
	MemberAddress string `json:"memberAddress,omitempty"`
	// How fast it watches the others: fast, balanced or quiet, as its setting
	// --member-profile says.
	// +optional
	MemberProfile string `json:"memberProfile,omitempty"`
	// How far the speaker is with its work.
	// +optional
	Stage SpeakerStage `json:"stage,omitempty"`
	// When the speaker last wrote this to show that it works. It does so again
	// and again while another speaker writes that it does not hear it.
	// +optional
	RenewTime *metav1.MicroTime `json:"renewTime,omitempty"`
	// Set once a speaker of this node has been ready; it stays as long as the Node
	// exists. The label node.kubernetes.io/exclude-from-external-load-balancers keeps
	// nodes from announcing where this is set on a node without the label.
	// +optional
	HasWorked bool `json:"hasWorked,omitempty"`
	// What the label node.kubernetes.io/exclude-from-external-load-balancers on this
	// node means to its speaker: Ignored with the setting --ignore-exclude-label.
	// +optional
	ExcludeLabel NodeMark `json:"excludeLabel,omitempty"`
	// What a cordon of this node means to its speaker: Ignored with the setting
	// --ignore-cordon.
	// +optional
	Cordon NodeMark `json:"cordon,omitempty"`
	// The protocols by which this speaker announces: all but those that its settings
	// --layer2=false and --bgp=false turn off. An empty list stands for all.
	// +optional
	// +listType=set
	Protocols []Protocol `json:"protocols,omitempty"`
	// How many other nodes' speakers are not present, or not heard, as far as this one
	// reports them.
	// +optional
	AbsentCount int32 `json:"absentCount"`
	// These speakers, by name of the node; at most 256 are listed. Each is listed by the
	// two speakers that watch its node, and by those that cannot read what it publishes.
	// A speaker that is present and heard is in no list.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	AbsentMembers []AbsentMember `json:"absentMembers,omitempty"`
	// Version of the speaker's program.
	// +optional
	Version string `json:"version,omitempty"`
	// The node's links that may carry announcements, by name.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Links []SpeakerLink `json:"links,omitempty"`
	// What this speaker announces by ARP and NDP.
	// +optional
	Layer2 SpeakerLayer2 `json:"layer2"`
	// This node's sessions with BGP peers.
	// +optional
	BGP SpeakerBGP `json:"bgp,omitzero"`
	// Which ways to routers it watches by BFD.
	// +optional
	BFD SpeakerBFD `json:"bfd,omitempty"`

	// Whether the speaker announces what it should: type Ready. Whether nobody
	// else uses what it announces: type AddressesClear. Whether it hears the other
	// speakers: type MembersReachable.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Worked reports whether a speaker of the node has been ready. One of an earlier
// version tells it by its stage only.
func (s SpeakerStatus) Worked() bool {
	return s.HasWorked || s.Stage == StageReady || s.Stage == StageRestarting || s.Stage == StageLeaving
}

// Announces reports whether the speaker announces by a protocol. One of an earlier version
// lists none, and announces by all.
func (s SpeakerStatus) Announces(by Protocol) bool {
	return len(s.Protocols) == 0 || slices.Contains(s.Protocols, by)
}

// Protocol is a way to announce addresses.
//
// +kubebuilder:validation:Enum=Layer2;BGP
type Protocol string

// The protocols.
const (
	// ProtocolLayer2: ARP and NDP, from the node that owns an address.
	ProtocolLayer2 Protocol = "Layer2"
	// ProtocolBGP: routes to BGP peers, from every node that can take the traffic.
	ProtocolBGP Protocol = "BGP"
)

// NodeMark is whether what keeps addresses away from a node counts for its speaker.
//
// +kubebuilder:validation:Enum=Heeded;Ignored
type NodeMark string

// What a mark of a node means to its speaker.
const (
	// MarkHeeded: it counts.
	MarkHeeded NodeMark = "Heeded"
	// MarkIgnored: a setting of the speaker leaves it out.
	MarkIgnored NodeMark = "Ignored"
)

// SpeakerStage is how far a speaker is with its work.
//
// +kubebuilder:validation:Enum=Starting;Ready;Restarting;Leaving
type SpeakerStage string

// The stages in the life of a speaker.
const (
	// StageStarting: it reads the cluster and looks for the other speakers.
	StageStarting SpeakerStage = "Starting"
	// StageReady: it announces what it owns.
	StageReady SpeakerStage = "Ready"
	// StageRestarting: it ends, and is expected to come back soon.
	StageRestarting SpeakerStage = "Restarting"
	// StageLeaving: it hands over what it owns, and then ends.
	StageLeaving SpeakerStage = "Leaving"
)

// AbsentMember is another node whose speaker is not present, or not heard.
type AbsentMember struct {
	// Name of the node.
	// +required
	Name string `json:"name"`
	// What is expected of it.
	// +required
	Presence MemberPresence `json:"presence"`
	// Why, in one word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Since when it is so.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
}

// MemberPresence is what a speaker expects of another node.
//
// +kubebuilder:validation:Enum=Present;Leaving;Held;Gone
type MemberPresence string

// The kinds of presence, from full to none.
const (
	// MemberPresent: its speaker works.
	MemberPresent MemberPresence = "Present"
	// MemberLeaving: its speaker works and wants others to take over.
	MemberLeaving MemberPresence = "Leaving"
	// MemberHeld: its speaker restarts or is silent, and the node goes on
	// forwarding. It keeps what it owns for a while and gets nothing new.
	MemberHeld MemberPresence = "Held"
	// MemberGone: others take over what it owned.
	MemberGone MemberPresence = "Gone"
)

// SpeakerLink is a network interface of the node.
type SpeakerLink struct {
	// Name of the interface.
	// +required
	Name string `json:"name"`
	// Its link-layer address.
	// +optional
	MACAddress string `json:"macAddress,omitempty"`
	// Whether it is up and has a carrier.
	// +optional
	Up bool `json:"up"`
	// One of its addresses in each subnet that it is in, with the length of the
	// prefix, such as 10.77.0.11/24.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
	// Addresses are announced on it only where an L2Advertisement names it.
	// +optional
	OnlyNamed bool `json:"onlyNamed,omitempty"`
	// The subnets of it that another link of the node is in too, and to which the
	// node's route leads out of that one. It does not carry addresses beside it.
	// +optional
	// +listType=atomic
	Shadowed []string `json:"shadowed,omitempty"`
	// It is a bond that answers ARP with the addresses of its ports (balance-alb).
	// +optional
	Balances bool `json:"balances,omitempty"`
	// What about it keeps addresses from being announced on it as they should be,
	// and what to do; empty for nothing.
	// +optional
	Problem string `json:"problem,omitempty"`
}

// SpeakerLayer2 is what a speaker announces by ARP and NDP.
type SpeakerLayer2 struct {
	// How many addresses this node answers for, those included for which it stands
	// in.
	// +optional
	Count int32 `json:"count"`
	// How many of them it owns: those for which it stands in are not counted.
	// +optional
	Owned int32 `json:"owned"`
	// The first of these addresses, and how many more there are, in one line
	// for tables.
	// +optional
	Addresses string `json:"addresses,omitempty"`
	// The addresses this node answers for, sorted; at most 256 are listed.
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	Announcements []Layer2Announcement `json:"announcements,omitempty"`
	// The addresses that this node keeps although its speaker does not work,
	// because that is started anew or the node is not ready; at most 256 are
	// listed. Those that no other node has taken meanwhile are its own again
	// when the speaker works.
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	Retained []Layer2Claim `json:"retained,omitempty"`
	// How many conflicts there are.
	// +optional
	ConflictCount int32 `json:"conflictCount"`
	// Addresses for which another than the owner answers, or nobody, as far as
	// this node sees; sorted by address, at most 256 are listed.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Conflicts []Layer2Conflict `json:"conflicts,omitempty"`
}

// Layer2Announcement is one address that a node answers for.
type Layer2Announcement struct {
	// The address.
	// +required
	Address string `json:"address"`
	// The Services that have it, as namespace/name, sorted.
	// +optional
	// +listType=atomic
	Services []string `json:"services,omitempty"`
	// The links it is announced on, sorted.
	// +optional
	// +listType=atomic
	Links []string `json:"links,omitempty"`
	// Since when this node owns it.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
	// How many owners the address has had, this one included. Of two nodes that
	// claim it, the higher one is right.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Generation int64 `json:"generation,omitempty"`
	// The node that owns the address and whose hardware address the answers
	// name, while its speaker restarts; empty when this node owns it itself.
	// +optional
	StandInFor string `json:"standInFor,omitempty"`
	// The node that owns the address, while this one, which owned it before, goes on
	// answering those that know it; empty when it does not.
	// +optional
	LingersFor string `json:"lingersFor,omitempty"`
	// The node that owned the address before and goes on answering those that know it,
	// while this one, the owner, announces nothing; empty when there is none.
	// +optional
	Former string `json:"former,omitempty"`
	// Until when the former owner lingers at the latest.
	// +optional
	Until metav1.Time `json:"until,omitzero"`
}

// Layer2Claim is an address that a node owns.
type Layer2Claim struct {
	// The address.
	// +required
	Address string `json:"address"`
	// How many owners the address has had, this one included.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Generation int64 `json:"generation,omitempty"`
}

// Claims is what the node owns: what it announces for itself, and what it keeps.
// An address is in it once.
func (l SpeakerLayer2) Claims() []Layer2Claim {
	var out []Layer2Claim
	for _, a := range l.Announcements {
		if a.StandInFor == "" && a.LingersFor == "" {
			out = append(out, Layer2Claim{Address: a.Address, Generation: a.Generation})
		}
	}
	for _, c := range l.Retained {
		if !slices.ContainsFunc(out, func(o Layer2Claim) bool { return o.Address == c.Address }) {
			out = append(out, c)
		}
	}
	return out
}

// Layer2Conflict is an address for which, on one link, not just its owner
// answers.
type Layer2Conflict struct {
	// The address.
	// +required
	Address string `json:"address"`
	// The link of this node on which it was seen.
	// +optional
	Link string `json:"link,omitempty"`
	// Link-layer address of who else answers; empty where nobody does.
	// +optional
	MACAddress string `json:"macAddress,omitempty"`
	// What is wrong. ForeignHost: a host that is no node of Berth has or claims the address.
	// OtherNode: another node answers too. Unanswered: nobody answers. Duplicate: two
	// answer for the address. Contested: this node and another both claim it.
	// +required
	Kind ConflictKind `json:"kind"`
	// The node that should answer.
	// +optional
	Owner string `json:"owner,omitempty"`
	// Since when it is seen.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
	// What is wrong and what to do, for a person.
	// +optional
	Message string `json:"message,omitempty"`
}

// ConflictKind says what is wrong with an address on a link.
//
// +kubebuilder:validation:Enum=ForeignHost;OtherNode;Unanswered;Duplicate;Contested
type ConflictKind string

// The kinds of conflicts.
const (
	// ConflictForeignHost: a host that is no node of Berth's has the address, or
	// claims to.
	ConflictForeignHost ConflictKind = "ForeignHost"
	// ConflictOtherNode: another node answers for the address, beside the owner.
	ConflictOtherNode ConflictKind = "OtherNode"
	// ConflictUnanswered: nobody answers for the address.
	ConflictUnanswered ConflictKind = "Unanswered"
	// ConflictDuplicate: a request for the address is answered by two.
	ConflictDuplicate ConflictKind = "Duplicate"
	// ConflictContested: two nodes with Berth take the address for theirs, again
	// and again, and one leaves it to the other for a while.
	ConflictContested ConflictKind = "Contested"
)

// SpeakerBGP is what a speaker does by BGP.
type SpeakerBGP struct {
	// How many sessions this node should have: one for each BGPPeer that selects
	// it.
	// +optional
	Count int32 `json:"count"`
	// How many of them are established.
	// +optional
	Established int32 `json:"established"`
	// The sessions, by name of the peer; at most 256 are listed, those that are
	// not established first.
	// +optional
	// +listType=map
	// +listMapKey=peer
	// +kubebuilder:validation:MaxItems=256
	Sessions []BGPSession `json:"sessions,omitempty"`
	// How many addresses this node announces by BGP, to those of its sessions
	// that BGPAdvertisements reach and that carry the address's family.
	// +optional
	AddressCount *int32 `json:"addressCount,omitempty"`
	// These addresses, sorted, each an address, a CIDR or FROM-TO; at most 256 such
	// ranges are listed.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Addresses []string `json:"addresses,omitempty"`
	// The boot of the node (its kernel's boot_id) in which this speaker had
	// sessions that it has not ended for good. A speaker that starts in the same
	// boot asks its peers to go on with the routes of before.
	// +optional
	BootID string `json:"bootID,omitempty"`
}

// BGPSession is one session of a node with a BGP peer.
type BGPSession struct {
	// Name of the BGPPeer.
	// +required
	Peer string `json:"peer"`
	// What the session is doing.
	// +required
	State BGPSessionState `json:"state"`
	// Since when.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
	// Why not all of the BGPPeer is in force on this node, in one word; empty
	// when all of it is.
	// +optional
	Reason string `json:"reason,omitempty"`
	// The same in sentences, with what to do about it.
	// +optional
	Problem string `json:"problem,omitempty"`
	// Why the session ended, or the last attempt failed; empty when nothing has
	// gone wrong yet, and while the session is established.
	// +optional
	LastError string `json:"lastError,omitempty"`
	// When that was first so. Attempts that fail alike do not change it.
	// +optional
	LastErrorTime metav1.Time `json:"lastErrorTime,omitzero"`
	// Why the last session that was established has ended; empty when none has.
	// What attempts fail with afterwards is in lastError only.
	// +optional
	LastEnd string `json:"lastEnd,omitempty"`
	// When that was.
	// +optional
	LastEndTime metav1.Time `json:"lastEndTime,omitzero"`
	// What the router has said last, in a NOTIFICATION, when it ended a session or
	// refused one, such as the text of an administrative shutdown. Attempts that
	// fail in other ways afterwards do not change it.
	// +optional
	LastNotification string `json:"lastNotification,omitempty"`
	// When it said so first since it had a session.
	// +optional
	LastNotificationTime metav1.Time `json:"lastNotificationTime,omitzero"`
	// How many sessions in a row have ended within a minute of their start, while
	// the next attempt waits for that reason (state Damped).
	// +optional
	Flaps int32 `json:"flaps,omitempty"`
	// Address of this side, while the session is established, as all that
	// follows.
	// +optional
	LocalAddress string `json:"localAddress,omitempty"`
	// Address of the router.
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`
	// AS number of this side.
	// +optional
	LocalASN int64 `json:"localASN,omitempty"`
	// AS number of the router.
	// +optional
	PeerASN int64 `json:"peerASN,omitempty"`
	// The families of routes that both sides carry.
	// +optional
	// +listType=atomic
	Families []BGPFamily `json:"families,omitempty"`
	// After how long without a word the session ends, as agreed. None: never.
	// +optional
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`
	// How often this side speaks.
	// +optional
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`
	// Which capabilities this side leaves out because the router has refused them.
	// +optional
	// +listType=atomic
	OmittedCapabilities []string `json:"omittedCapabilities,omitempty"`
	// How many IPv4 prefixes are sent. What the router does with them is not known
	// here.
	// +optional
	AdvertisedIPv4 int32 `json:"advertisedIPv4,omitempty"`
	// How many IPv6 prefixes are sent.
	// +optional
	AdvertisedIPv6 int32 `json:"advertisedIPv6,omitempty"`
	// Which routes the session does not carry: for want of a next hop; because it is
	// not for their family, and no other of the node's is; or because the router does
	// not take the family.
	// +optional
	Withheld string `json:"withheld,omitempty"`
	// The connection is authenticated (TCP MD5).
	// +optional
	MD5 bool `json:"md5,omitempty"`
	// The router keeps routes while this speaker restarts.
	// +optional
	GracefulRestart bool `json:"gracefulRestart,omitempty"`
	// How much longer it keeps them as a last resort.
	// +optional
	LongLivedStaleTime *metav1.Duration `json:"longLivedStaleTime,omitempty"`
}

// BGPSessionState is what a session is doing.
//
// +kubebuilder:validation:Enum=NotConfigured;Held;AwaitingBFD;Connecting;Damped;Listening;Established;Leaving
type BGPSessionState string

// The states of sessions.
const (
	// BGPNotConfigured: the BGPPeer asks for what this node does not have, the
	// password is missing, or an older BGPPeer has the session. Nothing is tried;
	// problem says why.
	BGPNotConfigured BGPSessionState = "NotConfigured"
	// BGPHeld: the session waits until all routes are known.
	BGPHeld BGPSessionState = "Held"
	// BGPAwaitingBFD: a strict session waits until BFD is up.
	BGPAwaitingBFD BGPSessionState = "AwaitingBFD"
	// BGPConnecting: there is no session yet; lastError says why the last
	// attempt failed.
	BGPConnecting BGPSessionState = "Connecting"
	// BGPDamped: sessions have ended again and again soon after they began, so
	// the next attempt waits, up to a minute.
	BGPDamped BGPSessionState = "Damped"
	// BGPListening: a passive session waits for the router.
	BGPListening BGPSessionState = "Listening"
	// BGPEstablished: routes are announced.
	BGPEstablished BGPSessionState = "Established"
	// BGPLeaving: the session ends in order.
	BGPLeaving BGPSessionState = "Leaving"
)

// SpeakerBFD is what a speaker watches by BFD.
type SpeakerBFD struct {
	// How many sessions there are to be.
	// +optional
	Count int32 `json:"count"`
	// How many of them are up.
	// +optional
	Up int32 `json:"up"`
	// The sessions, one for each BGPPeer that names a BFDProfile, by name of the
	// peer; at most 256 are listed, those that are not up first.
	// +optional
	// +listType=map
	// +listMapKey=peer
	// +kubebuilder:validation:MaxItems=256
	Sessions []BFDSession `json:"sessions,omitempty"`
}

// BFDSession is how BFD watches the way to one router.
type BFDSession struct {
	// Name of the BGPPeer.
	// +required
	Peer string `json:"peer"`
	// What the session is doing.
	// +required
	State BFDState `json:"state"`
	// Since when.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
	// Why there can be no session; empty when there can.
	// +optional
	Problem string `json:"problem,omitempty"`
	// Address of the router; empty while it is not known.
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`
	// The router may be several hops away (RFC 5883).
	// +optional
	MultiHop bool `json:"multiHop,omitempty"`
	// Times the session came up.
	// +optional
	Ups int64 `json:"ups"`
	// How often it went down.
	// +optional
	Downs int64 `json:"downs"`
	// When it last went down.
	// +optional
	LastDownTime metav1.Time `json:"lastDownTime,omitzero"`
	// Why it last went down.
	// +optional
	LastDownCause string `json:"lastDownCause,omitempty"`
	// The diagnostic that this side sends, as RFC 5880 4.1 names it; empty for "No
	// Diagnostic".
	// +optional
	LocalDiagnostic string `json:"localDiagnostic,omitempty"`
	// The diagnostic that the router sends.
	// +optional
	RemoteDiagnostic string `json:"remoteDiagnostic,omitempty"`
	// The time between two packets of this side, while the session is up.
	// +optional
	TransmitInterval *metav1.Duration `json:"transmitInterval,omitempty"`
	// How long the router may be silent before the session goes down, while it is up.
	// +optional
	DetectionTime *metav1.Duration `json:"detectionTime,omitempty"`
	// How long this side may be silent, while the session is up.
	// +optional
	RemoteDetectionTime *metav1.Duration `json:"remoteDetectionTime,omitempty"`
}

// BFDState is the state of a BFD session (RFC 5880, 4.1).
//
// +kubebuilder:validation:Enum=AdminDown;Down;Init;Up
type BFDState string

// The states of BFD sessions.
const (
	// BFDAdminDown: the session ends in order.
	BFDAdminDown BFDState = "AdminDown"
	// BFDDown: nothing is heard, or the router says that it hears nothing.
	BFDDown BFDState = "Down"
	// BFDInit: the router is heard, and does not hear this side yet.
	BFDInit BFDState = "Init"
	// BFDUp: packets get through in both directions.
	BFDUp BFDState = "Up"
)

// BGPFamily is a family of routes.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type BGPFamily string

// The families.
const (
	BGPFamilyIPv4 BGPFamily = "IPv4"
	BGPFamilyIPv6 BGPFamily = "IPv6"
)

// SpeakerList is a list of Speaker.
//
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Speaker `json:"items"`
}
