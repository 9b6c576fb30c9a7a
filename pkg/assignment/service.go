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

	// Status are the addresses in status.loadBalancer, Hostnames the host names
	// of entries there that have no address. Berth writes no host names.
	Status    []netip.Addr
	Hostnames []string
	// Given is set when Berth gave the Service addresses when it decided about it
	// last, so that those in its status are Berth's doing.
	Given bool
	// Wrote are the addresses that the Service had when Berth decided about it
	// last; From names the pool of each, as far as that is known.
	Wrote []netip.Addr
	From  map[netip.Addr]string
	// Lost is an address that the Service had lost with its pool, and had no
	// other for, when Berth decided about it last; the zero Addr for none.
	Lost netip.Addr
	// Remark is what there is to say of the Service's annotations whatever is
	// decided: a sentence for the end of the message, or "".
	Remark string
}

// Family is an address family.
type Family string

// The address families, spelled as Kubernetes does.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// FamilyOf returns the family of an address.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Is6 reports whether f is IPv6.
func (f Family) Is6() bool { return f == IPv6 }

// Serves reports whether a Service is Berth's to serve: of type LoadBalancer
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
// says which addresses the Service has and on which terms.
func ParseService(s *corev1.Service, nsLabels labels.Set) (Service, error) {
	out := Service{
		Holder:          HolderOf(s),
		Namespace:       s.Namespace,
		NamespaceLabels: nsLabels,
		Labels:          s.Labels,
		Families:        families(s),
		Optional: s.Spec.IPFamilyPolicy != nil &&
			*s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack,
		Status:    StatusAddresses(s),
		Hostnames: hostnames(s),
		Given:     given(s),
		Lost:      lost(s),
	}
	out.Wrote, out.From = Wrote(s)
	out.Terms = allocator.Terms{Backends: backends(s), Group: s.Namespace}
	for _, p := range s.Spec.Ports {
		port := allocator.Port{Protocol: string(p.Protocol), Number: uint16(p.Port)}
		out.Terms.Ports = append(out.Terms.Ports, port)
	}
	out.Remark = remark(s)
	key, err := annotation(s, v1beta1.AnnotationAllowSharedIP)
	out.Terms.SharingKey = key.value
	if err != nil {
		return out, err
	}
	pool, err := annotation(s, v1beta1.AnnotationAddressPool)
	if err != nil {
		return out, err
	}
	if !unfollowed(s, pool) {
		out.RequestedPool = pool.value
	}
	out.RequestedAddresses, err = requestedAddresses(s, out.Families)
	return out, err
}

// HolderOf names a Service as a holder of addresses: namespace/name.
func HolderOf(s *corev1.Service) allocator.Holder {
	return allocator.Holder(s.Namespace + "/" + s.Name)
}

// StatusAddresses returns the addresses in a Service's status, in their order.
func StatusAddresses(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// hostnames returns the host names in a Service's status that stand there instead of an
// address, in their order.
func hostnames(s *corev1.Service) []string {
	var out []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if ingress.IP == "" && ingress.Hostname != "" {
			out = append(out, ingress.Hostname)
		}
	}
	return out
}

// given reads from Berth's condition whether Berth has given the Service its
// addresses.
func given(s *corev1.Service) bool {
	c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	wrote, _ := Wrote(s)
	return len(wrote) > 0 || c != nil && c.Reason == string(v1beta1.ReasonAssigned)
}

// Wrote reads from Berth's condition which addresses a Service had by it, and which
// pools they are of, as far as that is known. It stands at the beginning of the
// message, where nothing is quoted that a user wrote, and nothing is cut off.
func Wrote(s *corev1.Service) (addrs []netip.Addr, from map[netip.Addr]string) {
	c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if c == nil || c.Reason == string(v1beta1.ReasonForeignAddress) {
		return nil, nil
	}
	from = map[netip.Addr]string{}
	rest := strings.TrimPrefix(c.Message, keptBegins)
	for more := true; more; {
		m := described.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		if addr, err := netip.ParseAddr(m[1]); err == nil {
			addrs = append(addrs, addr)
			if m[2] != "" {
				from[addr] = m[2]
			}
		}
		rest, more = rest[len(m[0]):], m[3] == ", "
	}
	return addrs, from
}

// described is what describe says of one address.
var described = regexp.MustCompile(
	`^(\S+) (?:` + fromPool + `(\S+?)(?: ` + regexp.QuoteMeta(away) + `)?|` + ofNoPool + `)(, |\. |\.$)`)

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

// families returns those of the Service's cluster IPs. A headless Service or one
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

// request is the value of an annotation, and by which name it was read; both are
// "" where there is none.
type request struct{ name, value string }

