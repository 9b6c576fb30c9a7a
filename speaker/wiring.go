package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/bgp"
	"github.com/berth-lb/berth/internal/speaker/inputs"
	"github.com/berth-lb/berth/internal/speaker/layer2"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/internal/speaker/serviceproxy"
	"github.com/berth-lb/berth/internal/version"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp/gobgp"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	linkwatch "github.com/berth-lb/berth/pkg/layer2/links/watch"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// speaker holds the parts of the process. Each runs until its context ends.
type speaker struct {
	settings processSettings
	log      *slog.Logger
	live     client.Reader // the API server

	cluster *cluster.Reader
	config  *cluster.Config
	ready   *report.Readiness
	status  notify.Signal // the Speaker object is out of date
	loops   *kube.Loops
	place   *place

	links   *linkwatch.Watcher
	rules   *serviceproxy.Rules
	tracker *members.Tracker
	peers   *members.Objects
	queue   *reconcile.Queue
	loop    *reconcile.Loop
	source  *inputs.Source
	object  *report.Object
	// introducing is since when this speaker has tried to publish its address,
	// introduceNext when it tries again.
	introducing, introduceNext time.Time

	// These are nil without layer 2, but for listing, which is nil with it.
	member   *member
	joiner   *members.Joiner
	presence *members.Metrics
	renewer  *report.Renewer
	layer2   *layer2.Controller
	listing  *members.Listing
	// bgp and others are nil without BGP.
	bgp    *bgp.Controller
	others *cluster.OtherSecrets
}

// member is what a speaker that announces by layer 2 has of the membership, and of the LAN.
type member struct {
	address   netip.AddrPort // at which it is a member
	members   *membership.Membership
	announcer *announcer.Announcer
	prober    *prober.Prober
	claims    *members.Claims
}

// newMember creates the parts that use the network at layer 2, which do nothing yet.
func newMember(
	s processSettings, address netip.AddrPort, loops *kube.Loops, log *slog.Logger,
) (*member, error) {
	m := &member{address: address}
	var err error
	m.members, err = membership.New(membership.Config{
		Name:     s.Node,
		BindAddr: address.Addr(),
		Port:     address.Port(),
		Keys:     members.UnusedKey(),
		Timing:   s.Member.timing(),
		Logger:   log,
		Pass:     loops.Loop("membership"),
	})
	if err != nil {
		return nil, err
	}
	m.announcer, err = announcer.New(announcer.Config{
		Logger: log,
		Stall:  stall,
		Pass:   loops.Loop("announcer"),
	})
	if err != nil {
		return nil, err
	}
	interval, misses := s.Member.nodeProbes()
	m.prober, err = prober.New(prober.Config{
		Logger:   log,
		Interval: interval,
		Misses:   misses,
	})
	if err != nil {
		return nil, err
	}
	m.claims = members.NewClaims(m.members, members.MaxBlocks, reconcile.PartSize, log)
	return m, nil
}

// newSpeaker creates all parts, each from those before it. ctx ends with the manager.
func newSpeaker(
	ctx context.Context, mgr manager.Manager, s processSettings, at netip.AddrPort,
	p *shared, last past, log *slog.Logger,
) (*speaker, error) {
	recorder, err := kube.EventRecorder(mgr, "berth-speaker", log)
	if err != nil {
		return nil, err
	}
	sp, err := newObserver(mgr, s, at, p, log)
	if err != nil {
		return nil, err
	}
	serviceEvents := reconcile.NewServiceEvents(mgr.GetCache(), recorder)
	if s.BGP {
		c, err := sp.bgpConfig(recorder, last)
		if err != nil {
			return nil, err
		}
		sp.bgp = bgp.New(ctx, c)
	}
	if s.Layer2 {
		sp.layer2 = layer2.New(ctx, sp.layer2Config(serviceEvents, last.status))
	}
	sp.source = inputs.New(sp.sourceConfig())
	sp.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      sp.queue,
		Source:     sp.source,
		Protocols:  sp.protocols(),
		Warnings:   reconcile.NewWarnings(serviceEvents),
		Configured: p.config.Known(),
		Loops:      p.loops,
		Logger:     log,
	})

	sp.object = report.New(sp.reportConfig(mgr, last.status))
	if s.Layer2 {
		sp.renewer = report.NewRenewer(report.RenewerConfig{
			Object:    sp.object,
			Claimant:  sp.layer2,
			Events:    recorder,
			Isolation: s.Isolation,
			Logger:    log,
		})
	}
	sp.tracker.SetStage(announcement.StageStarting)
	return sp, nil
}

