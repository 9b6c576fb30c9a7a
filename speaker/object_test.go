package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// TestRenewalIsWrittenOnce: a renewed object is not written again as long as nothing changes.
func TestRenewalIsWrittenOnce(t *testing.T) {
	w := newWorld(t, node("node1"))
	if err := w.object.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := w.speaker().ResourceVersion
	if err := w.object.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.speaker().ResourceVersion; got != before {
		t.Errorf("the same status was written again: %s, %s", before, got)
	}
}

// TestOrderlyStopIsNoRenewal: a speaker that stops in order does not prove by it that it works.
func TestOrderlyStopIsNoRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, stage := range []v1beta1.SpeakerStage{v1beta1.StageRestarting, v1beta1.StageLeaving} {
			w := newWorld(t)
			w.Publishes("node2")
			w.died("node2", true) // not heard by membership
			w.reads(written("node2", speakertest.RenewedAt(time.Now())))
			time.Sleep(8 * time.Second)
			w.reads(written("node2", speakertest.RenewedAt(time.Now())))
			if got := w.isMember("node2"); got != "Present (NodeRenewing)" {
				t.Fatalf("%s", got)
			}
			time.Sleep(time.Minute)
			w.see()
			if got := w.isMember("node2"); !strings.HasPrefix(got, "Gone") {
				t.Fatalf("%s", got)
			}
			w.reads(written("node2", func(s *v1beta1.SpeakerStatus) { s.Stage = stage }))
			if got := w.isMember("node2"); strings.HasPrefix(got, "Present") {
				t.Errorf("%s and stopped: %s", stage, got)
			}
		}
	})
}

// TestRenewedObjectIsRight: what a member wrote after it fell silent outweighs what it said
// before.
func TestRenewedObjectIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Publishes("node2", "claim/192.0.2.10=3")
		w.died("node2", true)
		w.reads(written("node2", speakertest.RenewedAt(time.Now()), speakertest.Announcing("192.0.2.10", 3)))
		time.Sleep(8 * time.Second)
		w.reads(written(
			"node2",
			speakertest.RenewedAt(time.Now()),
			speakertest.Announcing("192.0.2.11", 3),
			func(s *v1beta1.SpeakerStatus) { s.Stage, s.Layer2.Count = v1beta1.StageLeaving, 1 },
		))
		if got := w.isMember("node2"); strings.HasPrefix(got, "Present") {
			t.Errorf("leaving: %s", got)
		}
		if c := w.tracker.Current().Claims; len(c) != 1 || c[netip.MustParseAddr("192.0.2.11")] == nil {
			t.Errorf("claims %v", c)
		}
	})
}

// TestObjectReportsProblemsOfLinks: the Speaker object says what of a link is in the way.
func TestObjectReportsProblemsOfLinks(t *testing.T) {
	for _, test := range []struct {
		story string
		link  links.Link
		says  string // "" for no problem
	}{
		{"an ordinary link", link("eth0", "192.0.2.7/24", "2001:db8::7/64"), ""},
		{"a trunk without addresses", link("eth0"), ""},
		{"a single address beside a subnet", link("eth0", "192.0.2.7/24", "2001:db8::7/128"), ""},
		{"single addresses only",
			link("eth0", "192.0.2.7/32", "2001:db8::7/128", "fe80::7/64"), "in no subnet"},
		{"a bond that balances", links.Link{
			Name:         "bond0",
			HardwareAddr: speakertest.MAC(1),
			Up:           true,
			Broadcast:    true,
			Balances:     true,
		}, "balance-alb"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, node("node1"))
			w.Local = []links.Link{test.link}
			w.see()
			links := w.object.Current().Links
			if len(links) != 1 || (links[0].Problem == "") != (test.says == "") ||
				!strings.Contains(links[0].Problem, test.says) {
				t.Errorf("%+v", links)
			}
		})
	}
}

// TestAMemberThatIsNotUnderstoodIsAskedToRenew its object.
func TestAMemberThatIsNotUnderstoodIsAskedToRenew(t *testing.T) {
	w := newWorld(t, node("node1"), node("node2"))
	w.Publishes("node2")
	m := w.Others["node2"]
	m.Format = membership.Format{Major: 2, Oldest: 2, Newest: 2}
	w.Others["node2"] = m
	w.see()
	status := w.object.Current()
	if presence.ParseObject(&v1beta1.Speaker{Status: status}, "node2").Suspicion == "" {
		t.Errorf("it is not asked to renew its object: %+v", status.AbsentMembers)
	}
}

func TestStatusOfAMember(t *testing.T) {
	w := newWorld(t)
	w.Local = []links.Link{
		link("eth1", "198.51.100.7/24", "192.0.2.7/24", "192.0.2.8/24"),
		link("eth0"),
		link("veth1a2b", "10.1.0.1/24"),
	}
	w.Publishes("node2")
	w.see()
	s := w.object.Current()
	if len(s.Links) != 2 || s.Links[0].Name != "eth0" ||
		fmt.Sprint(s.Links[1].Prefixes) != "[198.51.100.7/24 192.0.2.7/24]" {
		t.Errorf("the links are %v", s.Links)
	}
	if s.AbsentCount != 0 || s.MemberAddress != "192.0.2.1:7947" || s.MemberProfile != "balanced" ||
		s.Stage != v1beta1.StageReady {
		t.Errorf("%d are absent; reached at %s, %s, %s",
			s.AbsentCount, s.MemberAddress, s.MemberProfile, s.Stage)
	}
	if !meta.IsStatusConditionTrue(s.Conditions, v1beta1.ConditionReady) {
		t.Errorf("the conditions are %v", s.Conditions)
	}
}
