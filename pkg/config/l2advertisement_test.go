package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

// parseOne is what Parse makes of one advertisement, after last.
func parseOne(last Config, spec v1beta1.L2AdvertisementSpec) (Config, []Problem) {
	objects := Objects{L2Advertisements: []v1beta1.L2Advertisement{advertisement("l", spec)}}
	return Parse(objects, last, time.Time{})
}

func TestInterfacePatternsMatchWholeNames(t *testing.T) {
	for _, test := range []struct {
		story   string
		pattern string
		yes, no []string
	}{
		{"a plain name is that name",
			"eth0", []string{"eth0"}, []string{"eth", "eth00", "veth0", "eth0.100", ""}},
		{"of two alternatives both are whole",
			"eth0|bond0", []string{"eth0", "bond0"}, []string{"eth0.1", "xbond0"}},
		{"a class with a repetition", "eth[0-9]+", []string{"eth0", "eth12"}, []string{"veth0", "eth0.100"}},
		{"anchors may be written all the same",
			"^en[op].*$", []string{"eno1", "enp3s0"}, []string{"ens3", "xeno1"}},
		{"flags hold for the whole of it", "(?i)LAN|wan", []string{"lan", "WAN"}, []string{"lan0"}},
		{"several lines change nothing", "(?m)^eth0$", []string{"eth0"}, []string{"eth0\nx", "x\neth0"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := parseOne(Config{}, v1beta1.L2AdvertisementSpec{
				InterfacePatterns: []string{test.pattern}, Interfaces: []string{"named"},
			})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			a := c.L2Advertisements[0]
			for _, name := range append(test.yes, "named") {
				if !a.NamesInterface(name) {
					t.Errorf("%s does not match %q", test.pattern, name)
				}
			}
			for _, name := range test.no {
				if a.NamesInterface(name) {
					t.Errorf("%s matches %q", test.pattern, name)
				}
			}
		})
	}
}

func TestABadInterfacePatternIsNamedAndTheLastGoodVersionStays(t *testing.T) {
	last, problems := parseOne(Config{}, v1beta1.L2AdvertisementSpec{
		InterfacePatterns: []string{"eth[01]"}, Failback: v1beta1.FailbackImmediate,
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, bad := range []string{
		"eth[", "a)|(b", `\Qeth`, "*", "(?<=x)y", strings.Repeat("(a{99})", 2) + "{999}",
	} {
		spec := v1beta1.L2AdvertisementSpec{InterfacePatterns: []string{"bond0", bad, "(also bad"}}
		c, problems := parseOne(last, spec)
		if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonInvalid {
			t.Errorf("%s: the problems are %v", bad, problems)
			continue
		}
		for _, part := range []string{
			"spec.interfacePatterns[1]", "spec.interfacePatterns[2]", "(also bad",
			"Its last good version stays in force.",
		} {
			if !strings.Contains(problems[0].Message, part) {
				t.Errorf("%s: the message has no %s: %s", bad, part, problems[0].Message)
			}
		}
		a := c.L2Advertisements[0]
		if len(a.InterfacePatterns) != 1 || !a.InterfacePatterns[0].MatchString("eth1") ||
			!a.FailbackImmediate {
			t.Errorf("%s: in force is %+v", bad, a)
		}
		if c, _ := parseOne(Config{}, spec); len(c.L2Advertisements) != 0 {
			t.Errorf("%s: without a good version before, in force is %+v", bad, c.L2Advertisements[0])
		}
	}
}

func TestFailbackAndAnnouncement(t *testing.T) {
	duration := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	for _, test := range []struct {
		story     string
		spec      v1beta1.L2AdvertisementSpec
		immediate bool
		want      AnnouncementPolicy
	}{
		{"nothing is said", v1beta1.L2AdvertisementSpec{}, false, AnnouncementPolicy{}},
		{"Never is what it is without a word",
			v1beta1.L2AdvertisementSpec{Failback: v1beta1.FailbackNever}, false, AnnouncementPolicy{}},
		{"a node that returns takes back",
			v1beta1.L2AdvertisementSpec{Failback: v1beta1.FailbackImmediate}, true, AnnouncementPolicy{}},
		{"everything is said",
			v1beta1.L2AdvertisementSpec{Announcement: &v1beta1.AnnouncementPolicy{
				Count:           3,
				Interval:        duration(time.Second),
				RefreshInterval: duration(time.Hour),
			}}, false, AnnouncementPolicy{Count: 3, Interval: time.Second, Refresh: time.Hour}},
		{"0s is never, and not unsaid",
			v1beta1.L2AdvertisementSpec{
				Announcement: &v1beta1.AnnouncementPolicy{RefreshInterval: duration(0)},
			},
			false, AnnouncementPolicy{Refresh: -1}},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := parseOne(Config{}, test.spec)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			a := c.L2Advertisements[0]
			if a.FailbackImmediate != test.immediate {
				t.Errorf("FailbackImmediate = %v", a.FailbackImmediate)
			}
			if diff := cmp.Diff(test.want, a.Announcement); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestLingerPeriod: what is not said is none. What is out of range is no good version of the object.
func TestLingerPeriod(t *testing.T) {
	of := func(d time.Duration) v1beta1.L2AdvertisementSpec {
		return v1beta1.L2AdvertisementSpec{
			HandOver: &v1beta1.HandOverPolicy{LingerPeriod: &metav1.Duration{Duration: d}},
		}
	}
	last, problems := parseOne(Config{}, of(time.Minute))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, test := range []struct {
		story string
		spec  v1beta1.L2AdvertisementSpec
		want  time.Duration
		says  string
	}{
		{"nothing is said", v1beta1.L2AdvertisementSpec{}, 0, ""},
		{"not of the period", v1beta1.L2AdvertisementSpec{HandOver: &v1beta1.HandOverPolicy{}}, 0, ""},
		{"none", of(0), 0, ""},
		{"ten minutes", of(10 * time.Minute), 10 * time.Minute, ""},
		{"an hour", of(time.Hour), time.Hour, ""},
		{"more than an hour", of(time.Hour + time.Second), time.Minute, "1h0m1s is not from 0s to 1h0m0s"},
		{"less than none", of(-time.Second), time.Minute, "-1s is not from 0s to 1h0m0s"},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := parseOne(last, test.spec)
			if got := c.L2Advertisements[0].LingerPeriod; got != test.want {
				t.Errorf("in force is %s, want %s", got, test.want)
			}
			if test.says == "" {
				if len(problems) > 0 {
					t.Error(problems)
				}
				return
			}
			if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonInvalid ||
				!strings.Contains(problems[0].Message, "spec.handOver.lingerPeriod: "+test.says) ||
				!strings.Contains(problems[0].Message, "Its last good version stays in force.") {
				t.Errorf("the problems are %v", problems)
			}
			if c, _ := parseOne(Config{}, test.spec); len(c.L2Advertisements) > 0 {
				t.Errorf("without a good version before, in force is %+v", c.L2Advertisements[0])
			}
		})
	}
}
