package main

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/settings/settingstest"
)

var process = settingstest.Process[processSettings]{Command: command, AddFlags: addFlags}

func TestEveryFlagIsReadAndEveryFieldHasAFlag(t *testing.T) { process.CheckFields(t) }

func TestHelpExplainsEveryFlag(t *testing.T) { process.CheckHelp(t) }

func TestUnknownKeyOfTheFileIsRefused(t *testing.T) { process.CheckUnknownKey(t) }

func TestFlagOutweighsEnvironmentOutweighsFile(t *testing.T) {
	file := settingstest.File(t, "leader-lease-duration: 30s\nlog-level: warn\n")
	for _, test := range []struct {
		story string
		args  []string
		env   string
		want  time.Duration
	}{
		{"nothing is said", nil, "", 6 * time.Second},
		{"a file", []string{file}, "", 30 * time.Second},
		{"the environment outweighs the file", []string{file}, "20s", 20 * time.Second},
		{"a flag outweighs both", []string{file, "--leader-lease-duration=10s"}, "20s", 10 * time.Second},
	} {
		t.Run(test.story, func(t *testing.T) {
			t.Setenv("BERTH_LEADER_LEASE_DURATION", test.env)
			if got := process.Started(t, test.args...).Lease; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := process.Started(t).validate(); err != nil {
		t.Error(err)
	}
	// What is missing then is a cluster.
	if err := process.Refusal(t); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("got %v", err)
	}
}

func TestBadValuesAreRefusedByName(t *testing.T) {
	for _, test := range []struct{ flag, value string }{
		{"leader-lease-duration", "2s"},
		{"leader-lease-duration", "6m"},
		{"leader-lease-duration", "0s"},
		{"log-level", "loud"},
		{"log-format", "xml"},
		{"namespace", ""},
		{"metrics-bind-address", "9740"},
		{"metrics-bind-address", ""},
	} {
		t.Run(test.flag+"="+test.value, func(t *testing.T) {
			err := process.Refusal(t, "--"+test.flag+"="+test.value)
			settingstest.CheckNames(t, err, test.flag)
		})
	}
}

func TestBadHealthAddressIsRefusedByName(t *testing.T) {
	err := process.Started(t, "--health-bind-address=localhost").validate()
	settingstest.CheckNames(t, err, "health-bind-address")
}

func TestBadVariablesAreRefusedByName(t *testing.T) {
	t.Setenv("BERTH_LEADER_ELECT", "perhaps")
	t.Setenv("BERTH_LEADER_LEASE_DURATION", "6")
	err := process.Refusal(t)
	settingstest.CheckNames(t, err, "leader-elect")
	settingstest.CheckNames(t, err, "leader-lease-duration")
}

func TestAllBadValuesAreToldAtOnce(t *testing.T) {
	err := process.Refusal(t, "--leader-lease-duration=1s", "--metrics-bind-address=x")
	for _, flag := range []string{"--leader-lease-duration", "--metrics-bind-address"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("got %v, want %s in it", err, flag)
		}
	}
}
