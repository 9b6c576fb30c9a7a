package main

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// startLog is a node whose speaker finds nothing ready when it starts, and that writes
// down in which order it does what others can see.
type startLog struct {
	*shell
	// waits is how often the answer to a question is not there yet.
	waits map[string]int
	done  []string // each once
	// claimed are all values that were published of claims, announced the addresses that
	// the announcer was given.
	claimed   []string
	announced []netip.Addr
}

// does takes down the first time of a step.
func (l *startLog) does(step string) {
	if !slices.Contains(l.done, step) {
		l.done = append(l.done, step)
	}
}

// there reports whether an answer is there.
func (l *startLog) there(question string) bool {
	l.waits[question]--
	return l.waits[question] < 0
}

// Links implements [members.LinkSource].
func (l *startLog) Links() []links.Link {
	if !l.there("links") {
		return nil
	}
	return l.shell.Links()
}

// Members implements [members.Membership]: this speaker listens when it has a key and a port.
func (l *startLog) Members() []membership.Member {
	if slices.Contains(l.done, "object written") && !l.there("members") {
		return nil
	}
	return l.shell.Members()
}

// Settled implements [members.Membership].
func (l *startLog) Settled() bool {
	l.does("asked whether others are known")
	return l.there("settled")
}

// Publish implements [members.Membership].
func (l *startLog) Publish(key string, value []byte) error {
	switch {
	case strings.HasPrefix(key, "claims/"):
		l.does("claims published")
		l.claimed = append(l.claimed, string(value))
	case key == "stage":
		l.does(string(value))
	}
	return l.shell.Publish(key, value)
}

// PublishPrefix implements [members.Membership].
func (l *startLog) PublishPrefix(prefix string, values map[string][]byte) error {
	switch prefix {
	case "link/":
		l.does("links published")
	case "claims/":
		l.does("claims published")
		for _, key := range slices.Sorted(maps.Keys(values)) {
			l.claimed = append(l.claimed, string(values[key]))
		}
	}
	return l.shell.PublishPrefix(prefix, values)
}

// Set implements [layer2.Announcer].
func (l *startLog) Set(addr netip.Addr, want announcer.Request) {
	if len(want.Links) > 0 && want.As == nil {
		l.does("announced")
		l.announced = append(l.announced, addr)
	}
	l.shell.Set(addr, want)
}

// TestOrderOfStart: a speaker knows its links before it says where it is, says where it
// is before it looks for others, takes up what it claimed before it decides anything,
// and announces and publishes that before it is ready. Otherwise it would give up what it
// had for want of a link, or claim what it has anew, or take what another has; and nobody
// would answer between its stand-in, which ends when it is ready, and itself.
func TestOrderOfStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 1, 2, 4)
		s := w.shells["node1"]
		w.change("node1", func(status *v1beta1.SpeakerStatus) {
			for i := range status.Layer2.Retained {
				status.Layer2.Retained[i].Generation = 7
			}
		})
		s.people = map[string]membership.Member{}
		l := &startLog{shell: s, waits: map[string]int{"links": 9, "members": 7, "settled": 5}}
		w.wrote = func(o client.Object) {
			if o.(*v1beta1.Speaker).Status.Stage == v1beta1.StageStarting {
				l.does("object written")
			}
		}
		s.beginIn(l)
		s.seesLinks, s.listens = true, true
		s.bgp = newWorld(t).bgp

		if err := s.settle(t.Context()); err != nil {
			t.Fatal(err)
		}

		want := []string{
			"starting", "links published", "object written", "asked whether others are known",
			"announced", "claims published", "ready",
		}
		if !slices.Equal(l.done, want) {
			t.Errorf("it did   %q\nand ought %q", l.done, want)
		}
		for _, value := range l.claimed {
			if !strings.HasPrefix(value, "7:") || strings.Contains(value, ",") {
				t.Errorf("it claimed %q: want what it had, with generation 7", l.claimed)
				break
			}
		}
		if !s.speaker.ready.Settled().IsSet() {
			t.Error("it has not settled")
		}
		claims := claimsOf(layer2Status(s.layer2))
		for i, addr := range w.addresses {
			if _, claimed := claims[addr]; claimed != (i%2 == 0) {
				t.Errorf("it claims %v: %s among them is %t", claims, addr, claimed)
			}
			if announced := slices.Contains(l.announced, addr); announced != (i%2 == 0) {
				t.Errorf("it announces %s before it is ready: %t", addr, announced)
			}
		}
	})
}

// TestReturningIsSetBeforeTheLinksAreSeen: node1 has lost its last link and gets it back
// while another node has taken the address over. From the moment that the link is there
// until the others have been asked, it announces nothing.
func TestReturningIsSetBeforeTheLinksAreSeen(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	w.Returns(w.tracker, func() {
		if err := w.loop.Reconcile(t.Context(), []netip.Addr{address}); err != nil {
			t.Error(err)
		}
		if got := w.reason(); got != v1beta1.ReasonReturning || len(w.tracker.OwnLinks()) != 1 {
			t.Errorf("before the others are asked the reason is %s, with the links %v",
				got, w.tracker.OwnLinks())
		}
		w.Publishes("node2", "claim/192.0.2.10=2") // as they say then
	})
	if err := w.loop.Reconcile(t.Context(), []netip.Addr{address}); err != nil {
		t.Fatal(err)
	}
	if got := w.reason(); got != v1beta1.ReasonNotOwner {
		t.Errorf("after that it is %s", got)
	}
}
