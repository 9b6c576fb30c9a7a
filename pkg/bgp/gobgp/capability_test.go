package gobgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/pkg/bgp"
)

// Capabilities as OPENs have them.
var (
	multi4, multi6 = multiprotocol(bgp.IPv4), multiprotocol(bgp.IPv6)
	refreshes      = capability{capRouteRefresh, nil}
	longMessages   = capability{capExtendedMessage, nil}
	fourOctets     = capability{capFourOctetAS, []byte{0, 0, 0xfc, 1}}
	restarts       = capability{capGracefulRestart, []byte{0, 120, 0, 1, 1, 0, 0, 2, 1, 0}}
	stale          = capability{capLongLived, []byte{0, 1, 1, 0, 0, 0, 9}}
	nextHops6      = capability{capExtendedNextHop, []byte{0, 1, 0, 1, 0, 2}}
	hostName       = capability{capFQDN, []byte{1, 'a', 0}}
	unheardOf      = capability{200, []byte{1, 2, 3}}
	evpn           = capability{capMultiprotocol, []byte{0, 25, 0, 70}}
)

// refuses is the body of a NOTIFICATION that refuses capabilities.
func refuses(list ...capability) []byte {
	return appendCapabilities([]byte{codeOpen, openCapability}, list...)
}

// inBrief names capabilities.
func inBrief(list []capability) string {
	var out []string
	for _, c := range list {
		out = append(out, c.String())
	}
	return strings.Join(out, ", ")
}

// TestWhatIsLeftOut: what the next OPEN offers after a router has refused one.
func TestWhatIsLeftOut(t *testing.T) {
	offered := []capability{refreshes, longMessages, multi4, multi6, fourOctets, restarts, stale, nextHops6,
		hostName}
	for _, test := range []struct {
		story    string
		families bgp.Families
		// says is what the router answers to each OPEN.
		says [][]byte
		// omitted is what the next OPEN leaves out, "" for nothing.
		omitted string
		again   bool // the last answer is worth another attempt
	}{
		{"one capability, which it names", bgp.DualStack, [][]byte{refuses(hostName)}, "FQDN", true},
		{"several", bgp.DualStack, [][]byte{refuses(hostName, longMessages)}, "Extended Message, FQDN", true},
		{"one after the other", bgp.DualStack, [][]byte{refuses(hostName), refuses(longMessages)},
			"Extended Message, FQDN", true},
		{"the same again, which was not in the last OPEN", bgp.DualStack,
			[][]byte{refuses(hostName), refuses(hostName)}, "FQDN", false},
		{"one that it names by its number alone", bgp.DualStack,
			[][]byte{refuses(capability{capGracefulRestart, nil})},
			"Graceful Restart, Long-Lived Graceful Restart", true},
		{"long-lived stale routes alone", bgp.DualStack, [][]byte{refuses(stale)},
			"Long-Lived Graceful Restart", true},
		{"one that it wants, and is not offered", bgp.DualStack, [][]byte{refuses(unheardOf)}, "", false},
		{"a family that it wants, and is not offered", bgp.IPv4, [][]byte{refuses(evpn)}, "", false},
		{"one of two families", bgp.DualStack, [][]byte{refuses(multi6)}, "Multiprotocol IPv6 unicast", true},
		{"the multiprotocol capability, of a peer that carries IPv4", bgp.DualStack,
			[][]byte{refuses(capability{capMultiprotocol, nil})},
			"Multiprotocol IPv4 unicast, Multiprotocol IPv6 unicast", true},
		{"the only family, which is not IPv4", bgp.IPv6, [][]byte{refuses(multi6)}, "", false},
		{"some, without naming any", bgp.DualStack, [][]byte{refuses()},
			"Route Refresh, Extended Message, Extended Next Hop Encoding, FQDN", true},
		{"some, without naming any, again", bgp.DualStack, [][]byte{refuses(), refuses()},
			"Route Refresh, Extended Message, Extended Next Hop Encoding, FQDN", false},
		{"parameters", bgp.DualStack, [][]byte{{codeOpen, openParameter}}, inBrief(offered), true},
		{"parameters, of an OPEN without", bgp.DualStack,
			[][]byte{{codeOpen, openParameter}, {codeOpen, openParameter}}, inBrief(offered), false},
		{"parameters, of a peer that IPv4 is not asked of", bgp.IPv6, [][]byte{{codeOpen, openParameter}}, "",
			false},
		{"something else", bgp.DualStack, [][]byte{{codeOpen, openBadPeerAS}}, "", false},
		{"a Cease", bgp.DualStack, [][]byte{{codeCease, openCapability}}, "", false},
		{"data that is cut off", bgp.DualStack, [][]byte{append(refuses(hostName), 6)}, "FQDN", true},
		{"nothing", bgp.DualStack, [][]byte{nil}, "", false},
	} {
		t.Run(test.story, func(t *testing.T) {
			var o omission
			again := false
			mine := slices.DeleteFunc(slices.Clone(offered), func(c capability) bool {
				return c.family() != 0 && !test.families.Has(c.family())
			})
			for _, answer := range test.says {
				again = o.refused(answer, mine, test.families)
			}
			if got := o.inWords(mine); got != test.omitted || again != test.again {
				t.Errorf("left out is %q, again: %v", got, again)
			}
			if o.carried(test.families)&test.families == 0 {
				t.Errorf("nothing of %s is left", test.families)
			}
		})
	}
}

