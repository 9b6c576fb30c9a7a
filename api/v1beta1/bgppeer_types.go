package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BGPPeer is a router to which nodes announce addresses by BGP. Each node that it
// selects has a session of its own with the router. BGPAdvertisements say what is
// announced.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=berth
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=`.spec.interface`
// +kubebuilder:printcolumn:name="Peer ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="My ASN",type=integer,JSONPath=`.spec.myASN`
// +kubebuilder:printcolumn:name="Sessions",type=integer,JSONPath=`.status.sessions`
// +kubebuilder:printcolumn:name="Established",type=integer,JSONPath=`.status.established`
// +kubebuilder:printcolumn:name="Families",type=string,JSONPath=`.status.families`
// +kubebuilder:printcolumn:name="BFD Profile",type=string,JSONPath=`.spec.bfdProfile`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// How to reach the router, and on what terms.
	// +required
	Spec BGPPeerSpec `json:"spec"`
	// Whether the peer is in force, and how many of its sessions are established.
	// Written by the controller. The sessions themselves are in the Speaker objects.
	// +optional
	// +kubebuilder:default={observedGeneration:-1}
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerSpec says how to reach a router, and on what terms.
//
// +kubebuilder:validation:XValidation:rule="has(self.myASN) || (has(self.perNode) && has(self.perNode.myASN))",message="myASN is missing: give it, or say with perNode.myASN where each node has it"
// +kubebuilder:validation:XValidation:rule="(has(self.peerAddress) || (has(self.perNode) && has(self.perNode.peerAddress))) != has(self.interface)",message="give exactly one of peerAddress (here or in perNode) and interface"
// +kubebuilder:validation:XValidation:rule="(has(self.peerASN) || (has(self.perNode) && has(self.perNode.peerASN))) != has(self.dynamicASN)",message="give exactly one of peerASN (here or in perNode) and dynamicASN"
// +kubebuilder:validation:XValidation:rule="!has(self.password) || !has(self.passwordSecret) || !has(self.passwordSecret.name) || size(self.passwordSecret.name) == 0",message="give password or passwordSecret, not both"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.ttlSecurity)",message="ttlSecurity already says how far away the peer is: leave out ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.interface)",message="ebgpMultiHop needs peerAddress: with interface the peer is on the link"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !(has(self.dynamicASN) ? self.dynamicASN == 'internal' : (has(self.peerASN) && !(has(self.perNode) && (has(self.perNode.myASN) || has(self.perNode.peerASN))) && self.peerASN == (has(self.localASN) ? self.localASN : self.myASN)))",message="ebgpMultiHop is for external peers: an internal one may always be several hops away"
// +kubebuilder:validation:XValidation:rule="!has(self.localASN) || !has(self.dynamicASN) || self.dynamicASN == 'external'",message="localASN is for external peers"
// +kubebuilder:validation:XValidation:rule="!has(self.holdTime) || !has(self.keepaliveTime) || duration(self.keepaliveTime) <= duration(self.holdTime)",message="keepaliveTime must not be longer than holdTime"
// +kubebuilder:validation:XValidation:rule="!has(self.holdTime) || !has(self.keepaliveTime) || duration(self.holdTime) == duration('0s') || duration(self.keepaliveTime) > duration('0s')",message="without keepalives the peer would end the session after holdTime: give both as 0s, or neither"
// +kubebuilder:validation:XValidation:rule="!has(self.longLivedStaleTime) || (has(self.enableGracefulRestart) && self.enableGracefulRestart)",message="longLivedStaleTime needs enableGracefulRestart"
// +kubebuilder:validation:XValidation:rule="!has(self.gracefulRestartTime) || (has(self.enableGracefulRestart) && self.enableGracefulRestart)",message="gracefulRestartTime needs enableGracefulRestart"
// +kubebuilder:validation:XValidation:rule="!has(self.disableMP) || !self.disableMP || !has(self.dualStackAddressFamily) || !self.dualStackAddressFamily",message="disableMP and dualStackAddressFamily contradict each other"
// +kubebuilder:validation:XValidation:rule="!has(self.passive) || !self.passive || !has(self.connectTime)",message="a passive session does not connect: leave out connectTime"
// +kubebuilder:validation:XValidation:rule="!has(self.strictBFD) || !self.strictBFD || has(self.bfdProfile)",message="strictBFD needs bfdProfile"
type BGPPeerSpec struct {
	// AS number of this side, 1 to 4294967295.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MyASN int64 `json:"myASN,omitempty"`

	// AS number that the router must have. Equal to this side's makes the
	// session internal (iBGP).
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN int64 `json:"peerASN,omitempty"`

	// Instead of peerASN: internal accepts only the AS number of this side, external
	// any other.
	// +optional
	DynamicASN DynamicASN `json:"dynamicASN,omitempty"`

	// AS number to use towards this router instead of myASN, which the router never
	// sees.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN int64 `json:"localASN,omitempty"`

	// IP address of the router.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IP address"
	PeerAddress string `json:"peerAddress,omitempty"`

	// Network interface of the node to which the router is connected, instead of
	// peerAddress ("BGP unnumbered"). The router is found by its IPv6 link-local
	// address, and must be the only one there.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^\s/]+$`
	Interface string `json:"interface,omitempty"`

	// Address of the node from which to connect. Default: the node's routing table
	// chooses.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IP address"
	SourceAddress string `json:"sourceAddress,omitempty"`

	// TCP port of the router.
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort int32 `json:"peerPort,omitempty"`

	// Hold time: how long the session stays up without a message from the router. From
	// 3s to 65535s, or 0s to disable it. The lower of both sides' times is used.
	// Default: three times keepaliveTime if that is set, otherwise 90s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('3s') && duration(self) <= duration('65535s'))",message="must be 0s, or from 3s to 65535s"
	// +kubebuilder:validation:XValidation:rule="duration(self).getMilliseconds() % 1000 == 0",message="must be whole seconds"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// Time between two KEEPALIVE messages, 0s to 21845s. Default: a third of holdTime.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('21845s')",message="must be from 0s to 21845s"
	// +kubebuilder:validation:XValidation:rule="duration(self).getMilliseconds() % 1000 == 0",message="must be whole seconds"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// How long to wait after a failed connection attempt, 1s to 65535s. Default: 5s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('65535s')",message="must be from 1s to 65535s"
	// +kubebuilder:validation:XValidation:rule="duration(self).getMilliseconds() % 1000 == 0",message="must be whole seconds"
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// BGP identifier of this side, written as an IPv4 address. Default: the node's
	// first IPv4 address, or, on a node without one, a number derived from its name.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",message="must be written as an IPv4 address, and not 0.0.0.0"
	RouterID string `json:"routerID,omitempty"`

	// Values that differ from node to node, read from labels or annotations of the Node
	// object. They replace the fields of the same name above. On a node without the
	// label or annotation the field above is used; if that is empty too, the node has
	// no session with the router.
	// +optional
	PerNode *PerNodeValues `json:"perNode,omitempty"`

	// Nodes, by label, that have a session with the router. One matching selector is
	// enough. If empty, every node has.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, x == y))",message="the same selector twice"
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Password of the session (TCP MD5, RFC 2385), at most 80 bytes. Everyone who may
	// read this object can read it: prefer passwordSecret.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=80
	Password string `json:"password,omitempty"`

	// Secret with the password, under the key password. It must be of type
	// kubernetes.io/basic-auth and in Berth's own namespace. An empty reference ({})
	// means no password.
	// +optional
	PasswordSecret *SecretReference `json:"passwordSecret,omitempty"`

	// BFDProfile to monitor the path to the router with. Default: BFD is not used.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	BFDProfile string `json:"bfdProfile,omitempty"`

	// The session waits until BFD is up, and ends when BFD goes down. If nothing is
	// heard by BFD at first, the session may be established before, because routers
	// start BFD with dynamic neighbors only once BGP connects; nothing is announced on
	// it until BFD is up. Without strictBFD, the session does not wait for BFD. Needs
	// bfdProfile.
	// +optional
	// +kubebuilder:default=false
	StrictBFD bool `json:"strictBFD,omitempty"`

	// Graceful restart: the router keeps routes while the speaker restarts (RFC 4724,
	// RFC 8538). It also keeps those of a node that has failed, unless BFD detects the
	// failure.
	// +optional
	// +kubebuilder:default=false
	EnableGracefulRestart bool `json:"enableGracefulRestart,omitempty"`

	// How long the router keeps the routes of a restarting speaker, 1s to 4095s.
	// Default: 120s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('4095s')",message="must be from 1s to 4095s"
	// +kubebuilder:validation:XValidation:rule="duration(self).getMilliseconds() % 1000 == 0",message="must be whole seconds"
	GracefulRestartTime *metav1.Duration `json:"gracefulRestartTime,omitempty"`

	// Long-lived graceful restart (RFC 9494): how much longer the router keeps routes
	// as a last resort, 1s to 4660h. Default: off.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('4660h')",message="must be from 1s to 4660h"
	// +kubebuilder:validation:XValidation:rule="duration(self).getMilliseconds() % 1000 == 0",message="must be whole seconds"
	LongLivedStaleTime *metav1.Duration `json:"longLivedStaleTime,omitempty"`

	// Which optional capabilities are offered to the router.
	// +optional
	Capabilities BGPCapabilities `json:"capabilities,omitzero"`

	// How long routes carry the community GRACEFUL_SHUTDOWN (RFC 8326) before they are
	// withdrawn when the node is drained or the peer deleted, so that routers can move
	// traffic away first. 0s to 60s. Default: 0s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('60s')",message="must be from 0s to 60s"
	GracefulShutdownPeriod *metav1.Duration `json:"gracefulShutdownPeriod,omitempty"`

	// Allow the router of an external session to be several hops away. Otherwise
	// packets are sent with a TTL of 1.
	// +optional
	// +kubebuilder:default=false
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// Accept packets only from a router at most this many hops away (GTSM, RFC 5082); 1
	// means directly connected. The router must do the same. Default: off.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	TTLSecurity int32 `json:"ttlSecurity,omitempty"`

	// Wait for the router to connect instead of connecting. The speaker then listens on
	// TCP port 179 of the session's own address.
	// +optional
	// +kubebuilder:default=false
	Passive bool `json:"passive,omitempty"`

	// Linux VRF of the node through which the router is reached.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^\s/]*$`
	VRF string `json:"vrf,omitempty"`

	// Carry IPv4 and IPv6 routes on the session. Otherwise it carries only those of the
	// family of its own addresses, and with interface always both.
	// +optional
	// +kubebuilder:default=false
	DualStackAddressFamily bool `json:"dualStackAddressFamily,omitempty"`

	// The default already, unless dualStackAddressFamily is set. Accepted so that
	// manifests written for MetalLB keep working.
	// +optional
	// +kubebuilder:default=false
	DisableMP bool `json:"disableMP,omitempty"`
}

