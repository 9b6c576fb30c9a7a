package config

import (
	"flag"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
)

// Random runs leave no files behind: the seed that a failure prints is enough
// to repeat it.
func init() {
	for name, value := range map[string]string{"rapid.checks": "300", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

var start = time.Unix(1e9, 0)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func excluding(p v1beta1.IPAddressPool, excluded ...v1beta1.ExcludedRange) v1beta1.IPAddressPool {
	p.Spec.Exclude = excluded
	return p
}

func allowing(p v1beta1.IPAddressPool) v1beta1.IPAddressPool {
	p.Spec.AllowNodeAddresses = true
	return p
}

// withheld says why no pool gives out an address, be it excluded or a node's.
func withheld(c Config, addr netip.Addr) string {
	if w, ok := c.Withheld()[addr]; ok {
		return w.Why
	}
	return c.Excluded(addr)
}

// generation makes an object one that was edited to be of a generation, and
// whose Ready condition is about another.
func generation(p v1beta1.IPAddressPool, is, observed int64) v1beta1.IPAddressPool {
	p.Generation = is
	p.Status.Conditions = []metav1.Condition{{
		Type:               v1beta1.ConditionReady,
		Status:             metav1.ConditionTrue,
		ObservedGeneration: observed,
	}}
	return p
}

// poolOf names the pool of an address, "" for none.
func poolOf(c Config, addr string) string {
	if p := c.PoolOf(ip(addr)); p != nil {
		return p.Name
	}
	return ""
}

func TestExclude(t *testing.T) {
	nodes := map[netip.Addr]NodeAddress{
		ip("192.0.2.9"): {Node: "n1"}, ip("203.0.113.1"): {Node: "n2"}, ip("2001:db8::9"): {Node: "n1"},
	}
	for _, test := range []struct {
		story               string
		pools               []v1beta1.IPAddressPool
		nodes               map[netip.Addr]NodeAddress
		want                []string
		excluded, excluded6 int64 // of the first pool by name
		withheld            map[string]string
	}{
		{"a single address",
			[]v1beta1.IPAddressPool{excluding(pool("p", 0, "192.0.2.0/29"), "192.0.2.1")}, nil,
			[]string{"p: 192.0.2.0/32 192.0.2.2-192.0.2.7"},
			1, 0, map[string]string{"192.0.2.1": "pool p excludes it", "192.0.2.2": ""}},
		{"a CIDR", []v1beta1.IPAddressPool{excluding(pool("p", 0, "192.0.2.0/24"), "192.0.2.128/25")}, nil,
			[]string{"p: 192.0.2.0/25"}, 128, 0, map[string]string{"192.0.2.200": "pool p excludes it"}},
		{"a range, and overlapping entries count once",
			[]v1beta1.IPAddressPool{
				excluding(pool("p", 0, "192.0.2.0/28"), "192.0.2.4 - 192.0.2.7", "192.0.2.6/31"),
			}, nil,
			[]string{"p: 192.0.2.0/30 192.0.2.8/29"}, 4, 0, nil},
		{"of both families",
			[]v1beta1.IPAddressPool{
				excluding(pool("p", 0, "192.0.2.0/31", "2001:db8::/126"), "192.0.2.0", "2001:db8::2/127"),
			}, nil,
			[]string{"p: 192.0.2.1/32 2001:db8::/127"}, 1, 2, nil},
		{"what is outside the pool is not counted",
			[]v1beta1.IPAddressPool{
				excluding(pool("p", 0, "192.0.2.0/31"), "192.0.2.1-192.0.2.9", "2001:db8::/64"),
			}, nil,
			[]string{"p: 192.0.2.0/32"}, 1, 0, map[string]string{"192.0.2.5": "", "2001:db8::1": ""}},
		{"everything", []v1beta1.IPAddressPool{excluding(pool("p", 0, "192.0.2.0/24"), "0.0.0.0/0")}, nil,
			[]string{"p: "}, 256, 0, nil},
		{"half of a /64 is more than can be counted",
			[]v1beta1.IPAddressPool{excluding(pool("p", 0, "2001:db8::/64"), "2001:db8::/65")}, nil,
			[]string{"p: 2001:db8:0:0:8000::/65"}, 0, 0, nil},
		{"an entry of mixed families is told; the others are in force",
			[]v1beta1.IPAddressPool{
				excluding(pool("p", 0, "192.0.2.0/30"), "192.0.2.0-2001:db8::1", "192.0.2.3"),
				pool("q", 1, "198.51.100.0/24"),
			}, nil,
			[]string{"p: 192.0.2.0-192.0.2.2", "q: 198.51.100.0/24", "! p Invalid"}, 1, 0, nil},
		{"what an older pool excludes does not go to a younger one",
			[]v1beta1.IPAddressPool{
				excluding(pool("p", 0, "192.0.2.0/30"), "192.0.2.2/31"),
				pool("q", 1, "192.0.2.0/29"),
			}, nil,
			[]string{"p: 192.0.2.0/31", "q: 192.0.2.4/30", "! q Overlapping"},
			2, 0, map[string]string{"192.0.2.3": "pool p excludes it"}},
		{"the addresses of nodes",
			[]v1beta1.IPAddressPool{pool("p", 0, "192.0.2.8/30", "2001:db8::8/126")}, nodes,
			[]string{"p: 192.0.2.8/30 2001:db8::8/126"}, 0, 0,
			map[string]string{
				"192.0.2.9":   "node n1 has it",
				"2001:db8::9": "node n1 has it",
				"203.0.113.1": "",
				"192.0.2.10":  "",
			}},
		{"an excluded address of a node counts once",
			[]v1beta1.IPAddressPool{excluding(pool("p", 0, "192.0.2.8/30"), "192.0.2.9")}, nodes,
			[]string{"p: 192.0.2.8/32 192.0.2.10/31"},
			1, 0, map[string]string{"192.0.2.9": "pool p excludes it"}},
		{"a pool that gives out addresses of nodes",
			[]v1beta1.IPAddressPool{allowing(pool("p", 0, "192.0.2.8/30"))}, nodes,
			[]string{"p: 192.0.2.8/30"}, 0, 0, map[string]string{"192.0.2.9": ""}},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := Parse(Objects{Pools: test.pools, NodeAddresses: test.nodes}, Config{}, start)
			if test.story == "half of a /64 is more than can be counted" {
				if c.Pools[0].Excluded6 < 0 || c.PoolOf(ip("2001:db8::1")) != nil ||
					c.PoolOf(ip("2001:db8::8000:0:0:0")) == nil {
					t.Errorf("excluded %d, %v", c.Pools[0].Excluded6, told(c, problems))
				}
				return
			}
			if diff := cmp.Diff(test.want, told(c, problems)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if p := c.Pools[0]; p.Excluded4 != test.excluded || p.Excluded6 != test.excluded6 {
				t.Errorf("excluded are %d and %d, want %d and %d",
					p.Excluded4, p.Excluded6, test.excluded, test.excluded6)
			}
			for addr, want := range test.withheld {
				if got := withheld(c, ip(addr)); got != want {
					t.Errorf("%s is withheld because %q, want %q", addr, got, want)
				}
			}
		})
	}
}

func TestABadExcludeIsToldInWords(t *testing.T) {
	p := excluding(pool("p", 0, "192.0.2.0/24"), "192.0.2.1", "192.0.2.9-2001:db8::1")
	_, problems := Parse(Objects{Pools: []v1beta1.IPAddressPool{p}}, Config{}, start)
	want := "IPAddressPool: spec.exclude[1]: \"192.0.2.9-2001:db8::1\" mixes IPv4 and IPv6: " +
		"write one range for each family. " +
		"Correct the object. What can be understood of it is in force."
	if len(problems) != 1 || problems[0].Message != want {
		t.Errorf("problems are %+v\nwant %s", problems, want)
	}
}

func TestFieldsOfAPool(t *testing.T) {
	o := pool("p", 0, "192.0.2.0/24")
	o.Spec.ReuseDelay = &metav1.Duration{Duration: time.Minute}
	o.Spec.QuotaPerNamespace, o.Spec.Drain, o.Spec.AvoidBuggyIPs = 3, true, true
	o.Status.OutOfRange = []string{"198.51.100.1", "no address", "198.51.100.8/31", "2001:db8::1-2001:db8::3"}
	c, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{o}}, Config{}, start)
	p := c.Pools[0]
	outside := "198.51.100.1/32 198.51.100.8/31 2001:db8::1-2001:db8::3"
	if a := p.Allocatable(); a.Name != "p" || a.ReuseDelay != time.Minute || a.Quota != 3 ||
		!a.AvoidBuggy || !a.KeepOutside || len(a.Ranges) != 1 {
		t.Errorf("allocatable is %+v", a)
	}
	if !p.Drain || !p.AutoAssign || !p.Gone.IsZero() || ranges(p.Outside) != outside {
		t.Errorf("pool is %+v", p)
	}
	for addr, want := range map[string]string{
		"198.51.100.1":  "p",
		"198.51.100.3":  "",
		"198.51.100.9":  "p",
		"198.51.100.10": "",
		"2001:db8::2":   "p",
		"2001:db8::4":   "",
		"192.0.2.1":     "p",
	} {
		if got := poolOf(c, addr); got != want {
			t.Errorf("the pool of %s is %q, want %q", addr, got, want)
		}
	}
	o.Spec.OnShrink = v1beta1.OnShrinkMove
	if c, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{o}}, Config{}, start); c.Pools[0].KeepOutside {
		t.Error("onShrink Move keeps")
	}
}