// TestARouterThatRefusesForEver: whatever it answers, it is not tried at once for
// ever, and a session always has something to carry.
func TestARouterThatRefusesForEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := []capability{
			refreshes,
			longMessages, multi4, multi6, fourOctets, restarts, stale, nextHops6, hostName, unheardOf, evpn,
		}
		families := rapid.SampledFrom([]bgp.Families{bgp.IPv4, bgp.IPv6, bgp.DualStack}).Draw(t, "families")
		offered := slices.DeleteFunc(slices.Clone(all[:9]), func(c capability) bool {
			return c.family() != 0 && !families.Has(c.family())
		})
		var o omission
		tries := 0
		for range 40 {
			body := []byte{codeOpen, rapid.SampledFrom([]byte{openParameter, openCapability}).Draw(t,
				"subcode")}
			body = appendCapabilities(body, rapid.SliceOfN(rapid.SampledFrom(all), 0, 3).Draw(t, "named")...)
			before := len(o.from(offered))
			if o.refused(body, offered, families) {
				tries++
				if after := len(o.from(offered)); after >= before {
					t.Fatalf("again with %d capabilities after %d", after, before)
				}
			}
			if o.carried(families) == 0 {
				t.Fatal("nothing is carried")
			}
		}
		if tries > len(offered) {
			t.Fatalf("%d tries", tries)
		}
	})
}

// TestWhatGobgpSeesOfAnOpen: of a router's capabilities only those that were
// understood, in the ordinary form, however the router writes them.
func TestWhatGobgpSeesOfAnOpen(t *testing.T) {
	many := []capability{unheardOf, evpn, multi4, multi6, multi6, hostName, fourOctets, longMessages,
		{capGracefulRestart, []byte{0x40, 60, 0, 25, 70, 0x80, 0, 1, 1, 0x80, 0, 1, 1, 0}},
		refreshes, {capRouteRefresh, []byte{1}},
		{capExtendedNextHop, []byte{0, 1, 0, 4, 0, 2, 0, 1, 0, 1, 0, 2}}, {capFourOctetAS, []byte{1}},
		{255, make([]byte, 255)}, {254, make([]byte, 255)}}
	const want = "Multiprotocol IPv4 unicast, Multiprotocol IPv6 unicast, Four-octet AS Number, " +
		"Extended Message, " +
		"Graceful Restart, Route Refresh, Extended Next Hop Encoding"
	extended := &bgp.Offer{ExtendedMessage: true}
	for _, test := range []struct {
		story   string
		message []byte
		omitted omission
		offer   *bgp.Offer
		want    string
	}{
		{"the extended form", extendedOpen(t, many...), omission{}, extended, want},
		{"the ordinary form", ordinaryOpen(t, multi4, unheardOf), omission{}, extended,
			"Multiprotocol IPv4 unicast"},
		{"none", ordinaryOpen(t), omission{}, extended, ""},
		{"what is left out here", extendedOpen(t, many...),
			omission{families: bgp.IPv6, codes: [256]bool{capGracefulRestart: true}}, extended,
			strings.NewReplacer("Multiprotocol IPv6 unicast, ", "", "Graceful Restart, ", "").Replace(want)},
		{"long messages, which are not offered", ordinaryOpen(t, multi4, longMessages), omission{},
			&bgp.Offer{},
			"Multiprotocol IPv4 unicast"},
		{"everything, as nothing is offered", extendedOpen(t, many...), omission{all: true}, extended, ""},
		{"families, as none is offered", ordinaryOpen(t, multi6, refreshes),
			omission{families: bgp.DualStack}, extended,
			"Route Refresh"},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := &relay{
				peer:    bgp.Peer{Families: bgp.DualStack, Hold: 1, Offer: *test.offer},
				omitted: test.omitted,
				opened:  func(*open) error { return nil },
			}
			m, err := r.receiveOpen(test.message)
			if err != nil {
				t.Fatal(err)
			}
			list, err := capabilitiesOf(m)
			if err != nil || inBrief(list) != test.want {
				t.Errorf("it sees %q, %v", inBrief(list), err)
			}
			if _, err := packet.ParseBGPMessage(m); err != nil {
				t.Errorf("gobgp says: %v", err)
			}
		})
	}
}

