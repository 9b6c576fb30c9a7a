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
	address  netip.AddrPort // at which this speaker is a member
	live     client.Reader  // the API server

	cluster *cluster.Reader
	others  *cluster.OtherSecrets
	config  *cluster.Config
	ready   *report.Readiness
	status  notify.Signal // the Speaker object is out of date
	loops   *kube.Loops
	place   *place

	links     *linkwatch.Watcher
	members   *membership.Membership
	announcer *announcer.Announcer
	prober    *prober.Prober

	tracker  *members.Tracker
	peers    *members.Objects
	joiner   *members.Joiner
	presence *members.Metrics
	layer2   *layer2.Controller
	bgp      *bgp.Controller
	queue    *reconcile.Queue
	loop     *reconcile.Loop
	source   *inputs.Source
	object   *report.Object
	renewer  *report.Renewer
	// introducing is since when this speaker has tried to publish its address,
	// introduceNext when it tries again.
	introducing, introduceNext time.Time
}

// engines are the parts that use the network. Each takes a wanted state and reports what it
// sees.
type engines struct {
	members   *membership.Membership
	announcer *announcer.Announcer
	prober    *prober.Prober
	bgp       *gobgp.Speaker
	bfd       *bfd.Speaker
}

// newEngines creates the engines, which do nothing yet.
func newEngines(
	s processSettings, address netip.AddrPort, loops *kube.Loops, restarting bool, log *slog.Logger,
) (engines, error) {
	var e engines
	var err error
	e.members, err = membership.New(membership.Config{
		Name:     s.Node,
		BindAddr: address.Addr(),
		Port:     address.Port(),
		Keys:     members.UnusedKey(),
		Timing:   s.Member.timing(),
		Logger:   log,
		Pass:     loops.Loop("membership"),
	})
	if err != nil {
		return engines{}, err
	}
	e.announcer, err = announcer.New(announcer.Config{
		Logger: log,
		Stall:  stall,
		Pass:   loops.Loop("announcer"),
	})
	if err != nil {
		return engines{}, err
	}
	interval, misses := s.Member.nodeProbes()
	e.prober, err = prober.New(prober.Config{
		Logger:   log,
		Interval: interval,
		Misses:   misses,
	})
	if err != nil {
		return engines{}, err
	}
	// Without the capability for real-time scheduling, the sessions run like any thread.
	e.bfd, err = bfd.New(bfd.Config{Logger: log, Realtime: true})
	if err != nil {
		return engines{}, err
	}
	e.bgp = gobgp.New(gobgp.Config{
		Logger:     log,
		Restarting: restarting,
		Software:   "Berth/" + version.String(),
	})
	return e, nil
}

// newSpeaker creates all parts, each from those before it. ctx ends with the manager.
func newSpeaker(
	ctx context.Context, mgr manager.Manager, s processSettings, at netip.AddrPort,
	p *shared, last past, log *slog.Logger,
) (*speaker, error) {
	exclude, err := s.excludedLinks()
	if err != nil {
		return nil, err
	}
	recorder, err := kube.EventRecorder(mgr, "berth-speaker", log)
	if err != nil {
		return nil, err
	}
	restarting := report.HadSessions(last.status, last.bootID)
	e, err := newEngines(s, at, p.loops, restarting, log)
	if err != nil {
		return nil, err
	}
	others := cluster.NewOtherSecrets()
	sp := &speaker{
		settings:  s,
		log:       log,
		address:   at,
		live:      mgr.GetAPIReader(),
		cluster:   cluster.NewReader(mgr.GetCache(), s.Kube.Class, s.Kube.Namespace, others),
		others:    others,
		config:    p.config,
		ready:     p.ready,
		status:    notify.NewSignal(),
		loops:     p.loops,
		place:     p.place,
		links:     linkwatch.New(log),
		members:   e.members,
		announcer: e.announcer,
		prober:    e.prober,
		queue:     reconcile.NewQueue(),
	}
	serviceEvents := reconcile.NewServiceEvents(mgr.GetCache(), recorder)

	claims := members.NewClaims(e.members, members.MaxBlocks, reconcile.PartSize, log)
	if sp.tracker, err = members.New(sp.trackerConfig(claims, exclude)); err != nil {
		return nil, err
	}
	if sp.joiner, err = sp.newJoiner(mgr); err != nil {
		return nil, err
	}
	sp.peers = members.NewObjects(mgr.GetCache(), sp.tracker)
	sp.presence = members.NewMetrics(sp.tracker, claims, e.members)

	sp.bgp = bgp.New(ctx, sp.bgpConfig(e, recorder, last.bootID, restarting))
	sp.layer2 = layer2.New(ctx, sp.layer2Config(claims, serviceEvents, last.status))
	sp.source = inputs.New(inputs.Config{
		Node:    s.Node,
		Cluster: sp.cluster,
		Config:  p.config,
		Settled: p.ready.Settled(),
		Members: sp.tracker,
		Urgency: sp.layer2,
	})
	sp.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      sp.queue,
		Source:     sp.source,
		Protocols:  []reconcile.Protocol{sp.bgp, sp.layer2},
		Warnings:   reconcile.NewWarnings(serviceEvents),
		Configured: p.config.Known(),
		Loops:      p.loops,
		Logger:     log,
	})

	sp.object = report.New(sp.reportConfig(mgr, last.status))
	sp.renewer = report.NewRenewer(report.RenewerConfig{
		Object:    sp.object,
		Claimant:  sp.layer2,
		Events:    recorder,
		Isolation: s.Isolation,
		Logger:    log,
	})
	sp.tracker.SetStage(announcement.StageStarting)
	return sp, nil
}