// parse is Parse of pools that must raise no problem.
func parse(t *testing.T, last Config, at time.Time, pools ...v1beta1.IPAddressPool) Config {
	t.Helper()
	c, problems := Parse(Objects{Pools: pools}, last, at)
	if len(problems) != 0 {
		t.Errorf("problems are %+v", problems)
	}
	return c
}

func TestADeletedPoolStaysForAWhile(t *testing.T) {
	p, q := pool("p", 0, "192.0.2.0/24"), pool("q", 1, "198.51.100.0/24")
	again := p
	again.UID, again.CreationTimestamp = "another", metav1.NewTime(start)
	both := parse(t, Config{}, start, p, q)
	if !both.Recheck.IsZero() {
		t.Errorf("recheck at %s although nothing was deleted", both.Recheck)
	}

	gone := parse(t, both, start.Add(time.Second), q)
	tell, end := start.Add(time.Second+ReplaceQuiet), start.Add(time.Second+ReplaceGrace)
	if !gone.Recheck.Equal(tell) || gone.Pool("p").Told || poolOf(gone, "192.0.2.1") != "p" ||
		!gone.Pool("p").Gone.Equal(start.Add(time.Second)) {
		t.Errorf("recheck at %s, pool %q, gone %v",
			gone.Recheck, poolOf(gone, "192.0.2.1"), gone.Pool("p").Gone)
	}
	if !gone.Pool("q").Gone.IsZero() || !both.Pool("p").Gone.IsZero() {
		t.Error("a pool counts as deleted that is not, or was not then")
	}

	t.Run("after a while it is told", func(t *testing.T) {
		early := parse(t, gone, tell.Add(-time.Nanosecond), q)
		told := parse(t, gone, tell, q)
		if early.Pool("p").Told || !early.Recheck.Equal(tell) || !told.Pool("p").Told ||
			!told.Recheck.Equal(end) || gone.Pool("p").Told {
			t.Errorf("told %v, recheck at %s; then %v, %s",
				early.Pool("p").Told, early.Recheck, told.Pool("p").Told, told.Recheck)
		}
	})
	t.Run("looking again does not prolong it", func(t *testing.T) {
		late := parse(t, gone, end.Add(-time.Nanosecond), q)
		if !late.Recheck.Equal(end) || poolOf(late, "192.0.2.1") != "p" {
			t.Errorf("recheck at %s, pool %q", late.Recheck, poolOf(late, "192.0.2.1"))
		}
	})
	t.Run("then it is over", func(t *testing.T) {
		over := parse(t, gone, end, q)
		if !over.Recheck.IsZero() || poolOf(over, "192.0.2.1") != "" || len(over.Pools) != 1 {
			t.Errorf("recheck at %s, %v", over.Recheck, told(over, nil))
		}
	})
	t.Run("created again in time, nothing has happened", func(t *testing.T) {
		back := parse(t, gone, end.Add(-time.Second), q, again)
		if !back.Recheck.IsZero() || poolOf(back, "192.0.2.1") != "p" || !back.Pool("p").Gone.IsZero() {
			t.Errorf("recheck at %s, pool %q, gone %v",
				back.Recheck, poolOf(back, "192.0.2.1"), back.Pool("p").Gone)
		}
		if diff := cmp.Diff([]string{"p: 192.0.2.0/24", "q: 198.51.100.0/24"}, told(back, nil)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("created again with another range, the old still counts until that is judged", func(t *testing.T) {
		other := again
		other.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.128/25"}
		back := parse(t, gone, end.Add(-time.Second), q, other)
		if poolOf(back, "192.0.2.1") != "p" {
			t.Errorf("pool is %q", poolOf(back, "192.0.2.1"))
		}
		judged := parse(t, back, end, q, generation(other, 0, 0))
		if poolOf(judged, "192.0.2.1") != "" || poolOf(judged, "192.0.2.200") != "p" {
			t.Errorf("pools are %q and %q", poolOf(judged, "192.0.2.1"), poolOf(judged, "192.0.2.200"))
		}
	})
	t.Run("two go at different times, the first to end is rechecked", func(t *testing.T) {
		none := parse(t, gone, start.Add(5*time.Second))
		none = parse(t, none, start.Add(5*time.Second+ReplaceQuiet))
		if !none.Recheck.Equal(end) {
			t.Errorf("recheck at %s", none.Recheck)
		}
		one := parse(t, none, end)
		if !one.Recheck.Equal(start.Add(5*time.Second+ReplaceGrace)) || len(one.Pools) != 1 {
			t.Errorf("recheck at %s, %v", one.Recheck, told(one, nil))
		}
	})
	t.Run("deleted, back, deleted: the grace period starts again", func(t *testing.T) {
		back := parse(t, gone, start.Add(20*time.Second), q, again)
		gone := parse(t, back, start.Add(25*time.Second), q)
		if !gone.Pool("p").GraceEnds().Equal(start.Add(25*time.Second+ReplaceGrace)) || gone.Pool("p").Told {
			t.Errorf("the grace ends at %s, told %v", gone.Pool("p").GraceEnds(), gone.Pool("p").Told)
		}
	})
	t.Run("no problem is told of an object that is not there", func(t *testing.T) {
		older := pool("o", -1, "192.0.2.0/25")
		c := parse(t, gone, start.Add(2*time.Second), q, older)
		if poolOf(c, "192.0.2.1") != "o" || poolOf(c, "192.0.2.200") != "p" {
			t.Errorf("%v", told(c, nil))
		}
	})
	t.Run("it takes nothing over that an older pool gives up", func(t *testing.T) {
		older, smaller := pool("o", -1, "192.0.2.0/25"), pool("o", -1, "192.0.2.0/26")
		c, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{older, p}}, Config{}, start)
		c = parse(t, c, start, generation(smaller, 1, 1))
		if poolOf(c, "192.0.2.100") != "" || poolOf(c, "192.0.2.200") != "p" ||
			poolOf(c, "192.0.2.1") != "o" {
			t.Errorf("%v", told(c, nil))
		}
	})
	t.Run("what it excluded stays so", func(t *testing.T) {
		c := parse(t, Config{}, start, excluding(p, "192.0.2.1"))
		c = parse(t, c, start)
		if poolOf(c, "192.0.2.1") != "" || withheld(c, ip("192.0.2.1")) != "pool p excludes it" {
			t.Errorf("pool is %q, withheld because %q", poolOf(c, "192.0.2.1"), withheld(c, ip("192.0.2.1")))
		}
	})
}

// TestAPoolThatExistsComesBeforeADeletedOne: whatever their ages, and whether it
// was there before or is created now.
func TestAPoolThatExistsComesBeforeADeletedOne(t *testing.T) {
	const hour = 60
	sel := pool("sel", 0, "192.0.2.0/28")
	names := func(pools []*Pool) string {
		var out []string
		for _, p := range pools {
			out = append(out, p.Name)
		}
		return strings.Join(out, " ")
	}
	for _, test := range []struct {
		story         string
		before, after []v1beta1.IPAddressPool
		want          map[string]string // pool of an address, and those that had it
	}{
		{"renamed", []v1beta1.IPAddressPool{sel}, []v1beta1.IPAddressPool{pool("sel2", hour, "192.0.2.0/28")},
			map[string]string{"192.0.2.1": "sel2 < sel", "192.0.2.16": ""}},
		{"split, and a part is left out", []v1beta1.IPAddressPool{sel},
			[]v1beta1.IPAddressPool{pool("a", hour, "192.0.2.0/29"), pool("b", hour, "192.0.2.8/30")},
			map[string]string{"192.0.2.1": "a < sel", "192.0.2.9": "b < sel", "192.0.2.13": "sel"}},
		{"two are joined", []v1beta1.IPAddressPool{sel, pool("more", 1, "192.0.2.16/28")},
			[]v1beta1.IPAddressPool{pool("all", hour, "192.0.2.0/27")},
			map[string]string{"192.0.2.1": "all < sel", "192.0.2.17": "all < more"}},
		{"a younger one that overlaps was there before",
			[]v1beta1.IPAddressPool{sel, pool("lan", 1, "192.0.2.8-192.0.2.23")},
			[]v1beta1.IPAddressPool{pool("lan", 1, "192.0.2.8-192.0.2.23")},
			map[string]string{"192.0.2.1": "sel", "192.0.2.9": "lan < sel", "192.0.2.16": "lan"}},
		{"of two deleted ones with one address the older had it",
			[]v1beta1.IPAddressPool{sel, pool("lan", 1, "192.0.2.8-192.0.2.23")},
			[]v1beta1.IPAddressPool{pool("new", hour, "192.0.2.9/32")},
			map[string]string{
				"192.0.2.1":  "sel",
				"192.0.2.9":  "new < sel",
				"192.0.2.8":  "sel",
				"192.0.2.16": "lan",
			}},
		{"the new one excludes an address: the deleted one keeps it for its grace",
			[]v1beta1.IPAddressPool{sel},
			[]v1beta1.IPAddressPool{excluding(pool("sel2", hour, "192.0.2.0/28"), "192.0.2.1")},
			map[string]string{"192.0.2.1": "sel", "192.0.2.2": "sel2 < sel"}},
		{"what was excluded, the deleted one did not have",
			[]v1beta1.IPAddressPool{excluding(sel, "192.0.2.1")},
			[]v1beta1.IPAddressPool{pool("sel2", hour, "192.0.2.0/28")},
			map[string]string{"192.0.2.1": "sel2", "192.0.2.2": "sel2 < sel"}},
		{"what the deleted one kept outside",
			[]v1beta1.IPAddressPool{keepsOutside(sel, "198.51.100.1", "198.51.100.9")},
			[]v1beta1.IPAddressPool{pool("sel2", hour, "198.51.100.0/29")},
			map[string]string{"198.51.100.1": "sel2 < sel", "198.51.100.9": "sel", "198.51.100.2": "sel2"}},
		{"what another keeps outside", []v1beta1.IPAddressPool{
			keepsOutside(sel, "198.51.100.1"),
			keepsOutside(pool("lan", 1, "192.0.2.64/28"), "198.51.100.0/28"),
		},
			[]v1beta1.IPAddressPool{keepsOutside(pool("lan", 1, "192.0.2.64/28"), "198.51.100.0/28")},
			map[string]string{"198.51.100.1": "lan < sel", "198.51.100.2": "lan"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			before, _ := Parse(Objects{Pools: test.before}, Config{}, start)
			gone, _ := Parse(Objects{}, before, start) // in between there is none of them
			for story, last := range map[string]Config{"at once": before, "by and by": gone} {
				c, problems := Parse(Objects{Pools: test.after}, last, start.Add(time.Second))
				if len(problems) > 0 {
					t.Errorf("%s: problems are %+v", story, problems)
				}
				for addr, want := range test.want {
					got := poolOf(c, addr)
					if p := c.PoolOf(ip(addr)); p != nil {
						if had := names(c.Predecessors(p, ip(addr))); had != "" {
							got += " < " + had
						}
					}
					if got != want {
						t.Errorf("%s: %s is of %q, want %q", story, addr, got, want)
					}
				}
				over, _ := Parse(Objects{Pools: test.after}, c, start.Add(time.Second+ReplaceGrace))
				for addr, want := range test.want {
					of, _, _ := strings.Cut(want, " < ")
					if of == "sel" || of == "lan" && len(test.after) > 0 && test.after[0].Name != "lan" {
						of = ""
					}
					if got := poolOf(over, addr); got != of {
						t.Errorf("%s: in the end %s is of %q, want %q", story, addr, got, of)
					}
				}
			}
		})
	}
}

// keepsOutside makes a pool one of which Services hold addresses that it no longer
// contains.
func keepsOutside(p v1beta1.IPAddressPool, outside ...string) v1beta1.IPAddressPool {
	p = generation(p, 1, 1)
	p.Status.OutOfRange = outside
	return p
}

// TestAnAdvertisementOfADeletedPool: it serves what the pool had until the grace
// ends, and says so.
func TestAnAdvertisementOfADeletedPool(t *testing.T) {
	objects := Objects{
		Pools: []v1beta1.IPAddressPool{pool("p", 0, "192.0.2.0/24")},
		L2Advertisements: []v1beta1.L2Advertisement{{
			ObjectMeta: metav1.ObjectMeta{Name: "l2"},
			Spec:       v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"p", "none"}},
		}},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{{
			ObjectMeta: metav1.ObjectMeta{Name: "bgp"},
			Spec:       v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{"p"}},
		}},
		BGPPeers: []v1beta1.BGPPeer{{
			ObjectMeta: metav1.ObjectMeta{Name: "tor"},
			Spec: v1beta1.BGPPeerSpec{
				MyASN:       64512,
				PeerASN:     64513,
				PeerAddress: "10.0.0.1",
			},
		}},
	}
	told := func(problems []Problem) (out []string) {
		for _, p := range problems {
			if p.Reason == v1beta1.ReasonPoolNotFound {
				out = append(out, p.Name+": "+p.Message)
			}
		}
		return out
	}
	const end = " The other pools are announced. Create the pool or correct the name."
	const none = "spec.ipAddressPools names what is not there or not valid: none."
	const deleted = "spec.ipAddressPools names what was deleted: p, " +
		"whose addresses are announced until 2001-09-09T01:47:10Z."
	c, _ := Parse(objects, Config{}, start)
	objects.Pools = nil
	for _, step := range []struct {
		after time.Duration
		want  []string
	}{
		{0, []string{"l2: " + none + end}},
		{ReplaceQuiet, []string{"bgp: " + deleted + end, "l2: " + none + " " + deleted + end}},
		{ReplaceGrace, []string{
			"bgp: spec.ipAddressPools names what is not there or not valid: p." + end,
			"l2: spec.ipAddressPools names what is not there or not valid: none, p." + end,
		}},
	} {
		var problems []Problem
		c, problems = Parse(objects, c, start.Add(step.after))
		if diff := cmp.Diff(step.want, told(problems)); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.after, diff)
		}
	}
}

