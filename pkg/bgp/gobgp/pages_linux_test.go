package gobgp

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/bgp"
)

// TestRouterPages runs routers with the configuration that their pages of documentation have, and talks to
// them as the pages say: what is in a pool is accepted, in both families, and what is not is rejected where
// the page has a policy.
func TestRouterPages(t *testing.T) {
	for _, test := range []struct {
		page, language string
		needs          string // a program
		start          func(*testing.T, *netnstest.Host, string) (has func(prefix string) bool)
		policy         bool // the page accepts pools only
	}{
		{"frr.md", "frr", "/usr/lib/frr/bgpd", startFRR, true},
		{"bird.md", "bird", "bird", startBIRD, true},
		{"gobgp.md", "toml", "gobgpd", startGoBGP, false},
	} {
		t.Run(test.page, func(t *testing.T) {
			netnstest.Require(t)
			if _, err := exec.LookPath(test.needs); err != nil {
				t.Skipf("needs %s, of a Debian package", test.needs)
			}
			// The pages have addresses of their own; the tests' network has others.
			config := strings.NewReplacer("10.0.0.11", node4, "10.0.0.", "10.9.0.").
				Replace(pageBlocks(t, test.page, test.language)[0])

			has := test.start(t, network(t), config)
			s, _ := speak(t, Config{}, to(tor(asOnThePages),
				route("192.0.2.1/32", nil), route("2001:db8:1::1/128", nil), route("198.51.100.1/32", nil)))
			up(t, s, "tor")

			eventually(t, "the addresses of the pools are accepted",
				func() bool { return has("192.0.2.1/32") && has("2001:db8:1::1/128") })
			if test.policy && has("198.51.100.1/32") {
				t.Error("an address of no pool is accepted")
			}
		})
	}
}

// asOnThePages changes a peer to what docs/routers/index.md shows.
func asOnThePages(p *bgp.Peer) {
	p.Families = bgp.DualStack
	p.Password = bgp.NewPassword("change-me")
	p.GracefulRestart = 2 * time.Minute
	p.NextHop6 = netip.MustParseAddr(node6)
}

// TestGoBGPAsTheRouter: over a link that has IPv6 only, a GoBGP that waits for the speaker gets IPv4 and
// IPv6 routes, the former with an IPv6 next hop (RFC 8950). Talos' own BGP is built on GoBGP, and its
// documentation has such a link to a load balancer, with these addresses and AS numbers.
func TestGoBGPAsTheRouter(t *testing.T) {
	netnstest.Require(t, "gobgpd", "gobgp")
	const speaker, router = "fda1:b2c3:d4e5:1::", "fda1:b2c3:d4e5:1::1"
	lan := netnstest.NewLAN(t)
	lan.Attach(netnstest.Local(), "eth0", speaker+"/127")
	h := lan.Attach(netnstest.NewHost(t, "router"), "eth0", router+"/127")

	has := startGoBGP(t, h, pageBlocks(t, "gobgp.md", "toml")[1])
	s, _ := speak(t, Config{}, to(tor(func(p *bgp.Peer) {
		p.LocalASN, p.PeerASN = 4200000003, 4200000002
		p.Address, p.Source = netip.MustParseAddr(router), netip.MustParseAddr(speaker)
		p.Families = bgp.DualStack
	}), route("203.0.113.100/32", nil), route("2001:db8:1::1/128", nil)))
	if session := up(t, s, "tor"); session.Withheld != "" {
		t.Errorf("withheld: %s", session.Withheld)
	}

	eventually(t, "both routes are there",
		func() bool { return has("203.0.113.100/32") && has("2001:db8:1::1/128") })
}

// pageBlocks returns the blocks of a language in a page of docs/routers.
func pageBlocks(t *testing.T, page, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "routers", page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rest := string(text); ; {
		_, after, found := strings.Cut(rest, "\n```"+language+"\n")
		if !found {
			break
		}
		block, behind, closed := strings.Cut(after, "\n```\n")
		if !closed {
			t.Fatalf("%s: a block is not closed", page)
		}
		out, rest = append(out, block+"\n"), behind
	}
	if len(out) == 0 {
		t.Fatalf("%s has no block of %s", page, language)
	}
	return out
}

func startFRR(t *testing.T, h *netnstest.Host, config string) (has func(prefix string) bool) {
	f := &frr{}
	f.begin(t, h, "log stdout\n"+config, "zebra", "bgpd")
	return func(prefix string) bool { _, there := f.route(t, prefix); return there }
}

func startBIRD(t *testing.T, h *netnstest.Host, config string) (has func(prefix string) bool) {
	b := &bird{}
	b.begin(t, h, "log stderr all;\n"+config)
	return func(prefix string) bool { _, there := b.route(t, prefix); return there }
}

// startGoBGP runs gobgpd on a host until the test ends.
func startGoBGP(t *testing.T, h *netnstest.Host, config string) (has func(prefix string) bool) {
	file := filepath.Join(t.TempDir(), "gobgpd.toml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	stop := h.Start(t, "gobgpd", "-f", file)
	t.Cleanup(func() {
		if out := stop(); t.Failed() {
			t.Logf("%s", out)
		}
	})
	eventually(t, "gobgpd answers", func() bool { _, err := h.Try("gobgp", "global"); return err == nil })

	return func(prefix string) bool {
		family := "ipv4"
		if strings.Contains(prefix, ":") {
			family = "ipv6"
		}
		var table map[string]json.RawMessage
		out := h.Run(t, "gobgp", "global", "rib", "-a", family, "-j")
		if err := json.Unmarshal([]byte(out), &table); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, there := table[prefix]
		return there
	}
}
