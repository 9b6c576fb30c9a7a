package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// L2Advertisement has the addresses of pools announced on the local network:
// one node answers ARP, or NDP for IPv6, for each address.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=l2adv,categories=berth
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Which addresses are announced, from which nodes, on which links. An
	// empty spec announces every pool from every node.
	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`
	// Whether all of the advertisement is in force. Written by the controller.
	// +optional
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementSpec says which addresses are announced, from which nodes
// and on which links.
type L2AdvertisementSpec struct {
	// Pools, by name, whose addresses are announced, together with those
	// matched by ipAddressPoolSelectors. Both empty means every pool.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// Pools, by label, whose addresses are announced.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// Nodes, by label, that may announce. One matching selector is enough;
	// none at all means every node.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Network interfaces of the node, by name, on which to announce. Empty
	// means those whose subnet holds the address or, where none does, every
	// interface that can carry it and does not belong to a container
	// runtime or network plugin.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:Pattern=`^[^\s/]+$`
	Interfaces []string `json:"interfaces,omitempty"`

	// Services, by label, that are announced. One matching selector is
	// enough; none at all means every Service with an address of the pools.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// Nodes that should announce rather than others. The weights of all
	// matching selectors, over all advertisements of an address, are added
	// up; among the nodes that may announce, the highest sum wins.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`
}

// PreferredNodeSelector adds weight to the nodes it matches.
type PreferredNodeSelector struct {
	// Added to the weight of each matching node.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// Which nodes.
	// +required
	Preference metav1.LabelSelector `json:"preference"`
}

// L2AdvertisementStatus tells whether the advertisement is in force.
type L2AdvertisementStatus struct {
	// Whether all of the advertisement is in force. Type Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// L2AdvertisementList is a list of L2Advertisement.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}
