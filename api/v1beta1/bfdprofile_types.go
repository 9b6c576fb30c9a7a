package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// BFDProfile says how fast BFD (RFC 5880) detects that a router has failed. BGPPeers
// refer to it by name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=berth
// +kubebuilder:printcolumn:name="Transmit",type=string,JSONPath=`.spec.transmitInterval`
// +kubebuilder:printcolumn:name="Receive",type=string,JSONPath=`.spec.receiveInterval`
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BFDProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The timers. With the defaults, a failure is detected after 900ms.
	// +optional
	// +kubebuilder:default={}
	Spec BFDProfileSpec `json:"spec,omitempty"`
	// Whether the profile is in force. Written by the controller.
	// +optional
	// +kubebuilder:default={observedGeneration:-1}
	Status BFDProfileStatus `json:"status,omitempty"`
}

// BFDProfileSpec has the timers of BFD sessions. An interval is written with
// its unit (300ms) or as a number of milliseconds (300).
type BFDProfileSpec struct {
	// Required minimum receive interval: the shortest time between two packets of the
	// router that this side accepts, 10ms to 60s.
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? (self >= 10 && self <= 60000) : (duration(self) >= duration('10ms') && duration(self) <= duration('60s'))",message="must be from 10ms to 60s"
	ReceiveInterval *intstr.IntOrString `json:"receiveInterval,omitempty"`

	// Desired minimum transmit interval: the shortest time between two packets that
	// this side sends, 10ms to 60s. They are fewer if the router requires it.
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? (self >= 10 && self <= 60000) : (duration(self) >= duration('10ms') && duration(self) <= duration('60s'))",message="must be from 10ms to 60s"
	TransmitInterval *intstr.IntOrString `json:"transmitInterval,omitempty"`

	// Detection time multiplier: after how many missing packets the router considers
	// the session down.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier *int32 `json:"detectMultiplier,omitempty"`

	// Time between two echo packets, 10ms to 60s. Only echoMode sends any.
	// +optional
	// +kubebuilder:default="50ms"
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? (self >= 10 && self <= 60000) : (duration(self) >= duration('10ms') && duration(self) <= duration('60s'))",message="must be from 10ms to 60s"
	EchoInterval *intstr.IntOrString `json:"echoInterval,omitempty"`

	// Echo mode: test the path in both directions with packets that the router sends
	// back. Not for peers that are several hops away.
	// +optional
	// +kubebuilder:default=false
	EchoMode bool `json:"echoMode,omitempty"`

	// Passive role: send nothing before the router has sent a packet.
	// +optional
	// +kubebuilder:default=false
	PassiveMode bool `json:"passiveMode,omitempty"`

	// For a router several hops away: the lowest TTL with which its packets are
	// accepted.
	// +optional
	// +kubebuilder:default=254
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	MinimumTTL *int32 `json:"minimumTtl,omitempty"`
}

// BFDProfileStatus tells whether the profile is in force.
type BFDProfileStatus struct {
	// Generation of the object that the rest of this status is about; -1 until the
	// controller has read the object.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Whether all of the profile is in force: type Ready. Whether only an edit of it
	// can help: type Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BFDProfileList is a list of BFDProfile.
//
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BFDProfile `json:"items"`
}
