package main

import (
	"testing"

	"github.com/berth-lb/berth/internal/metricstest"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/pkg/membership"
)

// noTraffic is a member port at which nothing happens.
type noTraffic struct{}

// Traffic returns none.
func (noTraffic) Traffic() membership.Traffic { return membership.Traffic{} }

func TestMetricsAreAsDocumented(t *testing.T) {
	w := newWorld(t)
	metricstest.Check(t, "Speaker", collectors(&speaker{
		presence: members.NewMetrics(w.tracker, w.claimed, noTraffic{}),
		layer2:   w.layer2,
		bgp:      w.bgp,
		object:   w.object,
		loops:    &w.loops,
	}))
}
