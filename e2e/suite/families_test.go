package suite

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// A family is one of the IP families that the lab has, as Kubernetes calls it. What a test says of addresses
// it says of those of a family, so that it is about every lab.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// familiesAsked are those that $FAMILIES wants of the shared lab, such as IPv6,IPv4: first that which
// Services get that ask for none. "" leaves the choice to the lab.
func familiesAsked() lab.Families { return lab.Families(strings.ToLower(os.Getenv("FAMILIES"))) }

func familyOf(addr netip.Addr) family {
	if addr.Is4() {
		return ipv4
	}
	return ipv6
}

// families lists those of the lab, in its order.
func families() []family {
	var all []family
	for _, addr := range cluster.Families().Of(lab.ClientAddresses) {
		all = append(all, familyOf(addr))
	}
	return all
}

// first is that which Services get that ask for none. The hosts of the cluster talk to each other by it.
func first() family { return families()[0] }

// needs skips a test in a lab without a family, whose ways it is about: why says which.
func needs(t *testing.T, f family, why string) {
	t.Helper()
	for _, has := range families() {
		if has == f {
			return
		}
	}
	t.Skipf("the lab has no %s: %s", f, why)
}

// needsBoth skips a test in a lab of one family.
func needsBoth(t *testing.T, why string) {
	t.Helper()
	if all := families(); len(all) == 1 {
		t.Skipf("the lab has %s only: %s", all[0], why)
	}
}

// ownFamilies skips a test that has a lab of its own whose families it chooses itself, unless the shared lab
// has those of the default: with others nothing of it would differ.
func ownFamilies(t *testing.T) {
	t.Helper()
	if cluster.Families() != lab.DualStack {
		t.Skip("this test's own lab has the same families whatever $FAMILIES says")
	}
}

// of is the address of this family.
func (f family) of(a lab.Addresses) netip.Addr {
	if f == ipv4 {
		return a.V4
	}
	return a.V6
}

// at writes the address on the LAN of eth0 that ends in this number: 10.77.0.150 or fd77::150.
func (f family) at(n int) string { return f.of(lab.LANAddresses(n)).String() }

// span writes the addresses from one number to another as a pool lists them. There are equally many of both
// families if the numbers differ in the last digit only: they are decimal in IPv4, and hexadecimal in IPv6.
func (f family) span(from, to int) string {
	if from == to {
		return f.prefix(from).String()
	}
	return f.at(from) + "-" + f.at(to)
}

// host is the address of this family with its full length.
func (f family) host(a lab.Addresses) netip.Prefix {
	addr := f.of(a)
	return netip.PrefixFrom(addr, addr.BitLen())
}

// prefix is a single address on the LAN of eth0 with its full length.
func (f family) prefix(n int) netip.Prefix { return f.host(lab.LANAddresses(n)) }

// only has a Service take an address of this family, and no other.
func (f family) only() string {
	return fmt.Sprintf("ipFamilyPolicy: SingleStack\n  ipFamilies: [%s]", f)
}

// group is the name of a router's sessions with the nodes over this family, see peering.Router.
func (f family) group() string {
	if f == ipv4 {
		return "NODES4"
	}
	return "NODES6"
}

// at writes the address of each family on the LAN of eth0 that ends in this number, as addresses.
func at(n int) []netip.Addr { return cluster.Families().Of(lab.LANAddresses(n)) }

// spans writes what a pool lists to have these addresses of each family that the lab has.
func spans(from, to int) string {
	var all []string
	for _, f := range families() {
		all = append(all, f.span(from, to))
	}
	return strings.Join(all, ", ")
}

// everyFamily has a Service take an address of each family that the lab has.
func everyFamily() string {
	if len(families()) == 1 {
		return "ipFamilyPolicy: PreferDualStack"
	}
	return "ipFamilyPolicy: RequireDualStack"
}

// onePeer is a router with which the nodes have one session that carries all families, over the first one.
func onePeer(name string, router lab.Addresses) peering.Peer {
	return peering.Peer{Name: name, Address: first().of(router), More: "dualStackAddressFamily: true\n"}
}

// peers are a router with which the nodes have a session over each family: their names and their manifests.
func peers(name string, router lab.Addresses) (names []string, manifests string) {
	for _, f := range families() {
		peer := peering.Peer{Name: name + "-" + strings.ToLower(string(f)), Address: f.of(router)}
		names, manifests = append(names, peer.Name), manifests+peer.Manifest()
	}
	return names, manifests
}

// inNoPool is an address of the first family that no pool of the suite has.
func inNoPool() string {
	if first() == ipv4 {
		return "10.99.99.99"
	}
	return "fd99::99"
}
