package main

import (
	"strings"
	"testing"

	"github.com/berth-lb/berth/e2e/lab"
)

// TestSettings: what the environment says, and what makes no sense is refused by name.
func TestSettings(t *testing.T) {
	names := []string{"ANNOUNCE", "FAMILIES", "PROXY_MODE", "LONG", "KUBETEST", "LAB", "ROOT"}
	for _, test := range []struct {
		story, environment, refused string
		want                        settings
	}{
		{
			story: "nothing said",
			want:  settings{"layer2", "ipv4", "nftables", false, false, "kubetest", ".."},
		},
		{
			story: "all said",
			environment: "ANNOUNCE=bgp FAMILIES=ipv6,ipv4 PROXY_MODE=iptables " +
				"LONG=yes KUBETEST=keep LAB=x ROOT=/src",
			want: settings{"bgp", lab.DualStackIPv6First, "iptables", true, true, "x", "/src"},
		},
		{story: "neither protocol", environment: "ANNOUNCE=arp", refused: "ANNOUNCE"},
		{story: "nothing forwarded", environment: "PROXY_MODE=none", refused: "PROXY_MODE"},
	} {
		t.Run(test.story, func(t *testing.T) {
			for _, name := range names {
				t.Setenv(name, "")
			}
			for _, said := range strings.Fields(test.environment) {
				name, value, _ := strings.Cut(said, "=")
				t.Setenv(name, value)
			}
			got, err := readSettings()
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("error %v, want one that names %s", err, test.refused)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

// TestEntries: a pool has networks of the cluster's families only.
func TestEntries(t *testing.T) {
	for families, want := range map[lab.Families]string{
		lab.IPv4Only:           `"192.0.2.0/28"`,
		lab.IPv6Only:           `"2001:db8::/124"`,
		lab.DualStackIPv6First: `"192.0.2.0/28", "2001:db8::/124"`,
	} {
		if got := entries(families, "192.0.2.0/28", "2001:db8::/124"); got != want {
			t.Errorf("%s: got %s, want %s", families, got, want)
		}
	}
}
