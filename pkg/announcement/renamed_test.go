package announcement

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// TestAPoolIsRenamedWithoutAPause: an address stays announced, by layer 2 and by
// BGP, whenever the advertisement is edited within the grace.
func TestAPoolIsRenamedWithoutAPause(t *testing.T) {
	const grace = config.ReplaceGrace
	named := func(name string, created time.Time, ranges ...v1beta1.AddressRange) v1beta1.IPAddressPool {
		return v1beta1.IPAddressPool{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(created)},
			Spec:       v1beta1.IPAddressPoolSpec{Addresses: ranges},
		}
	}
	old := named("old", now, "192.0.2.0/24")
	renamed := []v1beta1.IPAddressPool{named("new", now.Add(time.Hour), "192.0.2.0/24")}
	split := []v1beta1.IPAddressPool{
		named("other", now.Add(time.Hour), "192.0.2.128/25"),
		named("new", now.Add(time.Hour), "192.0.2.0/25"),
	}
	type step struct {
		at        time.Duration
		pools     []v1beta1.IPAddressPool
		selects   string // the pool that the advertisements name
		announced bool
	}
	first := step{0, []v1beta1.IPAddressPool{old}, "old", true}
	for _, test := range []struct {
		story string
		steps []step
	}{
		{"deleted, created and selected at once", []step{
			first,
			{time.Second, nil, "old", true},
			{2 * time.Second, renamed, "new", true},
			{time.Minute, renamed, "new", true},
		}},
		{"created first", []step{
			first, {time.Second, append(renamed, old), "old", true}, {2 * time.Second, renamed, "old", true},
			{3 * time.Second, renamed, "new", true}, {time.Minute, renamed, "new", true},
		}},
		{"the advertisement is edited late", []step{
			first,
			{time.Second, renamed, "old", true},
			{grace, renamed, "old", true},
			{grace + time.Second, renamed, "old", false},
		}},
		{"split", []step{
			first,
			{time.Second, split, "old", true},
			{2 * time.Second, split, "new", true},
			{time.Minute, split, "new", true},
		}},
		{"deleted and created again as it was", []step{
			first,
			{time.Second, nil, "old", true},
			{grace, []v1beta1.IPAddressPool{old}, "old", true},
			{time.Hour, []v1beta1.IPAddressPool{old}, "old", true},
		}},
		{"deleted for good", []step{
			first,
			{time.Second, nil, "old", true},
			{grace, nil, "old", true},
			{grace + time.Second, nil, "old", false},
		}},
		{"an advertisement of another pool is none of its own", []step{
			first, {time.Second, renamed, "other", false},
		}},
	} {
		t.Run(test.story, func(t *testing.T) {
			var c config.Config
			for _, s := range test.steps {
				in, forBGP := lan(), forBGP()
				in.Speakers = map[string]Speaker{"n1": in.Speakers["n1"]}
				at := now.Add(s.at)
				c, _ = config.Parse(config.Objects{
					Pools: s.pools,
					L2Advertisements: []v1beta1.L2Advertisement{{
						ObjectMeta: metav1.ObjectMeta{Name: "l2"},
						Spec:       v1beta1.L2AdvertisementSpec{IPAddressPools: []string{s.selects}},
					}},
					BGPAdvertisements: []v1beta1.BGPAdvertisement{{
						ObjectMeta: metav1.ObjectMeta{Name: "bgp"},
						Spec:       v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{s.selects}},
					}},
					BGPPeers: []v1beta1.BGPPeer{{
						ObjectMeta: metav1.ObjectMeta{Name: "tor"},
						Spec: v1beta1.BGPPeerSpec{
							MyASN:       64512,
							PeerASN:     64513,
							PeerAddress: "10.0.0.1",
						},
					}},
				}, c, at)
				in.Config, in.Now, forBGP.Config, forBGP.Now = &c, at, &c, at
				if d := Decide(in); d.Announce != s.announced {
					t.Errorf("after %s, layer 2: announced %v, %s: %s", s.at, d.Announce, d.Reason, d.Message)
				}
				d := DecideBGP(forBGP)
				if d.Announce != s.announced {
					t.Errorf("after %s, BGP: announced %v, %s: %s", s.at, d.Announce, d.Reason, d.Message)
				}
				if s.announced && (len(d.Advertisements) != 1 || d.Advertisements[0].Name != "bgp") {
					t.Errorf("after %s, BGP: announced by %v", s.at, d.Advertisements)
				}
			}
		})
	}
}

// TestARenameKeepsTheAggregate: while the advertisement selects the pool by its
// former name only, the prefix is what it was.
func TestARenameKeepsTheAggregate(t *testing.T) {
	length := int32(24)
	objects := func(name string, created time.Time, ranges ...v1beta1.AddressRange) config.Objects {
		return config.Objects{
			Pools: []v1beta1.IPAddressPool{{
				ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(created)},
				Spec:       v1beta1.IPAddressPoolSpec{Addresses: ranges},
			}},
			BGPAdvertisements: []v1beta1.BGPAdvertisement{{
				ObjectMeta: metav1.ObjectMeta{Name: "bgp"},
				Spec: v1beta1.BGPAdvertisementSpec{
					IPAddressPools:    []string{"old"},
					AggregationLength: &length,
				},
			}},
			BGPPeers: []v1beta1.BGPPeer{{
				ObjectMeta: metav1.ObjectMeta{Name: "tor"},
				Spec:       v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "10.0.0.1"},
			}},
		}
	}
	prefix := func(c config.Config) string {
		in := forBGP()
		in.Config, in.Address = &c, netip.MustParseAddr("192.0.2.1")
		d := DecideBGP(in)
		if len(d.Advertisements) != 1 {
			return fmt.Sprintf("%s: %s", d.Reason, d.Message)
		}
		return fmt.Sprint("/", d.Advertisements[0].Length4)
	}
	c, _ := config.Parse(objects("old", now, "192.0.2.0/28"), config.Config{}, now)
	before := prefix(c)
	c, _ = config.Parse(objects("new", now.Add(time.Hour), "192.0.2.0/24"), c, now)
	if after := prefix(c); after != before || before != "/32" {
		t.Errorf("announced with %s, then with %s; want /32 both times", before, after)
	}
}