// TestAPoolThatNeverWasGood: however often it is read, it has no last good version.
func TestAPoolThatNeverWasGood(t *testing.T) {
	half := pool("p", 0, "192.0.2.0/25", "192.0.2.300/32")
	closed := pool("q", 0, "198.51.100.0/24")
	closed.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{ServiceSelectors: []metav1.LabelSelector{
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}},
	}}
	var c Config
	for range 3 {
		var problems []Problem
		c, problems = Parse(Objects{Pools: []v1beta1.IPAddressPool{half, closed}}, c, start)
		if len(problems) != 2 ||
			!strings.HasSuffix(problems[0].Message, "What can be understood of it is in force.") ||
			!strings.HasSuffix(problems[1].Message,
				"it gives nothing new; Services keep what they have of it.") {
			t.Errorf("problems are %+v", problems)
		}
	}
	// An edit counts, though not all of it can be understood; and the speakers wait
	// for the controller's word of it.
	half.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.128/25", "192.0.2.300/32"}
	c, _ = Parse(Objects{Pools: []v1beta1.IPAddressPool{generation(half, 2, 1)}}, c, start)
	if poolOf(c, "192.0.2.200") != "p" || poolOf(c, "192.0.2.1") != "p" ||
		c.Pool("p").Contains(ip("192.0.2.1")) {
		t.Errorf("%v", told(c, nil))
	}
	c, _ = Parse(Objects{Pools: []v1beta1.IPAddressPool{generation(half, 2, 2)}}, c, start)
	if poolOf(c, "192.0.2.1") != "" {
		t.Errorf("%v", told(c, nil))
	}
	// Once it was good, that version stays.
	good := pool("p", 0, "192.0.2.0/25")
	c, _ = Parse(Objects{Pools: []v1beta1.IPAddressPool{good}}, c, start)
	c, problems := Parse(Objects{Pools: []v1beta1.IPAddressPool{half}}, c, start)
	if poolOf(c, "192.0.2.1") != "p" ||
		!strings.HasSuffix(problems[0].Message, "Its last good version stays in force.") {
		t.Errorf("%v", told(c, problems))
	}
}