// newObserver returns a speaker that knows the cluster and the other speakers, and announces
// nothing yet.
func newObserver(
	mgr manager.Manager, s processSettings, at netip.AddrPort, p *shared, log *slog.Logger,
) (*speaker, error) {
	exclude, err := s.excludedLinks()
	if err != nil {
		return nil, err
	}
	sp := &speaker{
		settings: s,
		log:      log,
		live:     mgr.GetAPIReader(),
		config:   p.config,
		ready:    p.ready,
		status:   notify.NewSignal(),
		loops:    p.loops,
		place:    p.place,
		links:    linkwatch.New(log),
		queue:    reconcile.NewQueue(),
	}
	if s.BGP {
		sp.others = cluster.NewOtherSecrets()
	}
	sp.cluster = cluster.NewReader(mgr.GetCache(), s.Kube.Class, s.Kube.Namespace, sp.others).
		Of(s.protocols())
	sp.rules = serviceproxy.NewRules(serviceproxy.RulesConfig{
		Port:      s.ProxyPort,
		Addresses: sp.nodeAddresses,
		Queue:     sp.queue,
		Log:       log,
	})
	if !s.Layer2 {
		sp.listing = members.NewListing(mgr.GetCache(), s.Node)
		if sp.tracker, err = members.New(sp.trackerConfig(exclude)); err != nil {
			return nil, err
		}
		sp.peers = members.NewListedObjects(mgr.GetCache(), sp.tracker)
		return sp, nil
	}
	if sp.member, err = newMember(s, at, p.loops, log); err != nil {
		return nil, err
	}
	if sp.tracker, err = members.New(sp.trackerConfig(exclude)); err != nil {
		return nil, err
	}
	if sp.joiner, err = sp.newJoiner(mgr); err != nil {
		return nil, err
	}
	sp.peers = members.NewObjects(mgr.GetCache(), sp.tracker)
	sp.presence = members.NewMetrics(sp.tracker, sp.member.claims, sp.member.members)
	return sp, nil
}

// protocols returns what decides about each address, in order.
func (sp *speaker) protocols() []reconcile.Protocol {
	var out []reconcile.Protocol
	if sp.bgp != nil {
		out = append(out, sp.bgp)
	}
	if sp.layer2 == nil {
		return append(out, reconcile.NoLayer2{})
	}
	return append(out, sp.layer2)
}

// nodeAddresses returns the addresses by which the cluster knows this node.
func (sp *speaker) nodeAddresses(ctx context.Context) []netip.Addr {
	return sp.cluster.NodeAddresses(ctx, sp.settings.Node)
}

func (sp *speaker) sourceConfig() inputs.Config {
	c := inputs.Config{
		Node:    sp.settings.Node,
		Cluster: sp.cluster,
		Config:  sp.config,
		Settled: sp.ready.Settled(),
		Members: sp.tracker,
	}
	if sp.layer2 != nil {
		c.Urgency = sp.layer2
	}
	return c
}

func (sp *speaker) trackerConfig(exclude []*regexp.Regexp) members.Config {
	s := sp.settings
	interval, misses := s.Member.nodeProbes()
	c := members.Config{
		Node: s.Node,
		Grace: announcement.GracePeriods{
			Restart:   s.RestartHold,
			Silence:   s.SilenceHold,
			Suspicion: time.Duration(misses+2) * interval,
			Renewal:   presence.RenewalTrust,
			Contact:   report.ContactGrace,
		},
		ExcludeLinks:  exclude,
		IgnoreExclude: s.IgnoreExclude,
		IgnoreCordon:  s.IgnoreCordon,
		Configuration: sp.config,
		Membership:    sp.listing,
		Links:         sp.links,
		Prober:        members.NoLayer2{},
		Announcer:     members.NoLayer2{},
		Dialer:        &net.Dialer{},
		Room:          members.NoLayer2{},
		Requeue:       sp.queue,
		Status:        sp.status,
		Pass:          sp.loops.Loop("watch"),
		Log:           sp.log,
	}
	if m := sp.member; m != nil {
		c.Address = m.address.Addr()
		c.Membership, c.Prober, c.Announcer, c.Room = m.members, m.prober, m.announcer, m.claims
	}
	return c
}

func (sp *speaker) newJoiner(mgr manager.Manager) (*members.Joiner, error) {
	secret := types.NamespacedName{Namespace: sp.settings.Kube.Namespace, Name: sp.settings.Kube.MemberSecret}
	secrets, err := members.SecretCache(mgr, secret)
	if err != nil {
		return nil, err
	}
	return members.NewJoiner(members.JoinerConfig{
		Membership: sp.member.members,
		Address:    sp.member.address,
		Secret:     secret,
		API:        sp.live,
		Secrets:    secrets,
		Status:     sp.status,
		Log:        sp.log,
	}), nil
}

