package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IPAddressPool is a set of addresses that the controller may give to
// Services of type LoadBalancer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ipp,categories=berth
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Assigned",type=integer,JSONPath=`.status.assigned`
// +kubebuilder:printcolumn:name="Available",type=integer,JSONPath=`.status.available`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the pool holds and who may use it.
	// +required
	Spec IPAddressPoolSpec `json:"spec"`
	// How much of the pool is in use, and whether all of it is in force.
	// Written by the controller.
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec says which addresses the pool holds and who may use them.
type IPAddressPoolSpec struct {
	// The addresses of the pool. Each entry is a CIDR such as 192.0.2.0/24
	// or an inclusive range such as 192.0.2.10-192.0.2.20, IPv4 or IPv6.
	// Entries that overlap each other count once.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Addresses []AddressRange `json:"addresses"`

	// Whether addresses of this pool are given to Services that do not ask
	// for the pool by name or for one of its addresses.
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// Never give out IPv4 addresses that end in .0 or .255, which some old
	// client equipment takes for broadcast addresses. IPv6 is not affected.
	// +optional
	// +kubebuilder:default=false
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// Which Services the pool prefers. A pool without it serves every
	// Service; a pool with it serves only those it selects, before the others.
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// AddressRange is a CIDR or an inclusive range of addresses of one family.
//
// +kubebuilder:validation:MinLength=3
// +kubebuilder:validation:MaxLength=95
// +kubebuilder:validation:XValidation:rule="self.contains('-') || isCIDR(self.trim())",message="must be a CIDR such as 192.0.2.0/24 or 2001:db8::/120, or a range such as 192.0.2.10-192.0.2.20"
// +kubebuilder:validation:XValidation:rule="self.contains('-') || !isCIDR(self.trim()) || cidr(self.trim()) == cidr(self.trim()).masked()",message="the CIDR has bits set behind its prefix length, so it is not clear which addresses are meant: write the network address before the slash, or a range FROM-TO"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || (self.split('-').size() == 2 && self.split('-').all(a, isIP(a.trim())))",message="a range must be two addresses joined by a dash, such as 192.0.2.10-192.0.2.20"
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && self.split('-').all(a, isIP(a.trim()))) || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()",message="a range must not mix IPv4 and IPv6: write one range for each family"
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && self.split('-').all(a, isIP(a.trim()) && ip(a.trim()).family() == 4)) || self.split('-').map(a, a.trim().split('.').map(o, ('00' + o).substring(o.size() - 1)).join('.')).isSorted()",message="the range is inverted: its first address must not be greater than its last"
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && self.split('-').all(a, isIP(a.trim()) && ip(a.trim()).family() == 6)) || self.split('-').map(a, string(ip(a.trim()))).map(a, a.contains('::') ? (a.startsWith('::') ? ” : a.split('::')[0] + ':') + '0:0:0:0:0:0:0:0:'.substring(0, 2 * (8 - a.split(':').filter(g, g != ”).size())) + (a.endsWith('::') ? ” : a.split('::')[1] + ':') : a + ':').map(a, a.split(':').filter(g, g != ”).map(g, ('000' + g).substring(g.size() - 1)).join(':')).isSorted()",message="the range is inverted: its first address must not be greater than its last"
type AddressRange string

// ServiceAllocation says which Services a pool serves and how early it is
// tried. An empty ServiceAllocation selects every Service.
type ServiceAllocation struct {
	// Pools with a lower number are tried first; 0, the default, comes last.
	// Equal numbers are tried by name.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:default=0
	Priority int32 `json:"priority,omitempty"`

	// Namespaces, by name, whose Services may use the pool. A namespace is
	// selected when it is named here or matched by namespaceSelectors; both
	// empty means every namespace.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespaces []string `json:"namespaces,omitempty"`

	// Namespaces, by label, whose Services may use the pool. One matching
	// selector is enough.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// Services, by label, that may use the pool. One matching selector is
	// enough; none at all means every Service of the selected namespaces.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// IPAddressPoolStatus counts the addresses of a pool. Counts that do not fit
// are capped at 9223372036854775807.
type IPAddressPoolStatus struct {
	// Addresses that Services hold, of both families.
	// +optional
	Assigned int64 `json:"assigned"`
	// Addresses that could be given out now, of both families.
	// +optional
	Available int64 `json:"available"`
	// IPv4 addresses that Services hold.
	// +optional
	AssignedIPv4 int64 `json:"assignedIPv4"`
	// IPv6 addresses that Services hold.
	// +optional
	AssignedIPv6 int64 `json:"assignedIPv6"`
	// IPv4 addresses that could be given out now.
	// +optional
	AvailableIPv4 int64 `json:"availableIPv4"`
	// IPv6 addresses that could be given out now.
	// +optional
	AvailableIPv6 int64 `json:"availableIPv6"`

	// Whether all of the pool is in force. Type Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPAddressPoolList is a list of IPAddressPool.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}