func TestAnEditCountsOnceItIsJudged(t *testing.T) {
	c := parse(t, Config{}, start, generation(pool("p", 0, "192.0.2.0/24"), 1, 1))
	want := func(story string, pools ...string) {
		t.Helper()
		got := []string{poolOf(c, "192.0.2.1"), poolOf(c, "192.0.2.100"), poolOf(c, "192.0.2.200")}
		if !slices.Equal(got, pools) {
			t.Errorf("%s: pools are %q, want %q", story, got, pools)
		}
	}
	want("at first", "p", "p", "p")
	c = parse(t, c, start, generation(pool("p", 0, "192.0.2.64-192.0.2.255"), 2, 1))
	want("shrunk", "p", "p", "p")
	c = parse(t, c, start, generation(pool("p", 0, "192.0.2.64-192.0.2.127"), 3, 1))
	want("shrunk again", "p", "p", "p")
	if rs := ranges(c.Pools[0].Ranges); rs != "192.0.2.64/26" {
		t.Errorf("given out of are %s", rs)
	}
	c = parse(t, c, start, generation(pool("p", 0, "192.0.2.64-192.0.2.127"), 3, 2))
	want("the first edit was judged, the second not", "p", "p", "p")
	judged := generation(pool("p", 0, "192.0.2.64-192.0.2.127"), 3, 3)
	judged.Status.OutOfRange = []string{"192.0.2.1"}
	c = parse(t, c, start, judged)
	want("judged, and one address is held outside", "p", "p", "")
	// An address that another pool contains now is that pool's.
	c = parse(t, c, start, generation(pool("p", 0, "192.0.2.64-192.0.2.127"), 4, 3),
		generation(pool("q", 1, "192.0.2.0/26"), 1, 1))
	want("another pool has it", "q", "p", "")
	// What is excluded is treated like what is no longer listed.
	c = parse(t, Config{}, start, generation(pool("p", 0, "192.0.2.0/24"), 1, 1))
	c = parse(t, c, start, excluding(generation(pool("p", 0, "192.0.2.0/24"), 2, 1), "192.0.2.1"))
	want("excluded, not judged", "p", "p", "p")
	c = parse(t, c, start, excluding(generation(pool("p", 0, "192.0.2.0/24"), 2, 2), "192.0.2.1"))
	want("excluded, judged", "", "p", "p")
}