// ordinaryOpen and extendedOpen are a router's OPEN in both forms.
func ordinaryOpen(t testing.TB, list ...capability) []byte {
	t.Helper()
	m, err := packet.NewBGPOpenMessage(64513, 90, netip.MustParseAddr("7.7.7.7"), nil)
	out, err := withCapabilities(serialized(t, m, err), list)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func extendedOpen(t testing.TB, list ...capability) []byte {
	t.Helper()
	m := ordinaryOpen(t)
	m[headerLength+9] = 255
	var parameters []byte
	for _, c := range list { // each in a parameter of its own
		value := appendCapabilities(nil, c)
		parameters = binary.BigEndian.AppendUint16(append(parameters, 2), uint16(len(value)))
		parameters = append(parameters, value...)
	}
	m = binary.BigEndian.AppendUint16(append(m, 255), uint16(len(parameters)))
	m = append(m, parameters...)
	binary.BigEndian.PutUint16(m[16:], uint16(len(m)))
	return m
}

// TestWhatIsOffered: strangers are told neither the name of the host nor the
// version of a program, unless the peer says so.
func TestWhatIsOffered(t *testing.T) {
	const needed = "Multiprotocol IPv4 unicast, Four-octet AS Number"
	gobgps := []capability{hostName, softwareVersion("GoBGP/4"), longMessages, multi4, fourOctets}
	for _, test := range []struct {
		offer bgp.Offer
		want  string
	}{
		{bgp.Offer{}, needed},
		{bgp.Offer{ExtendedMessage: true}, "Extended Message, " + needed},
		{bgp.Offer{FQDN: true}, "FQDN, " + needed},
		{bgp.Offer{SoftwareVersion: true}, needed + ", Software Version"},
	} {
		r := &relay{peer: bgp.Peer{Hold: 1, Offer: test.offer}, software: "Berth/" + strings.Repeat("1", 80)}
		m, err := r.rewriteOpen(ordinaryOpen(t, gobgps...))
		if err != nil {
			t.Fatal(err)
		}
		list, err := capabilitiesOf(m)
		if err != nil || inBrief(list) != test.want {
			t.Errorf("%+v: offered is %q, %v", test.offer, inBrief(list), err)
		}
		if strings.Contains(string(m), "GoBGP") ||
			strings.Contains(string(m), "Berth") != test.offer.SoftwareVersion {
			t.Errorf("%+v: the router reads %q", test.offer, m)
		}
		if _, err := packet.ParseBGPMessage(m); err != nil {
			t.Errorf("gobgp says: %v", err)
		}
	}
}

func TestCapabilitiesInWords(t *testing.T) {
	var many []capability
	for code := range byte(9) {
		many = append(many, capability{code + 200, nil})
	}
	for _, test := range []struct {
		says []byte
		want string
	}{
		{refuses(multi6), "OPEN error: unsupported capability (Multiprotocol IPv6 unicast)"},
		{refuses(evpn, hostName), "OPEN error: unsupported capability (Multiprotocol AFI 25 SAFI 70, FQDN)"},
		{refuses(many...),
			"OPEN error: unsupported capability (capability 200, capability 201, capability 202, " +
				"capability 203, capability 204, capability 205, …)"},
		{refuses(), "OPEN error: unsupported capability"},
		{[]byte{codeCease, ceasePrefixes, 0, 1, 1, 0, 0, 0, 3},
			"cease: maximum number of prefixes reached (3 for Multiprotocol IPv4 unicast)"},
		{[]byte{codeHeader, 2, 0, 77}, "message header error: bad message length"},
	} {
		if got := bodyInWords(test.says); got != test.want {
			t.Errorf("%s\nwant %s", got, test.want)
		}
	}
	if fmt.Sprint(softwareVersion(strings.Repeat("x", 300)).value[0]) != "64" {
		t.Error("a version may have 64 octets")
	}
}
