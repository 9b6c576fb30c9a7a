package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
)

// pool is an IPAddressPool that was created age hours after the others.
func pool(name string, age int, addresses ...v1beta1.AddressRange) v1beta1.IPAddressPool {
	return v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{
			Name:              name,
			UID:               types.UID("uid-" + name),
			CreationTimestamp: metav1.NewTime(time.Unix(0, 0).Add(time.Duration(age) * time.Hour)),
		},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: addresses},
	}
}

func advertisement(name string, spec v1beta1.L2AdvertisementSpec) v1beta1.L2Advertisement {
	return v1beta1.L2Advertisement{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)},
		Spec:       spec,
	}
}

var badSelector = metav1.LabelSelector{
	MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}},
}

// told writes what Parse makes of pools: "name: ranges", and problems as
// "! name Reason".
func told(c Config, problems []Problem) []string {
	var out []string
	for _, p := range c.Pools {
		out = append(out, fmt.Sprintf("%s: %s", p.Name, ranges(p.Ranges)))
	}
	for _, p := range problems {
		out = append(out, fmt.Sprintf("! %s %s", p.Name, p.Reason))
	}
	return out
}

// Earlier versions gave IPv4 link-local addresses out: who has one keeps it, and nobody
// else gets one.
func TestALinkLocalAddressStaysWithItsService(t *testing.T) {
	objects := Objects{Pools: []v1beta1.IPAddressPool{pool("p", 0, "169.254.7.0/24", "192.0.2.0/30")}}
	c, problems := Parse(objects, Config{}, start)
	if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonInvalid ||
		!strings.Contains(problems[0].Message, "169.254.0.0/16, which is link-local") {
		t.Errorf("problems %+v", problems)
	}
	if p := c.Pool("p"); poolOf(c, "169.254.7.9") != "p" || p.Contains(ip("169.254.7.9")) ||
		!p.Contains(ip("192.0.2.1")) || !p.KeepOutside {
		t.Errorf("the pool is %+v", p)
	}
}

