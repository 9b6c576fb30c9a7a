// Command speaker runs on every node and announces the addresses of Services:
// those that the node owns to its local network, and those whose traffic it can
// take to its BGP peers.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/internal/speaker/bgp"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/version"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp/gobgp"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	linkwatch "github.com/berth-lb/berth/pkg/layer2/links/watch"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "speaker:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "speaker",
		Short:         "Announces the addresses of Services to the local network and to BGP peers.",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s processSettings
		if err := settings.LoadValid(cmd, &s, func() error { return s.validate() }); err != nil { //nolint:gocritic // s.validate would be of s before
			return err
		}
		log, err := logging.New(s.Log, os.Stderr)
		if err != nil {
			return err
		}
		settings.WarnOfUnknown(log, cmd, os.Environ())
		return run(cmd.Context(), s, log)
	}
	return cmd
}

// speaker is the parts of the process. Each runs until its context ends.
type speaker struct {
	settings  processSettings
	log       *slog.Logger
	view      *view
	links     *linkwatch.Watcher
	members   *membership.Membership
	announcer *announcer.Announcer
	prober    *prober.Prober
	object    *object
	tracker   *members.Tracker
	peers     *members.Objects
	joiner    *members.Joiner
	claims    *members.Claims
	addresses *addresses
	asking    *asking
	checking  *checking
	conflicts *conflicts
	bgp       *bgp.Controller
	queue     *reconcile.Queue
	loop      *reconcile.Loop
	others    *cluster.OtherSecrets
	events    events.EventRecorder
	metrics   *metrics
	// introducing is since when this speaker has tried to say where it is, and
	// introduceNext when it tries again.
	introducing, introduceNext time.Time
}

// run serves until ctx ends.
func run(ctx context.Context, s processSettings, log *slog.Logger) error {
	log.Info("speaker starts", "version", version.String(), "node", s.Node)
	configuration := cluster.NewConfig()
	state := newState(configuration.Known())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return kube.Health{Address: s.Kube.HealthAddress, Missing: state.missing, Loops: &state.loops, Log: log}.Run(ctx)
	})
	group.Go(func() error { return speak(ctx, s, configuration, state, log) })
	err := group.Wait()
	log.Info("speaker stops")
	return err
}

// speak does the work of the speaker until ctx ends.
func speak(
	ctx context.Context, s processSettings, configuration *cluster.Config, state *state, log *slog.Logger,
) error {
	config, err := kube.RESTConfig(s.Kube.Kubeconfig)
	if err != nil {
		return err
	}
	mgr, err := kube.NewManager(ctx, config, managerOptions(s), log)
	if err != nil {
		return err
	}
	api, err := client.New(config, client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("prepare client: %w", err)
	}
	boot := readBootID(log)
	before, err := lastStatus(ctx, api, s.Node, log)
	if err != nil {
		return err
	}
	own, err := members.ParseAddresses(s.Member.Address)
	if err != nil {
		return err
	}
	address, err := members.ChooseAddress(ctx, api, s.Node, own, log)
	if err != nil {
		return err
	}
	// What runs goes on while the speaker leaves in order.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	sp, err := newSpeaker(running, mgr, s, address, configuration, state, past{
		bootID: boot, restarting: hadSessions(before, boot), claims: members.ParseObject(&v1beta1.Speaker{Status: before}, s.Node).State.Claims, links: before.Links,
		worked: before.Worked(),
	}, log)
	if err != nil {
		return err
	}
	kinds := append(kube.ConfigKinds(), &corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Node{}, &corev1.Secret{}, &v1beta1.Speaker{})
	if err := kube.Preload(ctx, mgr.GetCache(), log, kinds...); err != nil {
		return err
	}
	if err := cluster.AddIndexes(ctx, mgr.GetCache(), s.Kube.Class); err != nil {
		return err
	}
	if err := sp.addTo(mgr); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() {
		defer stop()
		sp.leave()
	})
	return mgr.Start(running)
}