func (sp *speaker) bgpConfig(recorder events.EventRecorder, last past) (bgp.Config, error) {
	// Without the capability for real-time scheduling, the sessions run like any thread.
	sessions, err := bfd.New(bfd.Config{Logger: sp.log, Realtime: true})
	if err != nil {
		return bgp.Config{}, err
	}
	restarting := report.HadSessions(last.status, last.bootID)
	return bgp.Config{
		Node:    sp.settings.Node,
		Cluster: sp.cluster,
		Config:  sp.config,
		Settled: sp.ready.Settled(),
		Queue:   sp.queue,
		Links:   sp.links,
		Speaker: gobgp.New(gobgp.Config{
			Logger:     sp.log,
			Restarting: restarting,
			Software:   "Berth/" + version.String(),
		}),
		BFD:            sessions,
		Events:         recorder,
		Status:         sp.status,
		Loops:          sp.loops,
		Logger:         sp.log,
		BootID:         last.bootID,
		Restarting:     restarting,
		WeightInterval: sp.settings.Weights,
		ProxyRules:     sp.rules.Written(),
	}, nil
}

func (sp *speaker) layer2Config(
	serviceEvents *reconcile.ServiceEvents, last v1beta1.SpeakerStatus,
) layer2.Config {
	s := sp.settings
	before := presence.ParseObject(&v1beta1.Speaker{Status: last}, s.Node)
	var proxyHealthy func(context.Context) bool
	if s.ProxyPort != 0 {
		proxyHealthy = serviceproxy.Healthy(s.ProxyPort, sp.nodeAddresses)
	}
	return layer2.Config{
		Node:          s.Node,
		Config:        sp.config,
		Settled:       sp.ready.Settled(),
		Members:       sp.tracker,
		Claims:        sp.member.claims,
		Links:         sp.links,
		Announcer:     sp.member.announcer,
		Prober:        sp.member.prober,
		Queue:         sp.queue,
		Events:        serviceEvents,
		Status:        sp.status,
		Logger:        sp.log,
		Before:        before.State.Claims,
		ProxyHealthy:  proxyHealthy,
		ProbeCount:    s.ProbeCount,
		ProbeInterval: s.ProbeInterval,
		CheckInterval: s.CheckInterval,
		HandOver:      s.HandOver,
	}
}

func (sp *speaker) reportConfig(mgr manager.Manager, last v1beta1.SpeakerStatus) report.Config {
	c := report.Config{
		Node:          sp.settings.Node,
		Protocols:     sp.settings.protocols().Names(),
		Cached:        sp.cluster,
		Live:          sp.live,
		Writer:        mgr.GetClient(),
		Ready:         sp.ready,
		Members:       sp.tracker,
		Status:        sp.status,
		Logger:        sp.log,
		IgnoreExclude: sp.settings.IgnoreExclude,
		IgnoreCordon:  sp.settings.IgnoreCordon,
		Last:          last,
	}
	if sp.layer2 != nil {
		c.Address, c.Profile, c.Joiner = sp.member.address, sp.settings.Member.profile(), sp.joiner
		c.Sections = append(c.Sections, sp.layer2)
	}
	if sp.bgp != nil {
		c.Sections = append(c.Sections, sp.bgp)
	}
	return c
}

// collectors returns what is measured by this process, besides what libraries measure.
func collectors(sp *speaker) []prometheus.Collector {
	out := []prometheus.Collector{sp.object, sp.loops, kube.BuildInfo(version.String())}
	if sp.layer2 != nil {
		out = append(out, sp.presence, sp.layer2)
	}
	if sp.bgp != nil {
		out = append(out, sp.bgp)
	}
	return out
}

// addTo adds all parts to the manager, which runs them; but the announcer goes on when the
// manager stops, see [tenure].
func (sp *speaker) addTo(mgr manager.Manager) error {
	if err := setupControllers(mgr, sp); err != nil {
		return err
	}
	for _, collector := range collectors(sp) {
		if err := ctrlmetrics.Registry.Register(collector); err != nil {
			return err
		}
	}
	if sp.member != nil {
		sp.place.answer(sp.member.announcer.Run)
	}
	for _, part := range sp.parts(mgr) {
		if err := mgr.Add(manager.RunnableFunc(part)); err != nil {
			return err
		}
	}
	return nil
}

// parts returns what runs until the manager stops.
func (sp *speaker) parts(mgr manager.Manager) []func(context.Context) error {
	out := []func(context.Context) error{
		sp.links.Run,
		sp.rules.Run,
		sp.tracker.Run,
		sp.loop.Run,
		sp.object.Run,
		sp.settle,
		sp.relieve,
	}
	if sp.layer2 != nil {
		out = append(out, sp.member.prober.Run, sp.joiner.Run, sp.joiner.RotateKeys, sp.layer2.Run,
			sp.renewer.Run, sp.renewer.ReportReachable, sp.confirm)
	}
	if sp.bgp != nil {
		out = append(out, sp.bgp.Run, func(ctx context.Context) error {
			return sp.others.Watch(ctx, mgr, sp.settings.Kube.Namespace, sp.log)
		})
	}
	return out
}
