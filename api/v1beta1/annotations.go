package v1beta1

// Annotations that a user may put on a Service. Each is also read with the other
// prefixes of AnnotationPrefixes in place of its own, and means the same; a Service
// that carries several spellings with different values is refused with reason
// InvalidRequest.
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

// AnnotationPrefixes are the prefixes by which annotations are read: Berth's own,
// and the two that manifests written for MetalLB have, of which the last is the
// older one.
var AnnotationPrefixes = [...]string{"berth.io/", "metallb.io/", LegacyAnnotationPrefix}

// LegacyAnnotationPrefix is the older prefix of MetalLB's annotations.
const LegacyAnnotationPrefix = "metallb.universe.tf/"

// LabelExcludeNode on a Node, with any value, says that the node takes no
// traffic for Services of type LoadBalancer (KEP-1143).
const LabelExcludeNode = "node.kubernetes.io/exclude-from-external-load-balancers"
