package assignment

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
)

// Service is what Decide needs to know of a Service of type LoadBalancer.
type Service struct {
	Holder          allocator.Holder
	Namespace       string
	NamespaceLabels labels.Set
	Labels          labels.Set

	// Families that the Service asks for, in its order: false IPv4, true
	// IPv6. Empty while it has no cluster IP.
	Families []Family
	// Optional is set when every family but the first may be missing
	// (ipFamilyPolicy PreferDualStack).
	Optional bool

	RequestedPool      string       // "" for any
	RequestedAddresses []netip.Addr // nil for any; at most one of a family
	Terms              allocator.Terms

	// Status are the addresses in status.loadBalancer, sorted out of
	// everything that is no address.
	Status []netip.Addr
	// Given is set when Berth has decided about the Service before, so that
	// the addresses in its status are Berth's doing.
	Given bool
	// From names the pool of each address that the Service had when Berth decided
	// about it last, as far as that is known.
	From map[netip.Addr]string
	// Lost is an address that the Service had lost with its pool, and had no
	// other for, when Berth decided about it last; the zero Addr for none.
	Lost netip.Addr
}

// Family is an address family.
type Family string

// The address families, spelled as Kubernetes does.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// FamilyOf is the family of an address.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Is6 tells whether f is IPv6.
func (f Family) Is6() bool { return f == IPv6 }

// Serves tells whether a Service is Berth's to serve: of type LoadBalancer
// and of the given class, where "" means Services without a class
// (KEP-1959).
func Serves(s *corev1.Service, class string) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if s.Spec.LoadBalancerClass == nil {
		return class == ""
	}
	return *s.Spec.LoadBalancerClass == class
}

// ParseService reads a Service. The error says which annotations or fields
// contradict each other or cannot be read; what is returned beside it still
// tells which addresses the Service has and on which terms.
func ParseService(s *corev1.Service, nsLabels labels.Set) (Service, error) {
	out := Service{
		Holder:          HolderOf(s),
		Namespace:       s.Namespace,
		NamespaceLabels: nsLabels,
		Labels:          s.Labels,
		Families:        families(s),
		Optional:        s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack,
		Status:          StatusAddresses(s),
		Given:           given(s),
		From:            from(s),
		Lost:            lost(s),
	}
	out.Terms = allocator.Terms{Backends: backends(s), Group: s.Namespace}
	for _, p := range s.Spec.Ports {
		out.Terms.Ports = append(out.Terms.Ports, allocator.Port{Protocol: string(p.Protocol), Number: uint16(p.Port)})
	}
	var err error
	if out.Terms.SharingKey, err = annotation(s, v1beta1.AnnotationAllowSharedIP, v1beta1.MetalLBAnnotationAllowSharedIP); err != nil {
		return out, err
	}
	if out.RequestedPool, err = annotation(s, v1beta1.AnnotationAddressPool, v1beta1.MetalLBAnnotationAddressPool); err != nil {
		return out, err
	}
	out.RequestedAddresses, err = requestedAddresses(s, out.Families)
	return out, err
}

// HolderOf names a Service as a holder of addresses: namespace/name.
func HolderOf(s *corev1.Service) allocator.Holder {
	return allocator.Holder(s.Namespace + "/" + s.Name)
}

// StatusAddresses are the addresses in a Service's status, in their order.
func StatusAddresses(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// given reads from Berth's condition whether Berth has given the Service its
// addresses.
func given(s *corev1.Service) bool {
	c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	return c != nil && c.Reason != string(v1beta1.ReasonForeignAddress)
}

// from reads from Berth's condition which pools a Service has its addresses of.
// It stands at the beginning of the message, where nothing is quoted that a user
// wrote, and nothing is cut off.
func from(s *corev1.Service) map[netip.Addr]string {
	c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if c == nil || c.Reason == string(v1beta1.ReasonForeignAddress) {
		return nil
	}
	out := map[netip.Addr]string{}
	rest := strings.TrimPrefix(c.Message, keptBegins)
	for more := true; more; {
		m := described.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		addr, err := netip.ParseAddr(m[1])
		if err == nil && m[2] != "" {
			out[addr] = m[2]
		}
		rest, more = rest[len(m[0]):], m[3] == ", "
	}
	return out
}

// described is what describe says of one address.
var described = regexp.MustCompile(`^(\S+) (?:` + fromPool + `(\S+?)(?: ` + regexp.QuoteMeta(away) + `)?|` + ofNoPool + `)(, |\. |\.$)`)

// lost reads from Berth's condition which address the Service lost with its
// pool.
func lost(s *corev1.Service) netip.Addr {
	c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if c == nil {
		return netip.Addr{}
	}
	_, text, _ := strings.Cut(c.Message, lostBegins)
	text, _, _ = strings.Cut(text, lostEnds)
	addr, _ := netip.ParseAddr(text) // the zero Addr where it says nothing
	return addr
}

// families are those of the Service's cluster IPs. A headless Service or one
// whose cluster IP is yet to come has none.
func families(s *corev1.Service) []Family {
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 && s.Spec.ClusterIP != "" {
		ips = []string{s.Spec.ClusterIP}
	}
	var out []Family
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip); err == nil {
			out = append(out, FamilyOf(addr))
		}
	}
	return out
}

// backends tells apart Services whose traffic must reach different nodes:
// with externalTrafficPolicy Local a node serves only the pods it has.
func backends(s *corev1.Service) string {
	if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return ""
	}
	return s.Namespace + "/" + labels.SelectorFromSet(s.Spec.Selector).String()
}

// annotation reads a value that may be spelled in two ways.
func annotation(s *corev1.Service, ours, metallb string) (string, error) {
	a, hasA := s.Annotations[ours]
	b, hasB := s.Annotations[metallb]
	a, b = strings.TrimSpace(a), strings.TrimSpace(b)
	if hasA && hasB && a != b {
		return "", fmt.Errorf("the annotations %s %q and %s %q contradict each other: remove one", ours, a, metallb, b)
	}
	if hasA {
		return a, nil
	}
	return b, nil
}

func requestedAddresses(s *corev1.Service, families []Family) ([]netip.Addr, error) {
	text, err := annotation(s, v1beta1.AnnotationLoadBalancerIPs, v1beta1.MetalLBAnnotationLoadBalancerIPs)
	if err != nil {
		return nil, err
	}
	where := "annotation " + v1beta1.AnnotationLoadBalancerIPs
	if field := s.Spec.LoadBalancerIP; field != "" {
		if text != "" && text != field {
			return nil, fmt.Errorf("%s %q and spec.loadBalancerIP %q contradict each other: remove one", where, text, field)
		}
		text, where = field, "spec.loadBalancerIP"
	}
	if text == "" {
		return nil, nil
	}
	var out []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("%s: %q is no address: write one, or one IPv4 and one IPv6 separated by a comma", where, strings.TrimSpace(part))
		}
		addr = addr.Unmap()
		family := FamilyOf(addr)
		if slices.ContainsFunc(out, func(o netip.Addr) bool { return FamilyOf(o) == family }) {
			return nil, fmt.Errorf("%s asks for two %s addresses: a Service has at most one of each family", where, family)
		}
		if len(families) > 0 && !slices.Contains(families, family) {
			return nil, fmt.Errorf("%s asks for %s, but the Service has no %s cluster IP: see spec.ipFamilies", where, addr, family)
		}
		out = append(out, addr)
	}
	return out, nil
}
