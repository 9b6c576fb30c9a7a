package config

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

func TestSummaries(t *testing.T) {
	red := metav1.LabelSelector{MatchLabels: map[string]string{"rack": "red"}}
	for _, test := range []struct {
		story string
		spec  v1beta1.L2AdvertisementSpec
		want  v1beta1.L2AdvertisementSummary
	}{
		{
			"nothing is restricted", v1beta1.L2AdvertisementSpec{},
			v1beta1.L2AdvertisementSummary{Pools: "*", Nodes: "*", Interfaces: "by subnet"},
		},
		{
			"names and labels", v1beta1.L2AdvertisementSpec{
				IPAddressPools:         []string{"lan", "gold"},
				IPAddressPoolSelectors: []metav1.LabelSelector{red},
				NodeSelectors:          []metav1.LabelSelector{red, {}},
				Interfaces:             []string{"eth0"},
				InterfacePatterns:      []string{"en.*"},
			},
			v1beta1.L2AdvertisementSummary{Pools: "lan,gold,(rack=red)", Nodes: "(rack=red),(*)", Interfaces: "eth0,/en.*/"},
		},
		{
			"a selector that cannot be understood", v1beta1.L2AdvertisementSpec{
				NodeSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}},
			},
			v1beta1.L2AdvertisementSummary{Pools: "*", Nodes: "(<error>)", Interfaces: "by subnet"},
		},
	} {
		if got := SummarizeL2Advertisement(&test.spec); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.story, got, test.want)
		}
	}
	bgp := v1beta1.BGPAdvertisementSpec{Peers: []string{"tor-a", "tor-b"}}
	if got, want := SummarizeBGPAdvertisement(&bgp), (v1beta1.BGPAdvertisementSummary{Pools: "*", Nodes: "*", Peers: "tor-a,tor-b"}); got != want {
		t.Errorf("of a BGPAdvertisement: %+v, want %+v", got, want)
	}
	if got := SummarizeCommunity(&v1beta1.CommunitySpec{}); got.Aliases != "" {
		t.Errorf("a Community without aliases has the summary %q", got.Aliases)
	}
}

// TestSummariesAreShort: a table stays readable, and the object small, whatever an
// object lists.
func TestSummariesAreShort(t *testing.T) {
	var names []string
	for i := range 256 {
		names = append(names, fmt.Sprintf("pool-%03d", i))
	}
	got := SummarizeBGPAdvertisement(&v1beta1.BGPAdvertisementSpec{IPAddressPools: names}).Pools
	if len(got) > summaryLength+len(" and 256 more") || !strings.HasPrefix(got, "pool-000,pool-001,") || !strings.HasSuffix(got, " more") {
		t.Errorf("the summary is %q", got)
	}
	long := strings.Repeat("x", 253)
	if got := summary("*", []string{long, "y"}, nil); got != long+" and 1 more" {
		t.Errorf("a long name and another: %q", got)
	}
}
