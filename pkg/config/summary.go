package config

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

// What an empty list means cannot be seen in a table of kubectl, which prints nothing
// for it. A summary says it in one short line.

const (
	// summaryOfAll is printed where an empty list means everything there is.
	summaryOfAll = "*"
	// summaryBySubnet is printed where an empty list means the interfaces whose subnet
	// holds the address.
	summaryBySubnet = "by subnet"
	// summaryLength is how many bytes a summary has about; what is more is counted.
	summaryLength = 60
)

// SummarizeL2Advertisement returns what an advertisement selects, for tables. It
// depends on nothing but the advertisement.
func SummarizeL2Advertisement(s *v1beta1.L2AdvertisementSpec) v1beta1.L2AdvertisementSummary {
	var interfaces []string
	interfaces = append(interfaces, s.Interfaces...)
	for _, pattern := range s.InterfacePatterns {
		interfaces = append(interfaces, "/"+pattern+"/")
	}
	return v1beta1.L2AdvertisementSummary{
		Pools:      summary(summaryOfAll, s.IPAddressPools, s.IPAddressPoolSelectors),
		Nodes:      summary(summaryOfAll, nil, s.NodeSelectors),
		Interfaces: summary(summaryBySubnet, interfaces, nil),
	}
}

// SummarizeBGPAdvertisement does for a BGPAdvertisement what SummarizeL2Advertisement
// does.
func SummarizeBGPAdvertisement(s *v1beta1.BGPAdvertisementSpec) v1beta1.BGPAdvertisementSummary {
	return v1beta1.BGPAdvertisementSummary{
		Pools: summary(summaryOfAll, s.IPAddressPools, s.IPAddressPoolSelectors),
		Nodes: summary(summaryOfAll, nil, s.NodeSelectors),
		Peers: summary(summaryOfAll, s.Peers, nil),
	}
}

// SummarizeCommunity returns the names that a Community gives, for tables.
func SummarizeCommunity(s *v1beta1.CommunitySpec) v1beta1.CommunitySummary {
	var names []string
	for _, c := range s.Communities {
		names = append(names, c.Name)
	}
	return v1beta1.CommunitySummary{Aliases: summary("", names, nil)}
}

// summary joins names and selectors in the order of the object, as many as there is
// room for; the first always has room. A selector stands in parentheses.
func summary(none string, names []string, selectors []metav1.LabelSelector) string {
	var parts []string
	parts = append(parts, names...)
	for i := range selectors {
		text := metav1.FormatLabelSelector(&selectors[i])
		if text == metav1.FormatLabelSelector(&metav1.LabelSelector{}) {
			text = summaryOfAll // it selects everything
		}
		parts = append(parts, "("+text+")")
	}
	if len(parts) == 0 {
		return none
	}
	var out strings.Builder
	for i, part := range parts {
		if i > 0 && out.Len()+len(part) > summaryLength {
			fmt.Fprintf(&out, " and %d more", len(parts)-i)
			break
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(part)
	}
	return out.String()
}
