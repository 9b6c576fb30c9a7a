package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// L2Advertisement announces the addresses of pools on the local network: for each
// address, one node answers ARP, or NDP for IPv6.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=l2adv,categories=berth
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.status.summary.pools`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.summary.nodes`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.status.summary.interfaces`
// +kubebuilder:printcolumn:name="Failback",type=string,JSONPath=`.spec.failback`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Which addresses are announced, from which nodes, on which network interfaces. An
	// empty spec announces every pool from every node.
	// +optional
	// +kubebuilder:default={}
	Spec L2AdvertisementSpec `json:"spec,omitempty"`
	// Whether all of the advertisement is in force. Written by the controller.
	// +optional
	// +kubebuilder:default={observedGeneration:-1}
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementSpec says which addresses are announced, from which nodes and on which
// network interfaces.
type L2AdvertisementSpec struct {
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

	// Nodes, by label, that may announce. One matching selector is enough. If empty,
	// every node may.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Network interfaces of the node, by name, on which to announce, in addition to
	// those that match interfacePatterns. If both are empty, those whose subnet
	// contains the address are used; if there is none, every interface that can carry
	// the address and does not belong to a container runtime or network plugin.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:Pattern=`^[^\s/]+$`
	Interfaces []string `json:"interfaces,omitempty"`

	// Network interfaces of the node on which to announce, by regular expressions (RE2
	// syntax). An expression must match the whole name: eth[0-9]+ matches eth0 and
	// eth12, but neither veth0 nor eth0.100.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	InterfacePatterns []string `json:"interfacePatterns,omitempty"`

	// Services, by label, that are announced. One matching selector is enough. If
	// empty, every Service with an address of the pools is.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// Nodes that are preferred. For each node, the weights of all matching selectors of
	// all advertisements of an address are added up; of the nodes that may announce,
	// the one with the highest sum does.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// Whether a node that returns takes back its addresses. Never: the node that
	// announces an address keeps it until it fails or leaves. Immediate: the node that
	// ranks first takes it as soon as it is available. With either, a node that
	// preferredNodeSelectors prefer to the present one takes the address. If an address
	// has several advertisements, one with Immediate is enough.
	// +optional
	// +kubebuilder:default=Never
	Failback Failback `json:"failback,omitempty"`

	// How often gratuitous ARP or unsolicited neighbor advertisements are sent. Change
	// it only if switches or hosts miss those that the defaults send.
	// +optional
	Announcement *AnnouncementPolicy `json:"announcement,omitempty"`

	// How an address moves that is taken from a node which goes on working: one that is
	// cordoned, excluded or no longer preferred. By default the new node announces the
	// address at once, and connections that are open are reset.
	// +optional
	HandOver *HandOverPolicy `json:"handOver,omitempty"`

	// Put the interfaces on which the addresses are announced into promiscuous mode.
	// Needed if a network adapter or hypervisor does not deliver the requests of
	// hosts, as some Wi-Fi adapters and virtual switches do. It costs the node the
	// time to drop frames that are not for it. If an address has several
	// advertisements, one with true is enough.
	// +optional
	// +kubebuilder:default=false
	Promiscuous bool `json:"promiscuous,omitempty"`
}

// Failback says whether a node that returns takes back addresses from the
// node that announces them now.
//
// +kubebuilder:validation:Enum=Never;Immediate
type Failback string

// The values of Failback.
const (
	// FailbackNever: the present owner stays until it goes.
	FailbackNever Failback = "Never"
	// FailbackImmediate: the first by rank takes over when it is there.
	FailbackImmediate Failback = "Immediate"
)

// AnnouncementPolicy says how often gratuitous ARP, or unsolicited neighbor
// advertisements for IPv6, are sent for an address.
type AnnouncementPolicy struct {
	// How many are sent when a node begins to announce an address on an interface.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Count int32 `json:"count,omitempty"`

	// The time between two of these, from 10ms to 1m.
	// +optional
	// +kubebuilder:default="500ms"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1m')",message="must be from 10ms to 1m"
	Interval *metav1.Duration `json:"interval,omitempty"`

	// How often, afterwards, one more is sent, for hosts and switches that missed the
	// others: from 10s to 24h, or 0s for never.
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="must be from 10s to 24h, or 0s for never"
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`
}

// HandOverPolicy says how an address moves from a node that goes on working.
type HandOverPolicy struct {
	// How long the former node goes on answering hosts that know it, from 0s (not at all)
	// to 1h. For so long their connections stay open, new ones too, and the new node
	// serves all other hosts and announces nothing. Only for addresses whose Services all
	// have externalTrafficPolicy Cluster. If an address has several advertisements, the
	// shortest period counts. It ends early if the former node or its speaker no longer
	// works.
	// +optional
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1h')",message="must be from 0s to 1h"
	LingerPeriod *metav1.Duration `json:"lingerPeriod,omitempty"`
}

// PreferredNodeSelector adds weight to the nodes it matches.
type PreferredNodeSelector struct {
	// What is added to the weight of each matching node.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// The nodes, by label.
	// +required
	Preference metav1.LabelSelector `json:"preference"`
}

// L2AdvertisementStatus tells whether the advertisement is in force.
type L2AdvertisementStatus struct {
	// Generation of the object that the rest of this status is about; -1 until the
	// controller has read the object.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// What the advertisement selects, for tables.
	// +optional
	Summary L2AdvertisementSummary `json:"summary,omitzero"`
	// Whether all of the advertisement is in force: type Ready. Whether only an edit
	// of it can help: type Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// L2AdvertisementSummary is what an advertisement selects, each in one line.
type L2AdvertisementSummary struct {
	// Pools by name, and in parentheses by label; * for every pool.
	// +optional
	Pools string `json:"pools,omitempty"`
	// Nodes, by label; * for every node.
	// +optional
	Nodes string `json:"nodes,omitempty"`
	// Interfaces by name, and between slashes by regular expression; "by subnet" where
	// none is named.
	// +optional
	Interfaces string `json:"interfaces,omitempty"`
}

// L2AdvertisementList is a list of L2Advertisement.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}
