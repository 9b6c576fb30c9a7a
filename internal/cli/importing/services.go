package importing

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// annotate notes that a Service is to be given annotations in place of one that Berth does not
// read, or reads otherwise.
func (c *conversion) annotate(s *corev1.Service, old, value string, annotations map[string]string) {
	key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	if c.out.Annotations[key] == nil {
		c.out.Annotations[key] = map[string]string{}
	}
	command := fmt.Sprintf("kubectl annotate service %s -n %s --overwrite", s.Name, s.Namespace)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		c.out.Annotations[key][name] = annotations[name]
		command += fmt.Sprintf(" %s=%s", name, quoted(annotations[name]))
		names = append(names, name)
	}
	c.note(v1alpha1.ImportToDo, refOf(s, "service"), old, fmt.Sprintf("Berth does not read %s as it is "+
		"(%s): set %s.", old, value, strings.Join(names, ", ")), command)
}

// plainWord matches what a shell takes as it is.
var plainWord = regexp.MustCompile(`^[-\w.,:/]+$`)

// quoted returns a text as one word of a shell.
func quoted(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// asks are the annotations by which Services of a load balancer ask for something.
type asks struct {
	pool, addresses, sharing []string
	// known are others with no meaning for Berth; without are those that it has nothing for,
	// with what to say.
	prefixes []string
	known    []string
	without  map[string]string
}

// service says what becomes of the annotations of a Service.
func (a asks) service(c *conversion, s *corev1.Service) {
	from := refOf(s, "service")
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		value := s.Annotations[key]
		switch {
		case slices.Contains(a.pool, key):
			a.askPool(c, s, key, value)
		case slices.Contains(a.addresses, key):
			askAddresses(c, s, key, value)
		case slices.Contains(a.sharing, key):
			if value != "" {
				c.annotate(s, key, value, map[string]string{v1beta1.AnnotationAllowSharedIP: value})
			}
		case a.without[key] != "":
			c.note(v1alpha1.ImportNoEquivalent, from, key, a.without[key])
		case slices.Contains(a.known, key):
		case slices.ContainsFunc(a.prefixes, func(p string) bool { return strings.HasPrefix(key, p) }):
			c.note(v1alpha1.ImportUnknownField, from, key, "This program does not know the annotation.")
		}
	}
}

func (a asks) askPool(c *conversion, s *corev1.Service, key, value string) {
	names := c.poolsOf[value]
	if len(names) == 0 {
		c.note(v1alpha1.ImportNoEquivalent, refOf(s, "service"), key,
			fmt.Sprintf("It names %s, of which there is no pool.", value))
		return
	}
	c.annotate(s, key, value, map[string]string{v1beta1.AnnotationAddressPool: names[0]})
}

// askAddresses converts a list of addresses: Berth takes one of each family.
func askAddresses(c *conversion, s *corev1.Service, key, value string) {
	from := refOf(s, "service")
	byFamily := map[bool]netip.Addr{}
	var out []string
	for _, text := range strings.Split(value, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		switch {
		case err != nil || addr.IsUnspecified():
			c.note(v1alpha1.ImportNoEquivalent, from, key, fmt.Sprintf("%q is no address that Berth could "+
				"give: it asks no DHCP server.", strings.TrimSpace(text)))
			return
		case byFamily[addr.Is4()].IsValid():
			c.note(v1alpha1.ImportNoEquivalent, from, key, "It asks for several addresses of one family: "+
				"Berth gives a Service one of each.")
			return
		}
		byFamily[addr.Is4()] = addr
		out = append(out, addr.String())
	}
	if s.Spec.LoadBalancerIP != "" {
		if len(out) > 1 {
			c.note(v1alpha1.ImportToDo, from, key, "Berth takes no annotation beside spec.loadBalancerIP: "+
				"remove that field, and set "+v1beta1.AnnotationLoadBalancerIPs+".")
		}
		return // the field asks for it already
	}
	text := strings.Join(out, ",")
	c.annotate(s, key, value, map[string]string{v1beta1.AnnotationLoadBalancerIPs: text})
}