func TestOfTwoPoolsThatKeepAnAddressTheMoreExactCounts(t *testing.T) {
	p, q := pool("p", 0, "192.0.2.0/25"), pool("q", 1, "192.0.2.128/25")
	p.Status.OutOfRange = []string{"198.51.100.1-198.51.100.99"}
	q.Status.OutOfRange = []string{"198.51.100.7", "192.0.2.5"}
	c := parse(t, Config{}, start, p, q)
	for addr, want := range map[string]string{
		"198.51.100.6":   "p",
		"198.51.100.7":   "q",
		"198.51.100.8":   "p",
		"192.0.2.5":      "p",
		"198.51.100.100": "",
	} {
		if got := poolOf(c, addr); got != want {
			t.Errorf("the pool of %s is %q, want %q", addr, got, want)
		}
	}
}

// TestAPoolThatCannotBeReadMovesNothing: what the rest of it says is not known.
func TestAPoolThatCannotBeReadMovesNothing(t *testing.T) {
	broken := pool("p", 0, "192.0.2.0/25", "192.0.2.300/32")
	broken.Spec.OnShrink = v1beta1.OnShrinkMove
	broken.Status.OutOfRange = []string{"198.51.100.1"}
	c, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{broken}}, Config{}, start)
	if !c.Pools[0].KeepOutside || poolOf(c, "198.51.100.1") != "p" {
		t.Errorf("without a good version: keeps %v, pool %q",
			c.Pools[0].KeepOutside, poolOf(c, "198.51.100.1"))
	}
	good := pool("p", 0, "192.0.2.0/24")
	good.Spec.OnShrink = v1beta1.OnShrinkMove
	c, _ = Parse(Objects{Pools: []v1beta1.IPAddressPool{broken}}, parse(t, Config{}, start, good), start)
	if c.Pools[0].KeepOutside || poolOf(c, "192.0.2.200") != "p" || poolOf(c, "198.51.100.1") != "p" {
		t.Errorf("with one: keeps %v, pools %q and %q",
			c.Pools[0].KeepOutside, poolOf(c, "192.0.2.200"), poolOf(c, "198.51.100.1"))
	}
}