// BGPCapabilities says which optional capabilities (RFC 5492) are offered to a router.
// Those that follow from other fields, such as graceful restart, are not here.
type BGPCapabilities struct {
	// Extended Message (RFC 8654): messages of up to 65535 octets, if the router offers
	// it too.
	// +optional
	// +kubebuilder:default=true
	ExtendedMessage *bool `json:"extendedMessage,omitempty"`

	// FQDN (draft-walton-bgp-hostname-capability): send the node's host name.
	// +optional
	// +kubebuilder:default=false
	FQDN bool `json:"fqdn,omitempty"`

	// Software Version (draft-abraitis-bgp-version-capability): send Berth's version.
	// +optional
	// +kubebuilder:default=false
	SoftwareVersion bool `json:"softwareVersion,omitempty"`
}

// DynamicASN says which AS numbers are taken from a router.
//
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

// The values of DynamicASN.
const (
	DynamicASNInternal DynamicASN = "internal"
	DynamicASNExternal DynamicASN = "external"
)

// PerNodeValues names the labels or annotations of Nodes that hold values.
type PerNodeValues struct {
	// AS number of this side.
	// +optional
	MyASN *NodeValue `json:"myASN,omitempty"`
	// AS number that the router must have.
	// +optional
	PeerASN *NodeValue `json:"peerASN,omitempty"`
	// IP address of the router. A label cannot hold an IPv6 address.
	// +optional
	PeerAddress *NodeValue `json:"peerAddress,omitempty"`
	// Address from which to connect.
	// +optional
	SourceAddress *NodeValue `json:"sourceAddress,omitempty"`
	// BGP identifier of this side.
	// +optional
	RouterID *NodeValue `json:"routerID,omitempty"`
}

