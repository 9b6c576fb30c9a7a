package v1beta1

// Annotations that a user may put on a Service. Each is also honoured in its
// metallb.io spelling; a Service that carries both spellings with different
// values is refused with reason InvalidRequest.
const (
	// AnnotationAddressPool asks for an address of the named IPAddressPool,
	// also of one with autoAssign false.
	AnnotationAddressPool = "berth.io/address-pool"

	// AnnotationLoadBalancerIPs asks for these addresses: one, or one of each
	// family separated by a comma. It may not be combined with
	// spec.loadBalancerIP.
	AnnotationLoadBalancerIPs = "berth.io/loadBalancerIPs"

	// AnnotationAllowSharedIP is a sharing key: Services with the same key may
	// hold the same address while their ports do not collide.
	AnnotationAllowSharedIP = "berth.io/allow-shared-ip"
)

// The spellings of the same annotations that users of MetalLB have in their
// manifests.
const (
	MetalLBAnnotationAddressPool     = "metallb.io/address-pool"
	MetalLBAnnotationLoadBalancerIPs = "metallb.io/loadBalancerIPs"
	MetalLBAnnotationAllowSharedIP   = "metallb.io/allow-shared-ip"
)

// LabelExcludeNode on a Node, with any value, says that the node takes no
// traffic for Services of type LoadBalancer (KEP-1143).
const LabelExcludeNode = "node.kubernetes.io/exclude-from-external-load-balancers"
