package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BGPAdvertisement announces the addresses of pools to BGP peers, from every node that
// can take their traffic.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=bgpadv,categories=berth
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.status.summary.pools`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.status.summary.peers`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.summary.nodes`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Which addresses are announced, from which nodes, to which peers, and
	// how. An empty spec announces every address from every node to every
	// peer.
	// +optional
	// +kubebuilder:default={}
	Spec BGPAdvertisementSpec `json:"spec,omitempty"`
	// Whether all of the advertisement is in force. Written by the controller.
	// +optional
	// +kubebuilder:default={observedGeneration:-1}
	Status BGPAdvertisementStatus `json:"status,omitempty"`
}

// BGPAdvertisementSpec says which addresses are announced, from which nodes,
// to which peers, and how.
//
// Where several advertisements bring the same prefix to the same peer, its
// route has the communities of all of them, and a weight when one of them asks
// for weights. Of localPref, med and asPathPrepend each, the oldest
// advertisement that sets it decides.
//
// +kubebuilder:validation:XValidation:rule="!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || ((!has(self.aggregationLength) || self.aggregationLength == 32) && (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",message="serviceSelectors cannot be combined with aggregation: an aggregate also brings traffic for the Services that are not selected"
type BGPAdvertisementSpec struct {
	// Length of the IPv4 prefixes that are announced: with 24, 192.0.2.0/24 is
	// announced for 192.0.2.7. Each entry of a pool must be at least as wide.
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// Length of the IPv6 prefixes that are announced.
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// LOCAL_PREF of the routes; higher is preferred. Sent to internal peers (iBGP)
	// only. 0, the default, means 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref int64 `json:"localPref,omitempty"`

	// MULTI_EXIT_DISC of the routes: of several paths into this AS, a neighboring AS
	// prefers the lowest. Default: none is sent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`

	// How many times the AS number of this side is prepended to the AS path, which
	// makes routes less preferred. Sent to external peers only.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`

	// Add a link bandwidth community in proportion to the usable endpoints on the node,
	// so that routers that support it send each node its share of the traffic. Meant
	// for Services with externalTrafficPolicy Local.
	// +optional
	// +kubebuilder:default=false
	WeightByEndpoints bool `json:"weightByEndpoints,omitempty"`

	// Communities of the routes. Each is standard (65000:100), large
	// (large:65000:1:2), a route target or origin (rt:65000:100, soo:65000:100),
	// well-known (no-export, no-advertise, no-export-subconfed, no-peer,
	// blackhole), or an alias that a Community object gives.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=63
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Communities []string `json:"communities,omitempty"`

	// Pools, by name, whose addresses are announced, in addition to those that match
	// ipAddressPoolSelectors. If both are empty, every pool is announced.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// Pools, by label, whose addresses are announced. One matching selector is enough.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// Nodes, by label, that announce. One matching selector is enough. If empty, every
	// node does.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Services, by label, that are announced. One matching selector is enough. If
	// empty, every Service with an address of the pools is. Cannot be combined with
	// aggregation.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// BGPPeers, by name, to which the addresses are announced. If empty, to every peer.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`
}

// BGPAdvertisementStatus tells whether the advertisement is in force.
type BGPAdvertisementStatus struct {
	// Generation of the object that the rest of this status is about; -1 until the
	// controller has read the object.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// What the advertisement selects, for tables.
	// +optional
	Summary BGPAdvertisementSummary `json:"summary,omitzero"`
	// Whether all of the advertisement is in force: type Ready. Whether only an edit
	// of it can help: type Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPAdvertisementSummary is what an advertisement selects, each in one line.
type BGPAdvertisementSummary struct {
	// Pools by name, and in parentheses by label; * for every pool.
	// +optional
	Pools string `json:"pools,omitempty"`
	// Nodes, by label; * for every node.
	// +optional
	Nodes string `json:"nodes,omitempty"`
	// BGPPeers, by name; * for every peer.
	// +optional
	Peers string `json:"peers,omitempty"`
}

// BGPAdvertisementList is a list of BGPAdvertisement.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPAdvertisement `json:"items"`
}
