package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IPAddressPool is a set of addresses that the controller assigns to Services of
// type LoadBalancer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ipp,categories=berth
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Assigned",type=integer,JSONPath=`.status.assigned`
// +kubebuilder:printcolumn:name="Available IPv4",type=integer,JSONPath=`.status.availableIPv4`
// +kubebuilder:printcolumn:name="Available IPv6",type=integer,JSONPath=`.status.availableIPv6`
// +kubebuilder:printcolumn:name="Out Of Range",type=integer,JSONPath=`.status.outOfRangeCount`
// +kubebuilder:printcolumn:name="Drain",type=boolean,JSONPath=`.spec.drain`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The addresses of the pool, and the rules by which they are assigned.
	// +required
	Spec IPAddressPoolSpec `json:"spec"`
	// How much of the pool is in use, and whether all of it is in force. Written by
	// the controller.
	// +optional
	// +kubebuilder:default={observedGeneration:-1}
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec has the addresses of a pool, and the rules by which they are
// assigned.
type IPAddressPoolSpec struct {
	// The addresses of the pool: CIDRs such as 192.0.2.0/24, or inclusive ranges such
	// as 192.0.2.10-192.0.2.20, IPv4 or IPv6. A single address is a CIDR of full
	// length, 192.0.2.1/32. Where entries overlap, each address counts once. For more
	// than 50 entries, create several pools.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	Addresses []AddressRange `json:"addresses"`

	// Whether the pool serves Services that request neither the pool by name nor one
	// of its addresses.
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// Do not choose IPv4 addresses that end in .0 or .255, which some old equipment
	// treats as broadcast addresses. A Service that requests one gets it. IPv6 is not
	// affected.
	// +optional
	// +kubebuilder:default=false
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// Addresses of the pool that are never assigned: single addresses, CIDRs or
	// inclusive ranges. The addresses of nodes need not be listed, they are not
	// assigned either; see allowNodeAddresses.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=50
	Exclude []ExcludedRange `json:"exclude,omitempty"`

	// How long a released address stays out of use before another Service gets it,
	// such as 30m; at most 8760h, a year. The Service that had it gets it back at
	// once, and so does one that requests it by address. Default: no delay.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('8760h')",message="must be from 0s to 8760h (a year)"
	ReuseDelay *metav1.Duration `json:"reuseDelay,omitempty"`

	// How many addresses of this pool the Services of one namespace may hold
	// together. An address that several of them share counts once. It does not cap
	// the namespace: a Service beyond the quota gets an address of another pool that
	// serves it, and waits only if there is none. Default: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	QuotaPerNamespace int32 `json:"quotaPerNamespace,omitempty"`

	// Assign addresses of the pool that are a node's own. Such an address is not
	// announced: its traffic goes to its node, whose service proxy serves it. Meant
	// for clusters of one node, whose only address is the node's. With several nodes,
	// only the one that has the address takes its traffic, and no other takes over
	// when it fails.
	// +optional
	// +kubebuilder:default=false
	AllowNodeAddresses bool `json:"allowNodeAddresses,omitempty"`

	// Which Services with the same sharing key (annotation berth.io/allow-shared-ip)
	// may share an address of the pool. Cluster: those of any namespace. Namespace:
	// those of one namespace only. Services that share an address already keep it.
	// +optional
	// +kubebuilder:default=Cluster
	Sharing Sharing `json:"sharing,omitempty"`

	// Assign nothing new from the pool. Services keep the addresses they have.
	// +optional
	// +kubebuilder:default=false
	Drain bool `json:"drain,omitempty"`

	// What happens to addresses that Services hold when an edit of addresses or
	// exclude takes them out of the pool. Keep: the Services keep them, and they are
	// announced as before. Move: the Services get other addresses.
	// +optional
	// +kubebuilder:default=Keep
	OnShrink OnShrink `json:"onShrink,omitempty"`

	// Which Services the pool serves. Default: all. With it, the pool serves only the
	// Services that are selected, and is tried for them before pools without
	// serviceAllocation. They are not confined to it: if it is full or its quota is
	// reached, they get an address of another pool that serves them.
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// AddressRange is a CIDR or an inclusive range of addresses of one family.
//
// CEL cannot tell which of two addresses is greater. The last rule looks for
// the first bit in which they differ: the pair of prefix lengths of which the
// shorter still makes a prefix of the first address that contains the last
// one, and the longer does not. The range is in order when that bit of the
// first address is 0, so that masking it away changes nothing. The pairs are
// spelled out because Kubernetes could not bound the cost of computing them.
//
// +kubebuilder:validation:MinLength=3
// +kubebuilder:validation:MaxLength=83
// +kubebuilder:validation:XValidation:rule="self.contains('-') || isCIDR(self.trim())",message="must be a CIDR such as 192.0.2.0/24 or 2001:db8::/120 (192.0.2.1/32 for a single address), or a range such as 192.0.2.10-192.0.2.20"
// +kubebuilder:validation:XValidation:rule="self.contains('-') || !isCIDR(self.trim()) || cidr(self.trim()) == cidr(self.trim()).masked()",message="the CIDR has bits set behind its prefix length, so it is not clear which addresses are meant: write the network address before the slash, or a range FROM-TO"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || (self.split('-').size() == 2 && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim()))",message="a range must be two addresses joined by a dash, such as 192.0.2.10-192.0.2.20"
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim())) || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()",message="a range must not mix IPv4 and IPv6: write one range for each family"
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim())) || !(ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()) || ip(self.split('-')[0].trim()) == ip(self.split('-')[1].trim()) || (ip(self.split('-')[0].trim()).family() == 4 ? ['/0 /1', '/1 /2', '/2 /3', '/3 /4', '/4 /5', '/5 /6', '/6 /7', '/7 /8', '/8 /9', '/9 /10', '/10 /11', '/11 /12', '/12 /13', '/13 /14', '/14 /15', '/15 /16', '/16 /17', '/17 /18', '/18 /19', '/19 /20', '/20 /21', '/21 /22', '/22 /23', '/23 /24', '/24 /25', '/25 /26', '/26 /27', '/27 /28', '/28 /29', '/29 /30', '/30 /31', '/31 /32'] : ['/0 /1', '/1 /2', '/2 /3', '/3 /4', '/4 /5', '/5 /6', '/6 /7', '/7 /8', '/8 /9', '/9 /10', '/10 /11', '/11 /12', '/12 /13', '/13 /14', '/14 /15', '/15 /16', '/16 /17', '/17 /18', '/18 /19', '/19 /20', '/20 /21', '/21 /22', '/22 /23', '/23 /24', '/24 /25', '/25 /26', '/26 /27', '/27 /28', '/28 /29', '/29 /30', '/30 /31', '/31 /32', '/32 /33', '/33 /34', '/34 /35', '/35 /36', '/36 /37', '/37 /38', '/38 /39', '/39 /40', '/40 /41', '/41 /42', '/42 /43', '/43 /44', '/44 /45', '/45 /46', '/46 /47', '/47 /48', '/48 /49', '/49 /50', '/50 /51', '/51 /52', '/52 /53', '/53 /54', '/54 /55', '/55 /56', '/56 /57', '/57 /58', '/58 /59', '/59 /60', '/60 /61', '/61 /62', '/62 /63', '/63 /64', '/64 /65', '/65 /66', '/66 /67', '/67 /68', '/68 /69', '/69 /70', '/70 /71', '/71 /72', '/72 /73', '/73 /74', '/74 /75', '/75 /76', '/76 /77', '/77 /78', '/78 /79', '/79 /80', '/80 /81', '/81 /82', '/82 /83', '/83 /84', '/84 /85', '/85 /86', '/86 /87', '/87 /88', '/88 /89', '/89 /90', '/90 /91', '/91 /92', '/92 /93', '/93 /94', '/94 /95', '/95 /96', '/96 /97', '/97 /98', '/98 /99', '/99 /100', '/100 /101', '/101 /102', '/102 /103', '/103 /104', '/104 /105', '/105 /106', '/106 /107', '/107 /108', '/108 /109', '/109 /110', '/110 /111', '/111 /112', '/112 /113', '/113 /114', '/114 /115', '/115 /116', '/116 /117', '/117 /118', '/118 /119', '/119 /120', '/120 /121', '/121 /122', '/122 /123', '/123 /124', '/124 /125', '/125 /126', '/126 /127', '/127 /128']).exists(p, cidr(self.split('-')[0].trim() + p.split(' ')[0]).containsIP(self.split('-')[1].trim()) && !cidr(self.split('-')[0].trim() + p.split(' ')[1]).containsIP(self.split('-')[1].trim()) && cidr(self.split('-')[0].trim() + p.split(' ')[0]).masked().ip() == cidr(self.split('-')[0].trim() + p.split(' ')[1]).masked().ip())",message="the range is inverted: its first address must not be greater than its last"
type AddressRange string

