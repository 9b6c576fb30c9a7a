package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Community defines names (aliases) for BGP communities, for use in BGPAdvertisements.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=berth
// +kubebuilder:printcolumn:name="Aliases",type=string,JSONPath=`.status.summary.aliases`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The aliases.
	// +optional
	Spec CommunitySpec `json:"spec,omitempty"`
	// Whether all of the names are in force. Written by the controller.
	// +optional
	// +kubebuilder:default={observedGeneration:-1}
	Status CommunityStatus `json:"status,omitempty"`
}

// CommunitySpec has the aliases.
type CommunitySpec struct {
	// The aliases. If several Community objects define one, the oldest object counts.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Communities []CommunityAlias `json:"communities,omitempty"`
}

// CommunityAlias is a name for a BGP community.
type CommunityAlias struct {
	// The name. It has no colon, so that it cannot be taken for a community.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[^:\s]+$`
	Name string `json:"name"`
	// The community: standard (65000:100), large (large:65000:1:2), or a
	// route target or origin (rt:65000:100, soo:65000:100).
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}:[0-9]{1,5}|large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}|(rt|soo):[0-9.]{1,15}:[0-9]{1,10})$`
	Value string `json:"value"`
}

// CommunityStatus tells whether the names are in force.
type CommunityStatus struct {
	// Generation of the object that the rest of this status is about; -1 until the
	// controller has read the object.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// What the object gives, for tables.
	// +optional
	Summary CommunitySummary `json:"summary,omitzero"`
	// Whether all of the names are in force: type Ready. Whether only an edit of the
	// object can help: type Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CommunitySummary is what a Community gives, in one line.
type CommunitySummary struct {
	// The names.
	// +optional
	Aliases string `json:"aliases,omitempty"`
}

// CommunityList is a list of Community.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Community `json:"items"`
}
