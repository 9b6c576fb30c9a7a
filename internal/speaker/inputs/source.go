// Package inputs gathers what the protocols decide by: from the cluster, the configuration
// and the last snapshot of the members.
package inputs

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
)

// Urgency says which addresses are reconciled before others; layer 2 does.
type Urgency interface {
	UrgentFirst([]netip.Addr) []netip.Addr
}

// Config is what a [Source] reads. All of it is required but Urgency.
type Config struct {
	Node    string
	Cluster *cluster.Reader
	Config  *cluster.Config
	Settled notify.Latch // set when it is known which other speakers are alive
	Members *members.Tracker
	Urgency Urgency
}

// Source is where the loop reads what protocols decide by. It is a [reconcile.Source].
type Source struct {
	c Config

	mu   sync.Mutex
	last reconcile.Inputs
}

// New returns a Source.
func New(c Config) *Source { return &Source{c: c} }

// Inputs implements [reconcile.Source]. What has not changed is the same value as the last time.
func (s *Source) Inputs(ctx context.Context) (reconcile.Inputs, error) {
	nodes, err := s.c.Cluster.Nodes(ctx)
	if err != nil {
		return reconcile.Inputs{}, err
	}
	around, now := s.c.Members.Around(), time.Now()

	s.mu.Lock()
	defer s.mu.Unlock()
	in := reconcile.Inputs{
		Node:     s.c.Node,
		Config:   s.last.Config,
		Revision: s.last.Revision,
		Nodes:    nodes,
		Speakers: around.Speakers,
		Basis:    s.last.Basis,
		Unheard:  s.last.Unheard.Next(nodes, around.Speakers, now),
		Settled:  s.c.Settled.IsSet(),
		Now:      now,

		Claims:    around.Claims,
		Minority:  around.Minority,
		Returning: around.Returning,
	}
	if c, revision := s.c.Config.Current(); in.Config == nil || in.Revision != revision {
		in.Config, in.Revision = &c, revision
	}
	if !in.Basis.IsOf(in.Config, nodes, around.Speakers) {
		in.Basis = announcement.BasisOf(in.Config, nodes, around.Speakers)
	}
	s.last = in
	return in, nil
}

// Services implements [reconcile.Source].
func (s *Source) Services(ctx context.Context, addr netip.Addr) ([]announcement.Service, error) {
	return s.c.Cluster.Services(ctx, addr)
}

// Addresses implements [reconcile.Source].
func (s *Source) Addresses(ctx context.Context) ([]netip.Addr, error) {
	return s.c.Cluster.Addresses(ctx)
}

// UrgentFirst implements [reconcile.Source].
func (s *Source) UrgentFirst(all []netip.Addr) []netip.Addr {
	if s.c.Urgency == nil {
		return all
	}
	return s.c.Urgency.UrgentFirst(all)
}
