package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Speaker tells what the speaker of one node is doing. It has the name of the
// Node, is owned by it, and is written by that node's speaker alone; there is
// nothing in it for a user to set.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=spk,categories=berth
// +kubebuilder:printcolumn:name="Owned",type=integer,JSONPath=`.status.layer2.count`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.layer2.announcements[*].address`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
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

// MaxSpeakerAnnouncements is how many announcements and links a Speaker
// object lists at most; the counts beside the lists are always complete.
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

	// Whether the speaker announces what it should. Type Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

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
	// The subnets it has addresses in.
	// +optional
	// +listType=atomic
	Subnets []string `json:"subnets,omitempty"`
}

// SpeakerLayer2 is what a speaker announces by ARP and NDP.
type SpeakerLayer2 struct {
	// How many addresses this node owns.
	// +optional
	Count int32 `json:"count"`
	// The addresses this node owns, sorted; at most 256 are listed.
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	Announcements []Layer2Announcement `json:"announcements,omitempty"`
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
	Since metav1.Time `json:"since,omitempty"`
}

// SpeakerList is a list of Speaker.
//
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Speaker `json:"items"`
}