// ExcludedRange is an address, a CIDR, or an inclusive range of addresses of
// one family.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=83
// +kubebuilder:validation:XValidation:rule="self.contains('-') || isIP(self.trim()) || isCIDR(self.trim())",message="must be an address such as 192.0.2.1, a CIDR such as 192.0.2.0/28, or a range such as 192.0.2.10-192.0.2.20"
// +kubebuilder:validation:XValidation:rule="self.contains('-') || !isCIDR(self.trim()) || cidr(self.trim()) == cidr(self.trim()).masked()",message="the CIDR has bits set behind its prefix length, so it is not clear which addresses are meant: write the network address before the slash, or a range FROM-TO"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || (self.split('-').size() == 2 && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim()))",message="a range must be two addresses joined by a dash, such as 192.0.2.10-192.0.2.20"
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim())) || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()",message="a range must not mix IPv4 and IPv6: write one range for each family"
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim())) || !(ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()) || ip(self.split('-')[0].trim()) == ip(self.split('-')[1].trim()) || (ip(self.split('-')[0].trim()).family() == 4 ? ['/0 /1', '/1 /2', '/2 /3', '/3 /4', '/4 /5', '/5 /6', '/6 /7', '/7 /8', '/8 /9', '/9 /10', '/10 /11', '/11 /12', '/12 /13', '/13 /14', '/14 /15', '/15 /16', '/16 /17', '/17 /18', '/18 /19', '/19 /20', '/20 /21', '/21 /22', '/22 /23', '/23 /24', '/24 /25', '/25 /26', '/26 /27', '/27 /28', '/28 /29', '/29 /30', '/30 /31', '/31 /32'] : ['/0 /1', '/1 /2', '/2 /3', '/3 /4', '/4 /5', '/5 /6', '/6 /7', '/7 /8', '/8 /9', '/9 /10', '/10 /11', '/11 /12', '/12 /13', '/13 /14', '/14 /15', '/15 /16', '/16 /17', '/17 /18', '/18 /19', '/19 /20', '/20 /21', '/21 /22', '/22 /23', '/23 /24', '/24 /25', '/25 /26', '/26 /27', '/27 /28', '/28 /29', '/29 /30', '/30 /31', '/31 /32', '/32 /33', '/33 /34', '/34 /35', '/35 /36', '/36 /37', '/37 /38', '/38 /39', '/39 /40', '/40 /41', '/41 /42', '/42 /43', '/43 /44', '/44 /45', '/45 /46', '/46 /47', '/47 /48', '/48 /49', '/49 /50', '/50 /51', '/51 /52', '/52 /53', '/53 /54', '/54 /55', '/55 /56', '/56 /57', '/57 /58', '/58 /59', '/59 /60', '/60 /61', '/61 /62', '/62 /63', '/63 /64', '/64 /65', '/65 /66', '/66 /67', '/67 /68', '/68 /69', '/69 /70', '/70 /71', '/71 /72', '/72 /73', '/73 /74', '/74 /75', '/75 /76', '/76 /77', '/77 /78', '/78 /79', '/79 /80', '/80 /81', '/81 /82', '/82 /83', '/83 /84', '/84 /85', '/85 /86', '/86 /87', '/87 /88', '/88 /89', '/89 /90', '/90 /91', '/91 /92', '/92 /93', '/93 /94', '/94 /95', '/95 /96', '/96 /97', '/97 /98', '/98 /99', '/99 /100', '/100 /101', '/101 /102', '/102 /103', '/103 /104', '/104 /105', '/105 /106', '/106 /107', '/107 /108', '/108 /109', '/109 /110', '/110 /111', '/111 /112', '/112 /113', '/113 /114', '/114 /115', '/115 /116', '/116 /117', '/117 /118', '/118 /119', '/119 /120', '/120 /121', '/121 /122', '/122 /123', '/123 /124', '/124 /125', '/125 /126', '/126 /127', '/127 /128']).exists(p, cidr(self.split('-')[0].trim() + p.split(' ')[0]).containsIP(self.split('-')[1].trim()) && !cidr(self.split('-')[0].trim() + p.split(' ')[1]).containsIP(self.split('-')[1].trim()) && cidr(self.split('-')[0].trim() + p.split(' ')[0]).masked().ip() == cidr(self.split('-')[0].trim() + p.split(' ')[1]).masked().ip())",message="the range is inverted: its first address must not be greater than its last"
type ExcludedRange string