func managerOptions(s processSettings) ctrl.Options {
	options := kube.ManagerOptions(s.Kube)
	options.Cache.ByObject = map[client.Object]cache.ByObject{
		// A Service that is no longer of type LoadBalancer leaves the cache
		// as if it were deleted.
		&corev1.Service{}: {
			Field:                 fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)),
			UnsafeDisableDeepCopy: new(true),
		},
		// Every decision reads these, and only reads: thousands of them when a
		// node dies.
		&discoveryv1.EndpointSlice{}: {UnsafeDisableDeepCopy: new(true)},
		&corev1.Node{}:               {UnsafeDisableDeepCopy: new(true), Transform: kube.TrimNodes(s.Node)},
		// The passwords of BGP peers, and no other Secrets.
		&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{s.Kube.Namespace: {}},
			Field:      fields.OneTermEqualSelector("type", string(corev1.SecretTypeBasicAuth)),
		},
	}
	return options
}

// past is what a speaker knows before it begins.
type past struct {
	bootID string // of this node
	// restarting is set when an earlier speaker had BGP sessions in this boot
	// that it has not ended for good.
	restarting bool
	// claims and links are those of the speaker before this one, as its object
	// tells.
	claims map[netip.Addr]announcement.Claim
	links  []v1beta1.SpeakerLink
	// worked is set when a speaker of this node has been ready.
	worked bool
}

// engines are what talks to the network. Each takes what it is to do and says what it sees.
type engines struct {
	members   *membership.Membership
	announcer *announcer.Announcer
	prober    *prober.Prober
	bgp       *gobgp.Speaker
	bfd       *bfd.Speaker
}

func newEngines(s processSettings, address netip.AddrPort, loops *kube.Loops, restarting bool, log *slog.Logger) (engines, error) {
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
	e.announcer, err = announcer.New(announcer.Config{Logger: log, Stall: stall, Pass: loops.Loop("announcer")})
	if err != nil {
		return engines{}, err
	}
	interval, misses := s.Member.nodeProbes()
	e.prober, err = prober.New(prober.Config{Logger: log, Interval: interval, Misses: misses})
	if err != nil {
		return engines{}, err
	}
	// Without the capability for it, the sessions run as well as they can.
	e.bfd, err = bfd.New(bfd.Config{Logger: log, Realtime: true})
	if err != nil {
		return engines{}, err
	}
	e.bgp = gobgp.New(gobgp.Config{Logger: log, Restarting: restarting, Software: "Berth/" + version.String()})
	return e, nil
}

