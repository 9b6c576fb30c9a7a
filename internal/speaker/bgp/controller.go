// Package bgp announces addresses to BGP peers from every node that can take their
// traffic: it decides, plans what is announced to each peer, follows the sessions, has BFD
// watch the routers, and waits for the service proxy before a route.
package bgp

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/events"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/serviceproxy"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Speaker keeps the BGP sessions of this node; package gobgp has it.
type Speaker interface {
	Run(context.Context)
	Set(desired []bgp.Desired, complete bool) (serial uint64)
	SetLiveness(map[string]bgp.Liveness)
	State() []bgp.Session
	Changed() <-chan struct{}
	Leave(context.Context)
}

// BFDSpeaker keeps the BFD sessions of this node; package bfd has it.
type BFDSpeaker interface {
	Run(context.Context) error
	Set(map[bfd.Key]bfd.SessionConfig) error
	State() []bfd.Status
	Changed() <-chan struct{}
	Stats() bfd.Stats
}

// Links knows the network interfaces of this node.
type Links interface{ Links() []links.Link }

// Requeuer has addresses reconciled; package reconcile has it.
type Requeuer interface {
	Requeue(netip.Addr)
	RequeueAll() (number uint64)
	Swept() (number uint64)
	SweepEnded() <-chan struct{}
}

// Config is what a [Controller] works with.
type Config struct {
	Node    string // this one
	Cluster *cluster.Reader
	Config  *cluster.Config
	Settled notify.Latch // set when it is known which other speakers are alive
	Queue   Requeuer
	Links   Links
	Speaker Speaker
	BFD     BFDSpeaker
	Events  events.EventRecorder
	Status  notify.Signal // set when the Speaker object is out of date
	Loops   *kube.Loops
	Logger  *slog.Logger

	// BootID names the boot of this node, "" when it is not known. Restarting is set when
	// an earlier speaker had sessions in this boot that it has not ended for good.
	BootID     string
	Restarting bool
	// WeightInterval is how long changes of routes' weights are gathered before they
	// are announced; 0 for not at all.
	WeightInterval time.Duration
	// ProxyRules is set when the service proxy of this node has written its rules, as far
	// as that is waited for.
	ProxyRules notify.Latch
}

// A Controller announces addresses by BGP. It is a [reconcile.Protocol].
type Controller struct {
	c         Config
	decisions *decisions
	proxies   *proxies
	sessions  *sessions
	bfd       *bfdSessions
	routes    *routes
	metrics   metrics

	changed bool // a decision has changed since the last Flush
}

// New returns a Controller, which announces nothing before [Controller.Run]. ctx ends
// with the process.
func New(ctx context.Context, c Config) *Controller {
	own := func(ctx context.Context) []netip.Addr { return c.Cluster.NodeAddresses(ctx, c.Node) }
	return newController(ctx, c, serviceproxy.Programmed(own))
}

func newController(
	ctx context.Context, c Config, programmed func(context.Context, netip.Addr, uint16) bool,
) *Controller {
	out := &Controller{c: c, decisions: newDecisions(), metrics: newMetrics()}
	out.proxies = newProxies(ctx, c.Node, c.Queue, programmed, c.ProxyRules, c.Logger)
	out.sessions = newSessions(c, out.decisions)
	out.bfd = &bfdSessions{
		speaker:  c.BFD,
		sessions: c.Speaker,
		links:    c.Links,
		status:   c.Status,
		log:      c.Logger,
	}
	out.routes = newRoutes(c, out)
	return out
}

// Run keeps the sessions, and what is announced to peers, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{c.runSessions, c.bfd.run, c.routes.run} {
		group.Go(func() error { return part(ctx) })
	}
	return group.Wait()
}

// bfdOutlives is how long BFD goes on when BGP has closed its connections, so that routers
// have noticed that before they hear that BFD ends.
const bfdOutlives = 200 * time.Millisecond

// runSessions keeps the sessions of BGP and of BFD until ctx ends. Those of BFD end last:
// many routers take the end of BFD for a failure of the path, and end a BGP session that
// is still there, with its routes.
func (c *Controller) runSessions(ctx context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		if err := c.c.BFD.Run(watching); err != nil {
			c.c.Logger.Error("BFD does not run: failures of routers are noticed by BGP's hold time only",
				"error", err)
		}
	})
	c.c.Speaker.Run(ctx)
	if len(c.bfd.all()) > 0 {
		time.Sleep(bfdOutlives)
	}
	stop()
	watch.Wait()
	return nil
}