// annotation reads an annotation, which may be spelled in several ways. With an
// error it returns the first of them.
func annotation(s *corev1.Service, ours string) (request, error) {
	var first request
	_, key, _ := strings.Cut(ours, "/")
	for _, prefix := range v1beta1.AnnotationPrefixes {
		text, has := s.Annotations[prefix+key]
		switch text = strings.TrimSpace(text); {
		case !has:
		case first.name == "":
			first = request{prefix + key, text}
		case first.value != text:
			return first, fmt.Errorf("the annotations %s %q and %s %q contradict each other: remove one",
				first.name, first.value, prefix+key, text)
		}
	}
	return first, nil
}

// What the remark about annotations of the older prefix says. Berth did not read
// that prefix always: a condition without it is of a decision that did not.
const (
	legacyRead = "Annotations with the prefix " + v1beta1.LegacyAnnotationPrefix +
		" are read: write berth.io/ in new manifests."
	legacyUnfollow = "Not followed: "
	legacyWhy      = ", which contradicts what the Service had before Berth read this prefix, and keeps. " +
		"Write it with the prefix berth.io/ to have the Service moved."
)

// remark returns what there is to say of a Service's annotations of the older prefix,
// or "".
func remark(s *corev1.Service) string {
	var some bool
	var not []string
	for _, ours := range []string{
		v1beta1.AnnotationAddressPool,
		v1beta1.AnnotationLoadBalancerIPs,
		v1beta1.AnnotationAllowSharedIP,
	} {
		r, _ := annotation(s, ours) // ParseService returns the error
		some = some || strings.HasPrefix(r.name, v1beta1.LegacyAnnotationPrefix)
		if unfollowed(s, r) {
			not = append(not, r.String())
		}
	}
	switch {
	case len(not) > 0:
		return legacyUnfollow + strings.Join(not, " and ") + legacyWhy
	case some:
		return legacyRead
	}
	return ""
}

// String writes a request as messages do, in which it is found again.
func (r request) String() string { return fmt.Sprintf("%s %q", r.name, r.value) }

// unfollowed reports whether an annotation of the older prefix asks for another
// address or pool than the Service was given when Berth did not read that prefix:
// no new version of Berth takes an address away. It stays so until the annotation
// is changed.
func unfollowed(s *corev1.Service, r request) bool {
	if r.value == "" || !strings.HasPrefix(r.name, v1beta1.LegacyAnnotationPrefix) {
		return false
	}
	c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if c == nil || !given(s) {
		return false
	}
	if _, listed, before := strings.Cut(c.Message, legacyUnfollow); before {
		return len(s.Status.LoadBalancer.Ingress) > 0 && strings.Contains(listed, r.String())
	}
	if strings.Contains(c.Message, v1beta1.LegacyAnnotationPrefix) {
		return false
	}
	switch _, key, _ := strings.Cut(r.name, "/"); "berth.io/" + key {
	case v1beta1.AnnotationAddressPool:
		_, from := Wrote(s)
		for _, pool := range from {
			if pool != r.value {
				return true
			}
		}
	case v1beta1.AnnotationLoadBalancerIPs:
		asked, err := parseAddresses(r.name, r.value)
		return err == nil && slices.ContainsFunc(asked, func(a netip.Addr) bool {
			return slices.ContainsFunc(StatusAddresses(s),
				func(has netip.Addr) bool { return has.Is4() == a.Is4() && has != a })
		})
	}
	return false
}

// requestedAddresses returns those that a Service with these families asks for.
func requestedAddresses(s *corev1.Service, families []Family) ([]netip.Addr, error) {
	asked, err := annotation(s, v1beta1.AnnotationLoadBalancerIPs)
	if err != nil {
		return nil, err
	}
	where, text := "annotation "+asked.name, asked.value
	if unfollowed(s, asked) {
		text = ""
	}
	if field := s.Spec.LoadBalancerIP; field != "" {
		if text != "" && text != field {
			return nil, fmt.Errorf("%s %q and spec.loadBalancerIP %q contradict each other: remove one",
				where, text, field)
		}
		text, where = field, "spec.loadBalancerIP"
	}
	out, err := parseAddresses(where, text)
	if err != nil {
		return nil, err
	}
	for _, addr := range out {
		if family := FamilyOf(addr); len(families) > 0 && !slices.Contains(families, family) {
			return nil, fmt.Errorf("%s asks for %s, but the Service has no %s cluster IP: see "+
				"spec.ipFamilies", where, addr, family)
		}
	}
	return out, nil
}

// parseAddresses reads a list of addresses, at most one of a family, which stands
// where the error shall say.
func parseAddresses(where, text string) ([]netip.Addr, error) {
	if text == "" {
		return nil, nil
	}
	var out []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("%s: %q is no address: write one, or one IPv4 and one IPv6 separated by "+
				"a comma",
				where, strings.TrimSpace(part))
		}
		addr = addr.Unmap()
		family := FamilyOf(addr)
		if slices.ContainsFunc(out, func(o netip.Addr) bool { return FamilyOf(o) == family }) {
			return nil, fmt.Errorf("%s asks for two %s addresses: a Service has at most one of each family",
				where, family)
		}
		out = append(out, addr)
	}
	return out, nil
}