// newSpeaker makes all parts. ctx ends with the manager.
func newSpeaker( //nolint:funlen // one part after the other, one field a line
	ctx context.Context, mgr manager.Manager, s processSettings, at netip.Addr, configuration *cluster.Config, state *state,
	before past, log *slog.Logger,
) (*speaker, error) {
	exclude, err := s.excludedLinks()
	if err != nil {
		return nil, err
	}
	recorder, err := kube.EventRecorder(mgr, "berth-speaker", log)
	if err != nil {
		return nil, err
	}
	address := netip.AddrPortFrom(at, s.Member.Port)
	e, err := newEngines(s, address, &state.loops, before.restarting, log)
	if err != nil {
		return nil, err
	}
	secret := types.NamespacedName{Namespace: s.Kube.Namespace, Name: s.Kube.MemberSecret}
	secrets, err := members.SecretCache(mgr, secret)
	if err != nil {
		return nil, err
	}
	interval, misses := s.Member.nodeProbes()
	announcer, prober := e.announcer, e.prober

	sp := &speaker{
		settings: s, log: log, members: e.members, announcer: announcer, prober: prober, links: linkwatch.New(log),
		queue: reconcile.NewQueue(), others: cluster.NewOtherSecrets(), events: recorder,
	}
	status := notify.NewSignal()
	reader := cluster.NewReader(mgr.GetCache(), s.Kube.Class, s.Kube.Namespace, sp.others)
	serviceEvents := reconcile.NewServiceEvents(mgr.GetCache(), recorder)
	sp.claims = members.NewClaims(e.members, members.MaxBlocks, reconcile.PartSize, log)
	sp.tracker, err = members.New(members.Config{
		Node:    s.Node,
		Address: address.Addr(),
		Patience: announcement.Patience{
			Restart: s.RestartHold,
			Silence: s.SilenceHold,
			Doubt:   time.Duration(misses+2) * interval,
			Renewal: presence.RenewalTrust,
			Contact: contactPatience,
		},
		ExcludeLinks:  exclude,
		IgnoreExclude: s.IgnoreExclude,
		IgnoreCordon:  s.IgnoreCordon,
		Configuration: configuration,
		Membership:    e.members,
		Links:         sp.links,
		Prober:        prober,
		Announcer:     announcer,
		Dialer:        &net.Dialer{},
		Room:          sp.claims,
		Requeue:       sp.queue,
		Status:        status,
		Pass:          state.loops.Loop("watch"),
		Log:           log,
	})
	if err != nil {
		return nil, err
	}
	sp.joiner = members.NewJoiner(members.JoinerConfig{
		Membership: e.members,
		Address:    address,
		Secret:     secret,
		API:        mgr.GetAPIReader(),
		Secrets:    secrets,
		Status:     status,
		Log:        log,
	})
	sp.view = &view{
		cluster: reader, config: configuration, state: state, tracker: sp.tracker, joiner: sp.joiner, claims: sp.claims, links: sp.links,
		node: s.Node, ignoreExclude: s.IgnoreExclude, ignoreCordon: s.IgnoreCordon, probes: s.ProbeCount > 0, handOver: s.HandOver,
	}
	sp.bgp = bgp.New(ctx, bgp.Config{
		Node:           s.Node,
		Cluster:        reader,
		Config:         configuration,
		Settled:        state.settled,
		Queue:          sp.queue,
		Links:          sp.links,
		Speaker:        e.bgp,
		BFD:            e.bfd,
		Events:         recorder,
		Status:         status,
		Loops:          &state.loops,
		Logger:         log,
		BootID:         before.bootID,
		Restarting:     before.restarting,
		WeightInterval: s.Weights,
		ProxyPort:      s.ProxyPort,
	})
	sp.conflicts = newConflicts(sp.view, announcer, serviceEvents)
	hosts := newProxyFinder(prober, sp.view)
	sp.asking = &asking{
		prober: prober, proxyHosts: hosts, view: sp.view, log: log, count: s.ProbeCount, interval: s.ProbeInterval, queue: sp.queue, ctx: ctx,
	}
	sp.checking = &checking{
		prober: prober, proxyHosts: hosts, view: sp.view, conflicts: sp.conflicts, status: status, log: log, interval: s.CheckInterval,
	}
	sp.addresses = &addresses{
		view: sp.view, announcer: announcer, claims: sp.claims, asking: sp.asking, queue: sp.queue, events: serviceEvents, status: status, log: log,
	}
	sp.loop = reconcile.NewLoop(reconcile.LoopConfig{
		Queue:      sp.queue,
		Source:     sp.view,
		Layer2:     sp.addresses,
		BGP:        sp.bgp,
		Warnings:   reconcile.NewWarnings(serviceEvents),
		Configured: configuration.Known(),
		Loops:      &state.loops,
		Logger:     log,
	})
	sp.object = &object{
		view: sp.view, live: mgr.GetAPIReader(), writer: mgr.GetClient(), log: log, address: address,
		profile: s.Member.profile(), stage: sp.tracker.Stage, conflicts: sp.conflicts.list, bgp: sp.bgp,
		dirty: status, before: before.claims, linksBefore: before.links, workedBefore: before.worked,
	}
	sp.peers = members.NewObjects(mgr.GetCache(), sp.tracker)
	sp.metrics = newMetrics(sp.view, announcer, prober, sp.conflicts, e.members)
	sp.tracker.SetStage(announcement.StageStarting)
	return sp, nil
}

// addTo has the manager run all parts.
func (sp *speaker) addTo(mgr manager.Manager) error {
	if err := setupControllers(mgr, sp); err != nil {
		return err
	}
	for _, collector := range []prometheus.Collector{sp.metrics, sp.bgp, &sp.view.state.loops} {
		if err := ctrlmetrics.Registry.Register(collector); err != nil {
			return err
		}
	}
	for _, part := range []func(context.Context) error{
		sp.links.Run,
		sp.announcer.Run,
		sp.prober.Run,
		sp.joiner.Run,
		sp.bgp.Run,
		sp.object.run,
		sp.tracker.Run,
		sp.loop.Run,
		sp.asking.run,
		sp.checking.run,
		sp.settle,
		sp.guard,
		sp.renew,
		sp.tellConflicts,
		sp.tellReachable,
		sp.joiner.RotateKeys,
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
