package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2"
	"github.com/berth-lb/berth/pkg/membership"
)

// What a speaker says of itself to its fellows, as keys and values of
// membership. Both are text, so that they can be read where they turn up.
const (
	saysStage = "stage"  // a stage
	saysLink  = "link/"  // + name: the hardware address, then prefixes
	saysProbe = "probe/" // + node: what this node's probes say of its kernel
	saysClaim = "claim/" // + address: the generation, then w for a weak claim
)

// maxSaidPrefixes bounds what is said of one link. A link has more addresses
// where they are made by the dozen, and those tell nothing new of its subnets.
const maxSaidPrefixes = 8

// word is all that one speaker says of itself.
type word struct {
	stage   announcement.Stage
	links   []layer2.Link // by name
	reports map[string]announcement.Report
	claims  map[netip.Addr]announcement.Claim
	// until is when what a Speaker object lends to it does not count any more; zero
	// for nothing lent, or for as long as the speaker is not heard.
	until time.Time
}

// readWord reads what a member says. What cannot be understood, because it
// comes from another version, is left out.
func readWord(m membership.Member) word {
	w := word{
		stage:   announcement.Stage(m.Said[saysStage]),
		reports: map[string]announcement.Report{},
		claims:  map[netip.Addr]announcement.Claim{},
	}
	for key, value := range m.Said {
		if name, ok := strings.CutPrefix(key, saysLink); ok {
			if l, err := parseLink(name, value); err == nil {
				w.links = append(w.links, l)
			}
		}
		if name, ok := strings.CutPrefix(key, saysProbe); ok {
			w.reports[name] = announcement.Report(value)
		}
		if text, ok := strings.CutPrefix(key, saysClaim); ok {
			addr, err := netip.ParseAddr(text)
			claim, claimErr := parseClaim(value)
			if err == nil && claimErr == nil {
				w.claims[addr] = claim
			}
		}
	}
	slices.SortFunc(w.links, func(a, b layer2.Link) int { return strings.Compare(a.Name, b.Name) })
	return w
}

func claimKey(addr netip.Addr) string { return saysClaim + addr.String() }

// claimValue is what is said of a claim; nil takes it back.
func claimValue(c *announcement.Claim) []byte {
	if c == nil {
		return nil
	}
	value := strconv.AppendUint(nil, c.Generation, 10)
	if c.Weak {
		value = append(value, 'w')
	}
	return value
}

func parseClaim(value []byte) (announcement.Claim, error) {
	text, weak := strings.CutSuffix(string(value), "w")
	generation, err := strconv.ParseUint(text, 10, 63)
	if err != nil || generation == 0 {
		return announcement.Claim{}, fmt.Errorf("no claim: %q", value)
	}
	return announcement.Claim{Generation: generation, Weak: weak}, nil
}

// linkValues is what is said of links.
func linkValues(links []layer2.Link) map[string][]byte {
	out := make(map[string][]byte, len(links))
	for _, l := range links {
		fields := []string{l.HardwareAddr.String()}
		for _, p := range l.Prefixes {
			if !p.Addr().IsLinkLocalUnicast() && len(fields) <= maxSaidPrefixes {
				fields = append(fields, p.String())
			}
		}
		out[saysLink+l.Name] = []byte(strings.Join(fields, " "))
	}
	return out
}

// parseLink reads what a fellow says of a link of its node. It says so only of
// links that are usable.
func parseLink(name string, value []byte) (layer2.Link, error) {
	fields := strings.Fields(string(value))
	if len(fields) == 0 {
		return layer2.Link{}, fmt.Errorf("link %s: nothing is said of it", name)
	}
	mac, err := net.ParseMAC(fields[0])
	if err != nil {
		return layer2.Link{}, fmt.Errorf("link %s: %w", name, err)
	}
	l := layer2.Link{Name: name, HardwareAddr: mac, Up: true, Broadcast: true}
	for _, text := range fields[1:] {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return layer2.Link{}, fmt.Errorf("link %s: %w", name, err)
		}
		l.Prefixes = append(l.Prefixes, p)
	}
	return l, nil
}
