package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/settings/settingstest"
)

var process = settingstest.Process[processSettings]{Command: command, AddFlags: addFlags}

func TestEveryFlagIsReadAndEveryFieldHasAFlag(t *testing.T) { process.CheckFields(t) }

func TestHelpExplainsEveryFlag(t *testing.T) { process.CheckHelp(t) }

func TestUnknownKeyOfTheFileIsRefused(t *testing.T) { process.CheckUnknownKey(t) }

// required are the settings without a default.
var required = []string{"--node-name=node1", "--member-address=192.0.2.1"}

func TestFlagOutweighsEnvironmentOutweighsFile(t *testing.T) {
	file := settingstest.File(t, "member-settle-timeout: 30s\nexclude-interfaces: "+
		"['^eth[0-9]{1,3}$', other]\n")
	words := settingstest.File(t, "exclude-interfaces: |\n  ^eth[0-9]{1,3}$\n  other\n")
	for _, test := range []struct {
		story    string
		args     []string
		env, too string
		want     time.Duration
		links    []string
	}{
		{"nothing is said", nil, "", "", 5 * time.Second, nil},
		{"a file", []string{file}, "", "", 30 * time.Second, []string{"^eth[0-9]{1,3}$", "other"}},
		{"a file with a text for a list",
			[]string{words}, "", "", 5 * time.Second, []string{"^eth[0-9]{1,3}$", "other"}},
		{"the environment outweighs the file", []string{file}, "20s",
			"^env[0-9]{1,3}$ other", 20 * time.Second, []string{"^env[0-9]{1,3}$", "other"}},
		{"a line for each does too",
			[]string{file}, "20s", "^env\nother\n", 20 * time.Second, []string{"^env", "other"}},
		{"a flag outweighs both",
			[]string{file, "--member-settle-timeout=10s",
				"--exclude-interfaces=^flag[0-9]{1,3}$", "--exclude-interfaces=other"},
			"20s", "^env", 10 * time.Second, []string{"^flag[0-9]{1,3}$", "other"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			t.Setenv("BERTH_MEMBER_SETTLE_TIMEOUT", test.env)
			t.Setenv("BERTH_EXCLUDE_INTERFACES", test.too)
			got := process.Started(t, test.args...)
			if got.Member.SettleTimeout != test.want || !slices.Equal(got.ExcludeLinks, test.links) {
				t.Errorf("got %s and %q, want %s and %q",
					got.Member.SettleTimeout, got.ExcludeLinks, test.want, test.links)
			}
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := process.Started(t, required...).validate(); err != nil {
		t.Error(err)
	}
	// What is missing then is a cluster.
	if err := process.Refusal(t, required...); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("got %v", err)
	}
	if port := process.Started(t, required...).Member.Port; port != 7947 {
		t.Errorf("the default of --member-port is %d: change the manifests too", port)
	}
}

func TestBadValuesAreRefusedByName(t *testing.T) {
	for _, test := range []struct{ flag, value string }{
		{"node-name", ""},
		{"member-address", ""},
		{"member-address", "node1"},
		{"member-address", "192.0.2.1:7947"},
		{"member-address", "0.0.0.0"}, // members could not reach it
		{"member-port", "0"},
		{"member-probe-interval", "49ms"},
		{"member-probe-interval", "2m"},
		{"member-probe-timeout", "9ms"},
		{"member-probe-timeout", "250ms"}, // the interval: it must be less
		{"member-suspicion", "-1"},
		{"member-suspicion", "21"},
		{"member-settle-timeout", "-1s"},
		{"member-settle-timeout", "6m"},
		{"member-profile", "slow"},
		{"member-profile", ""},
		{"node-probe-interval", "9ms"},
		{"node-probe-interval", "2m"},
		{"node-probe-misses", "1"},
		{"node-probe-misses", "21"},
		{"conflict-probe-count", "-1"},
		{"conflict-probe-count", "11"},
		{"conflict-probe-interval", "9ms"},
		{"conflict-probe-interval", "11s"},
		{"self-check-interval", "9s"},
		{"self-check-interval", "25h"},
		{"restart-hold", "-1s"},
		{"restart-hold", "11m"},
		{"silence-hold", "-1s"},
		{"silence-hold", "11m"},
		{"hand-over-timeout", "-1s"},
		{"hand-over-timeout", "2m"},
		{"isolation-timeout", "9s"},
		{"isolation-timeout", "25h"},
		{"exclude-interfaces", "eth["},
		{"exclude-interfaces", ""}, // an empty pattern matches every interface
		{"log-level", "loud"},
		{"log-format", "xml"},
		{"namespace", ""},
		{"member-secret", ""},
		{"metrics-bind-address", "9740"},
	} {
		t.Run(test.flag+"="+test.value, func(t *testing.T) {
			err := process.Refusal(t, append(slices.Clone(required), "--"+test.flag+"="+test.value)...)
			settingstest.CheckNames(t, err, test.flag)
		})
	}
}

// TestWithoutLayer2NothingOfMembersIsRequired, and without both nothing would be announced.
func TestWithoutLayer2NothingOfMembersIsRequired(t *testing.T) {
	without := []string{"--node-name=node1", "--layer2=false", "--member-secret="}
	if err := process.Started(t, without...).validate(); err != nil {
		t.Error(err)
	}
	err := process.Refusal(t, append(without, "--bgp=false")...)
	settingstest.CheckNames(t, err, "bgp")
}

func TestBadVariablesAreRefusedByName(t *testing.T) {
	t.Setenv("BERTH_MEMBER_PORT", "70000")
	t.Setenv("BERTH_MEMBER_SUSPICION", "three")
	t.Setenv("BERTH_MEMBER_PROFILE", "fst")
	err := process.Refusal(t, required...)
	settingstest.CheckNames(t, err, "member-profile")
	settingstest.CheckNames(t, err, "member-port")
	settingstest.CheckNames(t, err, "member-suspicion")
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 3 {
		t.Errorf("of three settings it says %q", lines)
	}
}

func TestAllBadValuesAreReportedAtOnce(t *testing.T) {
	err := process.Refusal(t, "--conflict-probe-count=-1", "--member-suspicion=21")
	for _, flag := range []string{
		"--node-name", "--member-address", "--conflict-probe-count", "--member-suspicion",
	} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("got %v, want %s in it", err, flag)
		}
	}
}