// OnShrink says what becomes of held addresses that their pool no longer
// contains.
//
// +kubebuilder:validation:Enum=Keep;Move
type OnShrink string

// The values of OnShrink.
const (
	OnShrinkKeep OnShrink = "Keep"
	OnShrinkMove OnShrink = "Move"
)

// Sharing says which Services with the same sharing key may share an address.
//
// +kubebuilder:validation:Enum=Cluster;Namespace
type Sharing string

// The values of Sharing.
const (
	SharingCluster   Sharing = "Cluster"
	SharingNamespace Sharing = "Namespace"
)

// ServiceAllocation selects the Services that a pool serves, and says how early the
// pool is tried. An empty one selects every Service.
type ServiceAllocation struct {
	// Pools are tried in ascending priority; 0, the default, is tried last. Ties are
	// broken by name.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:default=0
	Priority int32 `json:"priority,omitempty"`

	// Namespaces, by name, whose Services are served. A namespace is selected if it is
	// named here or matches one of namespaceSelectors. If both are empty, every
	// namespace is.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespaces []string `json:"namespaces,omitempty"`

	// Namespaces, by label, whose Services are served. One matching selector is enough.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// Services, by label, that are served. One matching selector is enough. If empty,
	// every Service of the selected namespaces is.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// MaxOutOfRange is how many entries status.outOfRange of a pool has at most. What
// they cost is read by every speaker at each change of a pool's counts.
const MaxOutOfRange = 1024

// IPAddressPoolStatus counts the addresses of a pool. Counts are capped at
// 9223372036854775807. Each address of spec.addresses that does not belong to an older
// pool is either assigned, available, resting or excluded.
type IPAddressPoolStatus struct {
	// Generation of the object that the rest of this status is about; -1 until the
	// controller has read the object.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Addresses that Services hold, of both families, not counting outOfRange.
	// +optional
	Assigned int64 `json:"assigned"`
	// IPv4 addresses that Services hold.
	// +optional
	AssignedIPv4 int64 `json:"assignedIPv4"`
	// IPv6 addresses that Services hold.
	// +optional
	AssignedIPv6 int64 `json:"assignedIPv6"`
	// IPv4 addresses that could be assigned now.
	// +optional
	AvailableIPv4 int64 `json:"availableIPv4"`
	// IPv6 addresses that could be assigned now.
	// +optional
	AvailableIPv6 int64 `json:"availableIPv6"`
	// Released IPv4 addresses whose reuseDelay has not passed yet.
	// +optional
	RestingIPv4 int64 `json:"restingIPv4"`
	// Released IPv6 addresses whose reuseDelay has not passed yet.
	// +optional
	RestingIPv6 int64 `json:"restingIPv6"`
	// IPv4 addresses of spec.addresses that are not assigned: listed in exclude, a
	// node's own, named in spec.externalIPs of a Service, or left out by avoidBuggyIPs.
	// +optional
	ExcludedIPv4 int64 `json:"excludedIPv4"`
	// IPv6 addresses of spec.addresses that are not assigned; see excludedIPv4.
	// +optional
	ExcludedIPv6 int64 `json:"excludedIPv6"`
	// How many addresses Services hold that the pool no longer contains, of both
	// families; see outOfRange.
	// +optional
	OutOfRangeCount int64 `json:"outOfRangeCount"`
	// Addresses that Services hold and that the pool no longer contains, sorted; see
	// spec.onShrink. They are announced as before. Each entry is an address, a CIDR or
	// an inclusive range. If more than 1024 entries were needed, neighbouring ones are
	// joined, and may then contain addresses that no Service holds or that belong to
	// another pool.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	OutOfRange []string `json:"outOfRange,omitempty"`

	// Whether all of the pool is in force: type Ready. Whether only an edit of it can
	// help: type Stalled. Whether Services hold addresses that it no longer contains:
	// type OutOfRange. Whether nodes have addresses of it: type NodeAddresses.
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
