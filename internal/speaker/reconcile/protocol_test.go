package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
)

func TestReporter(t *testing.T) {
	in := Inputs{Speakers: map[string]announcement.Speaker{
		"node1": {Presence: announcement.Leaving},
		"node2": {Presence: announcement.Present},
		"node3": {Presence: announcement.Present},
	}}
	if got := in.Reporter(); got != "node2" {
		t.Errorf("it is %q", got)
	}
	if got := (Inputs{}).Reporter(); got != "" {
		t.Errorf("of nobody it is %q", got)
	}
}

// crowd is a source with many speakers.
type crowd struct {
	*source
	speakers map[string]announcement.Speaker
}

// Inputs implements Source.
func (c crowd) Inputs(ctx context.Context) (Inputs, error) {
	in, err := c.source.Inputs(ctx)
	in.Speakers = c.speakers
	return in, err
}

// asking is a protocol that asks for each address who reports.
type asking struct{}

// Reconcile implements Protocol.
func (asking) Reconcile(in Inputs, _ Address) Outcome { return Outcome{Warn: in.Node == in.Reporter()} }

// Flush implements Protocol.
func (asking) Flush() {}

// NeedsMembers implements Protocol.
func (asking) NeedsMembers() bool { return false }

// Known implements Protocol.
func (asking) Known() []netip.Addr { return nil }

// BenchmarkPart reconciles a part of the addresses in a cluster of a thousand nodes.
func BenchmarkPart(b *testing.B) {
	c := crowd{&source{settled: true}, map[string]announcement.Speaker{}}
	for i := range 1000 {
		c.speakers[fmt.Sprintf("node%04d", i)] = announcement.Speaker{Presence: announcement.Present}
	}
	l := NewLoop(LoopConfig{
		Queue:      NewQueue(),
		Source:     c,
		Protocols:  []Protocol{asking{}, asking{}},
		Warnings:   NewWarnings(nil),
		Configured: notify.NewLatch(),
		Loops:      &kube.Loops{},
		Logger:     slog.New(slog.DiscardHandler),
	})
	part := addrs(PartSize)
	for b.Loop() {
		if err := l.Reconcile(b.Context(), part); err != nil {
			b.Fatal(err)
		}
	}
}
