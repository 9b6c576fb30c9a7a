package v1beta1

import (
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
// +kubebuilder:printcolumn:name="Owned",type=integer,JSONPath=`.status.layer2.count`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.layer2.announcements[*].address`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
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

// MaxSpeakerAnnouncements is how many announcements, conflicts, links and
// fellows a Speaker object lists at most, of each; the counts beside the lists
// are always complete.
const MaxSpeakerAnnouncements = 256

// SpeakerStatus is what a speaker tells of itself.
type SpeakerStatus struct {
	// IP address and port at which this speaker talks to its fellows. Other
	// speakers find it here.
	// +optional
	MemberAddress string `json:"memberAddress,omitempty"`
	// How many speakers, this one included, it sees alive.
	// +optional
	Members int32 `json:"members"`
	// How fast it watches its fellows: fast, balanced or quiet, as its setting
	// --member-profile says.
	// +optional
	MemberProfile string `json:"memberProfile,omitempty"`
	// How far the speaker is with its work.
	// +optional
	Stage SpeakerStage `json:"stage,omitempty"`
	// When the speaker last wrote this to show that it works. It does so again
	// and again while a fellow writes that it does not hear it.
	// +optional
	RenewTime *metav1.MicroTime `json:"renewTime,omitempty"`
	// What this speaker thinks of those of the other nodes, by name of the
	// node; at most 256 are listed, those that are not present first.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Fellows []SpeakerFellow `json:"fellows,omitempty"`
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

	// Whether the speaker announces what it should: type Ready. Whether nobody
	// else uses what it announces: type AddressesClear.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpeakerStage is how far a speaker is with its work.
//
// +kubebuilder:validation:Enum=Starting;Ready;Restarting;Leaving
type SpeakerStage string

// The stages in the life of a speaker.
const (
	// StageStarting: it reads the cluster and looks for its fellows.
	StageStarting SpeakerStage = "Starting"
	// StageReady: it announces what it owns.
	StageReady SpeakerStage = "Ready"
	// StageRestarting: it ends, and is expected to come back soon.
	StageRestarting SpeakerStage = "Restarting"
	// StageLeaving: it hands over what it owns, and then ends.
	StageLeaving SpeakerStage = "Leaving"
)

// SpeakerFellow is what a speaker thinks of another node and its speaker.
type SpeakerFellow struct {
	// Name of the node.
	// +required
	Name string `json:"name"`
	// What is expected of it.
	// +required
	Presence FellowPresence `json:"presence"`
	// Why, in one word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Since when it is so.
	// +optional
	Since metav1.Time `json:"since,omitzero"`
}

// FellowPresence is what a speaker expects of another node.
//
// +kubebuilder:validation:Enum=Present;Leaving;Held;Gone
type FellowPresence string

// The kinds of presence, from full to none.
const (
	// FellowPresent: its speaker works.
	FellowPresent FellowPresence = "Present"
	// FellowLeaving: its speaker works and wants others to take over.
	FellowLeaving FellowPresence = "Leaving"
	// FellowHeld: its speaker restarts or is silent, and the node goes on
	// forwarding. It keeps what it owns for a while and gets nothing new.
	FellowHeld FellowPresence = "Held"
	// FellowGone: others take over what it owned.
	FellowGone FellowPresence = "Gone"
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
	// Its addresses, each with the length of its prefix, such as 10.77.0.11/24.
	// +optional
	// +listType=atomic
	Prefixes []string `json:"prefixes,omitempty"`
}

// SpeakerLayer2 is what a speaker announces by ARP and NDP.
type SpeakerLayer2 struct {
	// How many addresses this node answers for.
	// +optional
	Count int32 `json:"count"`
	// The addresses this node answers for, sorted; at most 256 are listed.
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	Announcements []Layer2Announcement `json:"announcements,omitempty"`
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
	// What is wrong. Foreign: a stranger has or claims the address. Fellow:
	// another node with Berth answers too. Dead: nobody answers. Twice: the
	// address is answered for by two.
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
// +kubebuilder:validation:Enum=Foreign;Fellow;Dead;Twice
type ConflictKind string

// The kinds of conflicts.
const (
	// ConflictForeign: a host that is no node of Berth's has the address, or
	// claims to.
	ConflictForeign ConflictKind = "Foreign"
	// ConflictFellow: another node answers for the address, beside the owner.
	ConflictFellow ConflictKind = "Fellow"
	// ConflictDead: nobody answers for the address.
	ConflictDead ConflictKind = "Dead"
	// ConflictTwice: a request for the address is answered by two.
	ConflictTwice ConflictKind = "Twice"
)

// SpeakerList is a list of Speaker.
//
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Speaker `json:"items"`
}