func TestParsePools(t *testing.T) {
	for _, test := range []struct {
		story string
		pools []v1beta1.IPAddressPool
		want  []string
	}{
		{"ranges are sorted and joined",
			[]v1beta1.IPAddressPool{
				pool("a", 0, "192.0.2.128/25", " 192.0.2.0 - 192.0.2.127 ", "2001:db8::/64"),
			},
			[]string{"a: 192.0.2.0/24 2001:db8::/64"}},
		{"the older pool keeps what both want, whatever their names",
			[]v1beta1.IPAddressPool{pool("a", 2, "192.0.2.0/24"), pool("z", 1, "192.0.2.10-192.0.2.19")},
			[]string{"a: 192.0.2.0-192.0.2.9 192.0.2.20-192.0.2.255",
				"z: 192.0.2.10-192.0.2.19", "! a Overlapping"}},
		{"of two of the same age the name decides",
			[]v1beta1.IPAddressPool{pool("b", 1, "192.0.2.0/25"), pool("a", 1, "192.0.2.0/24")},
			[]string{"a: 192.0.2.0/24", "b: ", "! b Overlapping"}},
		{"a pool that is lost to an older one still keeps its own from a younger",
			[]v1beta1.IPAddressPool{
				pool("a", 0, "192.0.2.0/28"),
				pool("b", 1, "192.0.2.8/29", "192.0.2.16/28"),
				pool("c", 2, "192.0.2.16/29"),
			},
			[]string{"a: 192.0.2.0/28", "b: 192.0.2.16/28", "c: ", "! b Overlapping", "! c Overlapping"}},
		{"one bad pool stops no other",
			[]v1beta1.IPAddressPool{pool("bad", 0, "192.0.2.0/33"), pool("good", 1, "192.0.2.0/24")},
			[]string{"bad: ", "good: 192.0.2.0/24", "! bad Invalid"}},
		{"what can be understood of a bad pool is in force",
			[]v1beta1.IPAddressPool{
				pool("bad", 0, "192.0.2.0/33", "198.51.100.0/24"),
				pool("good", 1, "192.0.2.0/24"),
			},
			[]string{"bad: 198.51.100.0/24", "good: 192.0.2.0/24", "! bad Invalid"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := Parse(Objects{Pools: test.pools}, Config{}, time.Time{})
			if diff := cmp.Diff(test.want, told(c, problems)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTheOverlapIsToldInWords(t *testing.T) {
	_, problems := Parse(Objects{Pools: []v1beta1.IPAddressPool{
		pool("old", 0, "192.0.2.8/29"),
		pool("new", 1, "192.0.2.0/28"),
	}}, Config{}, time.Time{})
	want := "Addresses belong to older pools, which keep them: 192.0.2.8/29 to pool old. " +
		"The rest of this pool is in use. " +
		"Remove them from spec.addresses of one of the pools."
	if len(problems) != 1 || problems[0].Message != want {
		t.Errorf("problems = %+v\nwant message %s", problems, want)
	}
}

func TestTheLastGoodVersionStays(t *testing.T) {
	good := Objects{
		Pools: []v1beta1.IPAddressPool{pool("p", 0, "192.0.2.0/24")},
		L2Advertisements: []v1beta1.L2Advertisement{advertisement("l", v1beta1.L2AdvertisementSpec{
			Interfaces: []string{"eth1"},
		})},
	}
	last, problems := Parse(good, Config{}, time.Time{})
	if len(problems) != 0 {
		t.Fatalf("problems = %v", problems)
	}
	bad := Objects{
		Pools: []v1beta1.IPAddressPool{pool("p", 0, "198.51.100.0-192.0.2.0")},
		L2Advertisements: []v1beta1.L2Advertisement{advertisement("l", v1beta1.L2AdvertisementSpec{
			NodeSelectors: []metav1.LabelSelector{badSelector},
		})},
	}
	c, problems := Parse(bad, last, time.Time{})
	diff := cmp.Diff([]string{"p: 192.0.2.0/24", "! p Invalid", "! l Invalid"}, told(c, problems))
	if diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(c.L2Advertisements) != 1 || c.L2Advertisements[0].Interfaces[0] != "eth1" {
		t.Errorf("advertisements = %+v", c.L2Advertisements)
	}
	for _, p := range problems {
		if !strings.Contains(p.Message, "Its last good version stays in force.") {
			t.Errorf("%s is not told that its last good version stays: %s", p.Name, p.Message)
		}
	}

	replaced := bad
	replaced.Pools[0].UID = "another object of the same name"
	c, _ = Parse(replaced, last, time.Time{})
	if len(c.Pools) != 1 || len(c.Pools[0].Ranges) != 0 {
		t.Errorf("a replaced object has a last good version: %+v", c.Pools)
	}
}

func TestAPoolForWhomIsUnreadableGivesNothingNew(t *testing.T) {
	o := pool("p", 0, "192.0.2.0/24")
	o.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{
		ServiceSelectors: []metav1.LabelSelector{badSelector},
	}
	c, problems := Parse(Objects{Pools: []v1beta1.IPAddressPool{o}}, Config{}, time.Time{})
	diff := cmp.Diff([]string{"p: 192.0.2.0/24", "! p Invalid"}, told(c, problems))
	if diff != "" || !c.Pools[0].Closed {
		t.Errorf("closed is %v, -want +got:\n%s", c.Pools[0].Closed, diff)
	}
}

func TestAnAdvertisementOfAMissingPoolServesTheOthers(t *testing.T) {
	c, problems := Parse(Objects{
		Pools: []v1beta1.IPAddressPool{pool("there", 0, "192.0.2.0/24")},
		L2Advertisements: []v1beta1.L2Advertisement{
			advertisement("l", v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"there", "nowhere"}}),
		},
	}, Config{}, time.Time{})
	if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonPoolNotFound ||
		!strings.Contains(problems[0].Message, "nowhere") {
		t.Errorf("problems = %+v", problems)
	}
	if !c.L2Advertisements[0].SelectsPool(c.Pool("there")) {
		t.Error("the pool that is there is not served")
	}
}

func TestPoolOf(t *testing.T) {
	c, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{
		pool("a", 0, "192.0.2.16/28"), pool("b", 1, "192.0.2.0/24", "2001:db8::10-2001:db8::20"),
	}}, Config{}, time.Time{})
	for addr, want := range map[string]string{
		"192.0.2.0":    "b",
		"192.0.2.15":   "b",
		"192.0.2.16":   "a",
		"192.0.2.31":   "a",
		"192.0.2.32":   "b",
		"192.0.3.0":    "",
		"2001:db8::f":  "",
		"2001:db8::10": "b",
		"2001:db8::20": "b",
		"2001:db8::21": "",
		"0.0.0.0":      "",
	} {
		got := ""
		if p := c.PoolOf(netip.MustParseAddr(addr)); p != nil {
			got = p.Name
		}
		if got != want {
			t.Errorf("PoolOf(%s) = %q, want %q", addr, got, want)
		}
	}
}

func TestAllocationSelects(t *testing.T) {
	gold := metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
	o := pool("p", 0, "192.0.2.0/24")
	o.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{
		Namespaces:         []string{"shop"},
		NamespaceSelectors: []metav1.LabelSelector{gold},
		ServiceSelectors:   []metav1.LabelSelector{gold},
	}
	c, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{o}}, Config{}, time.Time{})
	a := c.Pools[0].Allocation
	isGold := map[string]string{"tier": "gold"}
	if !a.SelectsNamespace("shop", nil) || !a.SelectsNamespace("other", isGold) ||
		a.SelectsNamespace("other", nil) {
		t.Error("namespaces: selected by name or by label")
	}
	if !a.SelectsService(isGold) || a.SelectsService(nil) {
		t.Error("services: selected by label")
	}
}
