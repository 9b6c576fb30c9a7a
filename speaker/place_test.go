package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/speaker/succession"
)

// takesPlace has a process look for its place, under a name of the test's own, and be
// found by its successors.
func takesPlace(t *testing.T) *place {
	t.Helper()
	p := waitsForPlace(t)
	runsOffice(t, p)
	return p
}

// waitsForPlace is takesPlace for one that is not found, as before its turn.
func waitsForPlace(t *testing.T) *place {
	t.Helper()
	name := succession.Name(fmt.Sprintf("%s-%d", t.Name(), os.Getpid()))
	p, err := newPlace(t.Context(), name, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.silence)
	return p
}

// runsOffice has the office of a place run until the test ends, or end is called.
func runsOffice(t *testing.T, p *place) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.office.Run(ctx)
	}()
	end = func() {
		stop()
		<-ended
	}
	t.Cleanup(end)
	return end
}

// TestPlace: the second process of a node has its turn when the first has released its
// ports, and takes none before.
func TestPlace(t *testing.T) {
	first := takesPlace(t)
	if !first.turn.IsSet() {
		t.Fatal("nobody else is there, and it waits")
	}
	first.ports.Set()
	if err := first.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers := make(chan struct{})
	first.answer(func(ctx context.Context) error {
		<-ctx.Done()
		close(answers)
		return nil
	})

	second := takesPlace(t)
	taken := make(chan error)
	go func() { taken <- second.take(t.Context()) }()
	await(t, first, func(s succession.Seen) bool { return s.Asked })
	if second.turn.IsSet() {
		t.Error("it begins before the other one has released its ports")
	}
	first.office.Yield()
	if !second.hasTurn(t.Context()) {
		t.Fatal("it has no turn")
	}
	select {
	case err := <-taken:
		t.Fatalf("the ports are not its own, and it goes on: %v", err)
	default:
	}
	second.ports.Set()
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	second.announced()
	await(t, first, func(s succession.Seen) bool { return s.Announces })
	select {
	case <-answers:
		t.Error("the first does not answer any more")
	default:
	}
	first.silence()
	<-answers
}

// TestTwoWantThePlace: one of two that wait gets it, and the other one then waits for that
// one; there are never two.
func TestTwoWantThePlace(t *testing.T) {
	first := takesPlace(t)
	all := []*place{waitsForPlace(t), waitsForPlace(t)}
	for _, p := range all {
		go func() { _ = p.take(t.Context()) }()
	}
	await(t, first, func(s succession.Seen) bool { return s.Asked })
	first.office.Yield()
	var second, third *place
	select {
	case <-all[0].turn.C():
		second, third = all[0], all[1]
	case <-all[1].turn.C():
		second, third = all[1], all[0]
	}
	runsOffice(t, second)
	await(t, second, func(s succession.Seen) bool { return s.Asked })
	if third.turn.IsSet() {
		t.Error("two have the place")
	}
	second.office.Yield()
	<-third.turn.C()
}

// TestTheFormerSpeakerEndsMeanwhile: whoever waits for its place has it then.
func TestTheFormerSpeakerEndsMeanwhile(t *testing.T) {
	first := waitsForPlace(t)
	end := runsOffice(t, first)
	second := waitsForPlace(t)
	second.ports.Set()
	taken := make(chan error)
	go func() { taken <- second.take(t.Context()) }()
	await(t, first, func(s succession.Seen) bool { return s.Asked })
	end()
	if err := <-taken; err != nil || second.former != nil || !second.turn.IsSet() {
		t.Errorf("it has its turn: %t, %v", second.turn.IsSet(), err)
	}
}

// await waits until the office of a place has seen something.
func await(t *testing.T, p *place, want func(succession.Seen) bool) {
	t.Helper()
	for !want(p.office.Seen()) {
		select {
		case <-p.office.Changed():
		case <-time.After(10 * time.Second):
			t.Fatalf("the office has seen %+v", p.office.Seen())
		}
	}
}

// TestPlaceIsTakenWithinAContext: whoever waits ends with its context.
func TestPlaceIsTakenWithinAContext(t *testing.T) {
	takesPlace(t)
	second := takesPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan error)
	go func() { taken <- second.take(ctx) }()
	cancel()
	if err := <-taken; err == nil || second.turn.IsSet() || second.hasTurn(ctx) {
		t.Errorf("it has its turn: %v", err)
	}
}

// TestStartedIsACommand: the startup probe of the manifests runs it, without any setting.
func TestStartedIsACommand(t *testing.T) {
	cmd := command()
	found, rest, err := cmd.Find([]string{"started"})
	if err != nil || found.Name() != "started" || len(rest) > 0 {
		t.Errorf("it is not there: %v, %v", rest, err)
	}
}
