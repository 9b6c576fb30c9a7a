package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/layer2"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
)

// source supplies the loop with the inputs of decisions. It is a [reconcile.Source].
type source struct {
	node    string
	cluster *cluster.Reader
	config  *cluster.Config
	settled notify.Latch
	tracker *members.Tracker
	layer2  *layer2.Controller
}

// Inputs implements [reconcile.Source].
func (s *source) Inputs(ctx context.Context) (reconcile.Inputs, error) {
	nodes, err := s.cluster.Nodes(ctx)
	if err != nil {
		return reconcile.Inputs{}, err
	}
	c, revision := s.config.Current()
	around := s.tracker.Around()

	return reconcile.Inputs{
		Node:     s.node,
		Config:   &c,
		Revision: revision,
		Nodes:    nodes,
		Speakers: around.Speakers,
		Settled:  s.settled.IsSet(),
		Now:      time.Now(),

		Claims:    around.Claims,
		Minority:  around.Minority,
		Returning: around.Returning,
	}, nil
}

// Services implements [reconcile.Source].
func (s *source) Services(ctx context.Context, addr netip.Addr) ([]announcement.Service, error) {
	return s.cluster.Services(ctx, addr)
}

// Addresses implements [reconcile.Source].
func (s *source) Addresses(ctx context.Context) ([]netip.Addr, error) {
	return s.cluster.Addresses(ctx)
}

// UrgentFirst implements [reconcile.Source].
func (s *source) UrgentFirst(all []netip.Addr) []netip.Addr { return s.layer2.UrgentFirst(all) }
