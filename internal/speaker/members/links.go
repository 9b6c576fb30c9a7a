package members

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// maxPrefixes bounds how many prefixes of one link are published. Nobody uses those beyond
// it, not even this node: it evaluates its own links as it publishes them.
const maxPrefixes = v1beta1.MaxLinkPrefixes

// asPublished returns links as other members see them. So a node and the others evaluate
// its links alike, whatever the published form leaves out.
func asPublished(list []links.Link) []links.Link { return decodeLinks(encodeLinks(list)) }

// encodeLinks returns the published form of links, as keys and values: under the name the
// hardware address, marks and prefixes. If that is too long for one value, the rest follows
// under the name, a slash and a number.
func encodeLinks(list []links.Link) map[string][]byte {
	out := make(map[string][]byte, len(list))
	for _, l := range list {
		var value []byte
		part := 0
		for _, field := range linkFields(l) {
			if len(value)+1+len(field) > membership.MaxValue {
				out[linkKey(l.Name, part)] = value
				value, part = nil, part+1
			}
			if len(value) > 0 {
				value = append(value, ' ')
			}
			value = append(value, field...)
		}
		out[linkKey(l.Name, part)] = value
	}
	return out
}

// linkKey returns the key of one part of a link's published form. No interface has a slash
// in its name.
func linkKey(name string, part int) string {
	if part == 0 {
		return keyLink + name
	}
	return keyLink + name + "/" + strconv.Itoa(part)
}

// linkFields returns the hardware address of a link, its marks, and one address of each of
// its subnets: further addresses do not tell more about the LAN that the link is on.
// Addresses without a subnet come last.
func linkFields(l links.Link) []string {
	fields := []string{l.HardwareAddr.String()}
	if l.Excluded {
		fields = append(fields, presence.MarkOnlyNamed)
	}
	if l.Balances {
		fields = append(fields, presence.MarkBalances)
	}
	for _, subnet := range l.Shadowed {
		fields = append(fields, presence.MarkShadowed+subnet.String())
	}
	prefixes := onePerSubnet(l.Prefixes)
	for _, p := range prefixes[:min(len(prefixes), maxPrefixes)] {
		fields = append(fields, p.String())
	}
	return fields
}

// onePerSubnet returns the first address of each subnet, in the order given, then those
// without a subnet. It leaves out IPv6 link-local ones, which every LAN has.
func onePerSubnet(prefixes []netip.Prefix) []netip.Prefix {
	var out, single []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for _, p := range prefixes {
		if seen[p.Masked()] || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			continue
		}
		seen[p.Masked()] = true
		if p.IsSingleIP() {
			single = append(single, p)
		} else {
			out = append(out, p)
		}
	}
	return append(out, single...)
}

// decodeLinks reads the published form of a node's links, and sorts them by name. It leaves
// out a link whose first part is missing or cannot be read.
func decodeLinks(published map[string][]byte) []links.Link {
	var out []links.Link
	for key, value := range published {
		name, ok := strings.CutPrefix(key, keyLink)
		if !ok || strings.Contains(name, "/") {
			continue
		}
		fields := strings.Fields(string(value))
		for part := 1; published[linkKey(name, part)] != nil; part++ {
			fields = append(fields, strings.Fields(string(published[linkKey(name, part)]))...)
		}
		if l, err := presence.DecodeLink(name, fields); err == nil {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b links.Link) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// LinkProblem returns why addresses cannot be announced on a link as they should be, and
// what to do; "" if they can.
func LinkProblem(l links.Link) string {
	switch {
	case l.Balances:
		return "A bond in mode balance-alb answers ARP with the addresses of its ports, " +
			"a different one for each neighbour, so an IPv4 address seems to be answered by strangers. " +
			"Give the bond another mode, such as active-backup or 802.3ad."
	case l.Alone():
		return "Its addresses are in no subnet, and no route without a gateway leads to one out of it. " +
			"So nobody knows which nodes are on its LAN: " +
			"this node is not probed there, nobody can stand in for it, and its addresses are not checked."
	}
	return ""
}
