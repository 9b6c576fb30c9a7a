package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Families says which IP families the addresses of something are of, and which comes first.
type Families string

// The families of a cluster, and of what a kubelet reports of its node.
const (
	DualStack          Families = "ipv4,ipv6"
	DualStackIPv6First Families = "ipv6,ipv4"
	IPv4Only           Families = "ipv4"
	IPv6Only           Families = "ipv6"
)

// familyV4 is the word for IPv4 in Families.
const familyV4 = string(IPv4Only)

// check returns an error that lists the choices if f is none of them.
func (f Families) check() error {
	if all := []Families{DualStack, DualStackIPv6First, IPv4Only, IPv6Only}; !slices.Contains(all, f) {
		return fmt.Errorf("families %q: want one of %q", string(f), all)
	}
	return nil
}

// pick returns those of two values, one of each family, whose families are in f, in its order.
func pick[V any](f Families, v4, v6 V) []V {
	var out []V
	for word := range strings.SplitSeq(string(f), ",") {
		if word == familyV4 {
			out = append(out, v4)
		} else {
			out = append(out, v6)
		}
	}
	return out
}

// list is pick for addresses in text, separated by commas.
func (f Families) list(v4, v6 string) string { return strings.Join(pick(f, v4, v6), ",") }

// Of lists those of a host's addresses whose families are in f, in its order.
func (f Families) Of(a Addresses) []netip.Addr { return pick(f, a.V4, a.V6) }