func TestExcludedLinks(t *testing.T) {
	for _, test := range []struct {
		story string
		args  []string
		link  string
		want  bool
	}{
		{"container links are excluded unasked", nil, "veth1a2b", true},
		{"others are not", nil, "eth0", false},
		{"what is said replaces that", []string{"--exclude-interfaces=^storage"}, "veth1a2b", false},
		{"and is a pattern", []string{"--exclude-interfaces=^storage"}, "storage0", true},
		{"a comma is part of it", []string{"--exclude-interfaces=^eth[0-9]{1,3}$"}, "eth100", true},
		{"there can be several",
			[]string{"--exclude-interfaces=^storage", "--exclude-interfaces=^eth"}, "eth0", true},
		{"or one that excludes nothing", []string{"--exclude-interfaces=^$"}, "veth1a2b", false},
	} {
		t.Run(test.story, func(t *testing.T) {
			patterns, err := process.Started(t, test.args...).excludedLinks()
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool {
				return p.MatchString(test.link)
			}); got != test.want {
				t.Errorf("%s is excluded: %t", test.link, got)
			}
		})
	}
}

func TestProfiles(t *testing.T) {
	for _, profile := range []string{"fast", "balanced", "quiet"} {
		got := process.Started(t, append(slices.Clone(required), "--member-profile="+profile)...)
		if err := got.validate(); err != nil {
			t.Errorf("%s: %v", profile, err)
		}
	}
	s := process.Started(t, "--member-profile=quiet", "--member-probe-interval=2s", "--node-probe-misses=7")
	if timing := s.Member.timing(); timing.ProbeInterval != 2*time.Second || timing.SuspicionMult != 4 {
		t.Errorf("a single value outweighs the profile's: got %+v", timing)
	}
	if interval, misses := s.Member.nodeProbes(); interval != 500*time.Millisecond || misses != 7 {
		t.Errorf("got %s and %d", interval, misses)
	}
}
