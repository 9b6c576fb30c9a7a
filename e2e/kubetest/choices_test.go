package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

// TestSelection: which tests are run depends on how addresses are announced, and the others have a reason.
func TestSelection(t *testing.T) {
	const (
		allNodes = "target all nodes with endpoints"
		sticky   = "have session affinity work for LoadBalancer service with Cluster"
		rolling  = "rolling update with externalTrafficPolicy=Cluster"
		health   = "only target nodes with endpoints"
		ranges   = "only allow access from service loadbalancer source ranges"
		fromPods = "should work from pods"
		cleanup  = "handle load balancer cleanup finalizer for service"
	)
	for _, test := range []struct {
		selection selection
		run, not  []string
	}{
		{
			selection{announcedBy: byLayer2},
			[]string{sticky, health}, []string{allNodes, rolling, cleanup},
		},
		{
			selection{announcedBy: byLayer2, long: true, families: "ipv4,ipv6"},
			[]string{sticky, rolling}, []string{allNodes, health, cleanup},
		},
		{
			selection{announcedBy: byBGP, families: "ipv4,ipv6"},
			[]string{allNodes}, []string{sticky, health, rolling, cleanup},
		},
		{
			selection{announcedBy: byBGP, long: true},
			[]string{allNodes, health, rolling}, []string{sticky, cleanup},
		},
		{
			selection{announcedBy: byLayer2, families: "ipv6"},
			[]string{sticky, health}, []string{ranges, fromPods, allNodes},
		},
		{
			selection{announcedBy: byLayer2, families: "ipv4"},
			[]string{sticky, ranges, fromPods}, []string{allNodes},
		},
	} {
		focus := strings.Join(test.selection.focus(), "\n")
		for _, name := range test.run {
			if !strings.Contains(focus, name) {
				t.Errorf("%+v leaves out %q", test.selection, name)
			}
		}
		for _, name := range test.not {
			i := slices.IndexFunc(choices, func(c choice) bool { return strings.Contains(c.name, name) })
			if _, why := test.selection.without(choices[i]); strings.Contains(focus, name) || why == "" {
				t.Errorf("%+v runs %q, or leaves it out for %q", test.selection, name, why)
			}
		}
	}
	for by, valid := range map[string]bool{byLayer2: true, byBGP: true, "": false, "arp": false} {
		if err := (selection{announcedBy: by}).check(); (err == nil) != valid {
			t.Errorf("announced by %q: %v", by, err)
		}
	}
}

// TestApplied: who asks for certain tests gets these, and who asks for none gets the choices, without those
// that are to be skipped.
func TestApplied(t *testing.T) {
	s := selection{announcedBy: byLayer2}
	byFramework := types.SuiteConfig{SkipStrings: []string{"Feature"}}
	if got, chosen := s.applied(types.SuiteConfig{}, byFramework); !chosen ||
		!slices.Equal(got.FocusStrings, s.focus()) || len(got.SkipStrings) > 0 {
		t.Errorf("nothing asked: %t, focus on %q without %q", chosen, got.FocusStrings, got.SkipStrings)
	}
	asked := types.SuiteConfig{SkipStrings: []string{"UDP"}}
	if got, chosen := s.applied(asked, byFramework); !chosen ||
		!slices.Equal(got.SkipStrings, asked.SkipStrings) {
		t.Errorf("some to be skipped: %t, without %q", chosen, got.SkipStrings)
	}
	asked = types.SuiteConfig{FocusStrings: []string{"source ranges"}}
	if got, chosen := s.applied(asked, asked); chosen || !slices.Equal(got.FocusStrings, asked.FocusStrings) {
		t.Errorf("some asked for: %t, focus on %q", chosen, got.FocusStrings)
	}
}

// TestLines: each choice has a line with its outcome, and its first reason.
func TestLines(t *testing.T) {
	s := selection{announcedBy: byLayer2}
	failure := types.SpecReport{State: types.SpecStateFailed, RunTime: 90 * time.Second}
	failure.Failure.Message = "no answer\nand much more"
	for _, test := range []struct {
		choice  choice
		outcome string
		holds   []string
	}{
		{
			choice{about: affinity, name: "sticks"},
			"failed", []string{"90 s", affinity, "sticks", "no answer"},
		},
		{
			choice{about: affinity, name: "sticks", layer2: oneNode},
			"not applicable", []string{"- ", oneNode},
		},
		{choice{about: podChanges, name: "rolls", long: true}, "left out", []string{"LONG=yes"}},
	} {
		outcome, line := s.line(test.choice, failure)
		if outcome != test.outcome || strings.Contains(line, "much more") {
			t.Errorf("%s: %q", outcome, line)
		}
		for _, word := range test.holds {
			if !strings.Contains(line, word) {
				t.Errorf("no %q in %q", word, line)
			}
		}
	}
	if got := summary(map[string]int{"passed": 3, "left out": 2, "panicked": 1}); got !=
		"3 passed, 0 failed, 2 left out, 1 panicked" {
		t.Error(got)
	}
}

// TestCommands: what is no command is refused with the commands that there are.
func TestCommands(t *testing.T) {
	for _, args := range [][]string{{"names"}, {"names", "10.77.0.2"}, {"image", "x"}} {
		if done, err := command(args); !done || !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, %v", args, done, err)
		}
	}
	if done, err := command([]string{"--ginkgo.v"}); done || err != nil {
		t.Errorf("flags are taken for a command: %v", err)
	}
}