// NodeValue names the label or the annotation of a Node that holds a value.
//
// +kubebuilder:validation:XValidation:rule="has(self.label) != has(self.annotation)",message="give exactly one of label and annotation"
type NodeValue struct {
	// Key of a label of the Node.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	Label string `json:"label,omitempty"`
	// Key of an annotation of the Node.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	Annotation string `json:"annotation,omitempty"`
}

// SecretReference names a Secret, or none.
//
// +kubebuilder:validation:XValidation:rule="(has(self.name) && size(self.name) > 0) || !has(self.__namespace__) || size(self.__namespace__) == 0",message="name the Secret, or leave out its namespace too"
type SecretReference struct {
	// Name of the Secret. Empty: there is none.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
	// Namespace of the Secret. It can only be Berth's own, which is the default;
	// metallb-system means Berth's own too, so that manifests written for MetalLB keep
	// working.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// BGPPeerStatus tells whether the peer is in force, and how many sessions it has.
type BGPPeerStatus struct {
	// Generation of the object that the rest of this status is about; -1 until the
	// controller has read the object.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// How many sessions there should be: one for each selected node with a speaker.
	// +optional
	Sessions int32 `json:"sessions"`
	// How many of them are established.
	// +optional
	Established int32 `json:"established"`
	// The families of routes that established sessions carry, on any node. Routes of
	// the other family are not sent to this peer.
	// +optional
	// +listType=set
	Families []BGPFamily `json:"families,omitempty"`
	// Whether all of the peer is in force, also on the nodes that it selects: type
	// Ready. Whether only an edit of it can help: type Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPPeerList is a list of BGPPeer.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}