// Reconcile implements [reconcile.Protocol].
func (c *Controller) Reconcile(in reconcile.Inputs, a reconcile.Address) reconcile.Outcome {
	before := c.decisions.get(a.Addr)
	var pending map[string]bool
	if len(in.Config.BGPPeers) > 0 {
		pending = c.proxies.pending(a.Addr, a.Services)
	}

	d := announcement.DecideBGP(announcement.BGPInput{
		Address:   a.Addr,
		Services:  a.Services,
		Config:    in.Config,
		Nodes:     in.Nodes,
		Speakers:  in.Speakers,
		Basis:     in.Basis,
		Node:      in.Node,
		Settled:   in.Settled,
		Unproxied: pending,
		Before:    before,
		Now:       in.Now,
	})

	c.decisions.record(a.Addr, in.Now, d)
	if before.Announce != d.Announce {
		c.c.Status.Set() // the Speaker object lists it
	}
	c.changed = c.changed || !before.Equal(d)
	if before.Announce != d.Announce || before.Reason != d.Reason {
		c.log(a.Addr, before, d)
	}
	return outcome(in, d)
}

// outcome returns what a decision means to Services. What holds for all nodes one of them
// reports.
func outcome(in reconcile.Inputs, d announcement.BGPDecision) reconcile.Outcome {
	out := reconcile.Outcome{Reason: d.Reason, Message: d.Message, Services: d.Services, Announce: d.Announce}
	switch d.Reason {
	case v1beta1.ReasonNoPool, v1beta1.ReasonNoEndpoint, v1beta1.ReasonNoAdvertisement:
		out.Warn = in.Node == in.Reporter()
	}
	return out
}

// log writes a changed decision to the log.
func (c *Controller) log(addr netip.Addr, before, d announcement.BGPDecision) {
	log := c.c.Logger.With("address", addr.String(), "services", d.Services,
		"reason", string(d.Reason), "message", d.Message)
	switch {
	case d.Announce && !d.LeavingSince.IsZero():
		log.Info("draining address from BGP")
	case d.Announce:
		log.Info("address announced by BGP")
	case before.Announce:
		log.Info("address withdrawn from BGP")
	default:
		log.Info("address not announced by BGP")
	}
}

// Flush implements [reconcile.Protocol]: it has what has changed announced to peers.
func (c *Controller) Flush() {
	if c.changed {
		c.routes.again.Set()
	}
	c.changed = false
}

// NeedsMembers implements [reconcile.Protocol]: each node announces by itself.
func (c *Controller) NeedsMembers() bool { return false }

// Known implements [reconcile.Protocol].
func (c *Controller) Known() []netip.Addr { return c.decisions.addresses() }

// ConfigChanged has every address reconciled, and routes planned when that is done, so that
// no plan mixes two configurations.
func (c *Controller) ConfigChanged() {
	c.routes.sweepAll()
	c.routes.again.Set()
}

// NodeChanged has routes planned by what peers take from the Node object of this node.
func (c *Controller) NodeChanged() { c.routes.again.Set() }

// Drain ends all sessions for good: peers are asked to avoid the routes, then they are
// withdrawn, and then the sessions end. It returns when that is done, or has taken too
// long.
func (c *Controller) Drain() { c.routes.leave() }

// Status fills in what the Speaker object says of BGP and BFD.
func (c *Controller) Status(s *v1beta1.SpeakerStatus) {
	s.BGP, s.BFD = c.sessions.object(), c.bfd.object()
}

// StoppedStatus fills in what the Speaker object says of BGP while the speaker does not
// run: nothing but what the next one needs to know.
func (c *Controller) StoppedStatus(s *v1beta1.SpeakerStatus, _ bool) {
	s.BGP = v1beta1.SpeakerBGP{BootID: s.BGP.BootID}
}

// Describe implements prometheus.Collector.
func (c *Controller) Describe(out chan<- *prometheus.Desc) { c.metrics.describe(out) }

// Collect implements prometheus.Collector.
func (c *Controller) Collect(out chan<- prometheus.Metric) {
	c.metrics.collect(out, c.sessions.all(), c.c.Speaker.State(), c.bfd.all(), c.c.BFD.Stats())
}