func (sp *speaker) trackerConfig(claims *members.Claims, exclude []*regexp.Regexp) members.Config {
	s := sp.settings
	interval, misses := s.Member.nodeProbes()
	return members.Config{
		Node:    s.Node,
		Address: sp.address.Addr(),
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
		Membership:    sp.members,
		Links:         sp.links,
		Prober:        sp.prober,
		Announcer:     sp.announcer,
		Dialer:        &net.Dialer{},
		Room:          claims,
		Requeue:       sp.queue,
		Status:        sp.status,
		Pass:          sp.loops.Loop("watch"),
		Log:           sp.log,
	}
}

func (sp *speaker) newJoiner(mgr manager.Manager) (*members.Joiner, error) {
	secret := types.NamespacedName{Namespace: sp.settings.Kube.Namespace, Name: sp.settings.Kube.MemberSecret}
	secrets, err := members.SecretCache(mgr, secret)
	if err != nil {
		return nil, err
	}
	return members.NewJoiner(members.JoinerConfig{
		Membership: sp.members,
		Address:    sp.address,
		Secret:     secret,
		API:        sp.live,
		Secrets:    secrets,
		Status:     sp.status,
		Log:        sp.log,
	}), nil
}

func (sp *speaker) bgpConfig(
	e engines, recorder events.EventRecorder, bootID string, restarting bool,
) bgp.Config {
	return bgp.Config{
		Node:           sp.settings.Node,
		Cluster:        sp.cluster,
		Config:         sp.config,
		Settled:        sp.ready.Settled(),
		Queue:          sp.queue,
		Links:          sp.links,
		Speaker:        e.bgp,
		BFD:            e.bfd,
		Events:         recorder,
		Status:         sp.status,
		Loops:          sp.loops,
		Logger:         sp.log,
		BootID:         bootID,
		Restarting:     restarting,
		WeightInterval: sp.settings.Weights,
		ProxyPort:      sp.settings.ProxyPort,
	}
}

func (sp *speaker) layer2Config(
	claims *members.Claims, serviceEvents *reconcile.ServiceEvents, last v1beta1.SpeakerStatus,
) layer2.Config {
	s := sp.settings
	before := presence.ParseObject(&v1beta1.Speaker{Status: last}, s.Node)
	var proxyHealthy func(context.Context) bool
	if s.ProxyPort != 0 {
		proxyHealthy = bgp.ProxyHealthy(s.ProxyPort, func(ctx context.Context) []netip.Addr {
			return sp.cluster.NodeAddresses(ctx, s.Node)
		})
	}
	return layer2.Config{
		Node:          s.Node,
		Config:        sp.config,
		Settled:       sp.ready.Settled(),
		Members:       sp.tracker,
		Claims:        claims,
		Links:         sp.links,
		Announcer:     sp.announcer,
		Prober:        sp.prober,
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
	return report.Config{
		Node:          sp.settings.Node,
		Address:       sp.address,
		Profile:       sp.settings.Member.profile(),
		Cached:        sp.cluster,
		Live:          sp.live,
		Writer:        mgr.GetClient(),
		Ready:         sp.ready,
		Members:       sp.tracker,
		Joiner:        sp.joiner,
		Sections:      []report.Section{sp.layer2, sp.bgp},
		Status:        sp.status,
		Logger:        sp.log,
		IgnoreExclude: sp.settings.IgnoreExclude,
		IgnoreCordon:  sp.settings.IgnoreCordon,
		Last:          last,
	}
}

// collectors returns what is measured by this process, besides what libraries measure.
func collectors(sp *speaker) []prometheus.Collector {
	return []prometheus.Collector{
		sp.presence,
		sp.layer2,
		sp.bgp,
		sp.object,
		sp.loops,
		kube.BuildInfo(version.String()),
	}
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
	sp.place.answer(sp.announcer.Run)
	for _, part := range []func(context.Context) error{
		sp.links.Run,
		sp.prober.Run,
		sp.joiner.Run,
		sp.joiner.RotateKeys,
		sp.tracker.Run,
		sp.bgp.Run,
		sp.layer2.Run,
		sp.loop.Run,
		sp.object.Run,
		sp.renewer.Run,
		sp.renewer.ReportReachable,
		sp.settle,
		sp.relieve,
		sp.confirm,
		func(ctx context.Context) error {
			return sp.others.Watch(ctx, mgr, sp.settings.Kube.Namespace, sp.log)
		},
	} {
		if err := mgr.Add(manager.RunnableFunc(part)); err != nil {
			return err
		}
	}
	return nil
}