func TestABadEditKeepsWhatTheLastGoodVersionExcludes(t *testing.T) {
	c := parse(t, Config{}, start, excluding(pool("p", 0, "192.0.2.0/30"), "192.0.2.0"))
	objects := Objects{Pools: []v1beta1.IPAddressPool{excluding(pool("p", 0, "192.0.2.0/30"), "x")}}
	c, problems := Parse(objects, c, start)
	if diff := cmp.Diff([]string{"p: 192.0.2.1-192.0.2.3", "! p Invalid"}, told(c, problems)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if c.Pools[0].Excluded4 != 1 {
		t.Errorf("excluded are %d", c.Pools[0].Excluded4)
	}
}

// everythingTold writes all that two Configs of the same objects must agree
// on.
func everythingTold(c Config, problems []Problem) []string {
	out := told(c, problems)
	for _, p := range problems {
		out = append(out, p.Message)
	}
	for _, p := range c.Pools {
		out = append(out, fmt.Sprintf("%s excludes %d and %d, gone %v, outside %v",
			p.Name, p.Excluded4, p.Excluded6, p.Gone, p.Outside))
	}
	for i := range 64 {
		addr := fmt.Sprintf("192.0.2.%d", i)
		out = append(out, addr+" "+poolOf(c, addr)+" "+withheld(c, ip(addr)))
	}
	return append(out, c.Recheck.String())
}

// Whatever pools there are: the order in which they are listed does not
// matter, no address is in two of them, nothing withheld is in one, and what
// is in the ranges or excluded adds up.
func TestTheOrderOfObjectsDoesNotMatter(t *testing.T) {
	address := rapid.IntRange(0, 63)
	aRange := rapid.Custom(func(t *rapid.T) string {
		from := address.Draw(t, "from")
		return fmt.Sprintf("192.0.2.%d-192.0.2.%d", from, rapid.IntRange(from, 63).Draw(t, "to"))
	})
	object := func(t *rapid.T, name string) v1beta1.IPAddressPool {
		p := pool(name, rapid.IntRange(0, 3).Draw(t, "age"))
		for _, r := range rapid.SliceOfN(aRange, 1, 3).Draw(t, "addresses") {
			p.Spec.Addresses = append(p.Spec.Addresses, v1beta1.AddressRange(r))
		}
		for _, r := range rapid.SliceOfN(aRange, 0, 2).Draw(t, "exclude") {
			p.Spec.Exclude = append(p.Spec.Exclude, v1beta1.ExcludedRange(r))
		}
		if rapid.IntRange(0, 9).Draw(t, "bad") == 0 {
			p.Spec.Addresses = append(p.Spec.Addresses, "192.0.2.300/32")
		}
		if rapid.Bool().Draw(t, "held outside") {
			p.Status.OutOfRange = []string{fmt.Sprintf("192.0.2.%d", address.Draw(t, "outside"))}
		}
		return generation(p, rapid.Int64Range(1, 2).Draw(t, "generation"), 1)
	}
	some := func(t *rapid.T, label string) []v1beta1.IPAddressPool {
		var out []v1beta1.IPAddressPool
		outside := map[string]bool{}
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			if !rapid.Bool().Draw(t, label) {
				continue
			}
			p := object(t, name)
			// No two pools keep the same address.
			p.Status.OutOfRange = slices.DeleteFunc(p.Status.OutOfRange, func(a string) bool {
				return outside[a]
			})
			for _, a := range p.Status.OutOfRange {
				outside[a] = true
			}
			out = append(out, p)
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		nodes := map[netip.Addr]NodeAddress{}
		for _, n := range rapid.SliceOfN(address, 0, 3).Draw(t, "nodes") {
			nodes[ip(fmt.Sprintf("192.0.2.%d", n))] = NodeAddress{Node: fmt.Sprint("n", n)}
		}
		first, second := some(t, "first"), some(t, "second")
		last, _ := Parse(Objects{Pools: first, NodeAddresses: nodes}, Config{}, start)
		lastToo, _ := Parse(Objects{
			Pools:         rapid.Permutation(first).Draw(t, "first in another order"),
			NodeAddresses: nodes,
		}, Config{}, start)
		at := start.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
		c, problems := Parse(Objects{Pools: second, NodeAddresses: nodes}, last, at)
		again, problemsAgain := Parse(Objects{
			Pools:         rapid.Permutation(second).Draw(t, "second in another order"),
			NodeAddresses: nodes,
		}, lastToo, at)
		if diff := cmp.Diff(everythingTold(c, problems), everythingTold(again, problemsAgain)); diff != "" {
			t.Fatalf("another order, another outcome:\n%s", diff)
		}
		for i := range 64 {
			addr := ip(fmt.Sprintf("192.0.2.%d", i))
			var in []string
			for _, p := range c.Pools {
				for _, r := range p.Ranges {
					if r.Contains(addr) {
						in = append(in, p.Name)
					}
				}
			}
			if len(in) > 1 {
				t.Fatalf("%s is in pools %v", addr, in)
			}
			_, ofNode := nodes[addr]
			if _, withheld := c.Withheld()[addr]; withheld != (ofNode && len(in) == 1) {
				t.Fatalf("%s is in pools %v, and of a node: %v; withheld: %v", addr, in, ofNode, withheld)
			}
			if len(in) == 1 && poolOf(c, addr.String()) != in[0] {
				t.Fatalf("%s is in the ranges of pool %s, but of pool %q",
					addr, in[0], poolOf(c, addr.String()))
			}
		}
		for _, p := range c.Pools {
			if p.Excluded4 < 0 || p.Excluded4 > 64 || p.Excluded4 == math.MaxInt64 {
				t.Fatalf("pool %s excludes %d", p.Name, p.Excluded4)
			}
		}
		for _, problem := range problems {
			if strings.TrimSpace(problem.Message) == "" || c.Pool(problem.Name) == nil ||
				!c.Pool(problem.Name).Gone.IsZero() {
				t.Fatalf("problem of nothing: %+v", problem)
			}
		}
	})
}
