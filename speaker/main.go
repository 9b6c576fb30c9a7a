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
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/version"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp/gobgp"
	"github.com/berth-lb/berth/pkg/layer2"
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
	links     *layer2.LinkWatcher
	members   *membership.Membership
	announcer *layer2.Announcer
	prober    *layer2.Prober
	object    *object
	tracker   *members.Tracker
	peers     *members.Objects
	joiner    *members.Joiner
	claims    *members.Claims
	due       *due
	addresses *addresses
	asking    *asking
	checking  *checking
	conflicts *conflicts
	bgp       *gobgp.Speaker
	sessions  *sessions
	bfd       *bfd.Speaker
	paths     *paths
	routes    *routes
	metrics   *metrics
	rules     *proxyRules
	// introducing is since when this speaker has tried to say where it is, and
	// introduceNext when it tries again.
	introducing, introduceNext time.Time
}

// run serves until ctx ends.
func run(ctx context.Context, s processSettings, log *slog.Logger) error {
	log.Info("speaker starts", "version", version.String(), "node", s.Node)
	state := newState()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return kube.Health{Address: s.Kube.HealthAddress, Missing: state.missing, Loops: &state.loops, Log: log}.Run(ctx)
	})
	group.Go(func() error { return speak(ctx, s, state, log) })
	err := group.Wait()
	log.Info("speaker stops")
	return err
}

// speak does the work of the speaker until ctx ends.
func speak(ctx context.Context, s processSettings, state *state, log *slog.Logger) error {
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
	sp, err := newSpeaker(mgr, s, address, state, past{
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
	if err := addIndexes(ctx, mgr.GetCache(), s.Kube.Class); err != nil {
		return err
	}
	// What runs goes on while the speaker says goodbye.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if err := sp.addTo(running, mgr); err != nil {
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

func newSpeaker(
	mgr manager.Manager, s processSettings, at netip.Addr, state *state, before past, log *slog.Logger,
) (*speaker, error) {
	exclude, err := s.excludedLinks()
	if err != nil {
		return nil, err
	}
	address := netip.AddrPortFrom(at, s.Member.Port)
	group, err := membership.New(membership.Config{
		Name: s.Node, BindAddr: address.Addr(), Port: address.Port(), Keys: members.UnusedKey(), Timing: s.Member.timing(), Logger: log,
		Pass: state.loops.Loop("membership"),
	})
	if err != nil {
		return nil, err
	}
	announcer, err := layer2.NewAnnouncer(layer2.Config{Logger: log, Stall: stall, Pass: state.loops.Loop("announcer")})
	if err != nil {
		return nil, err
	}
	interval, misses := s.Member.nodeProbes()
	prober, err := layer2.NewProber(layer2.ProberConfig{Logger: log, Interval: interval, Misses: misses})
	if err != nil {
		return nil, err
	}
	sp := &speaker{
		settings: s, log: log, members: group, announcer: announcer, prober: prober, links: layer2.NewLinkWatcher(log), due: newDue(),
	}
	status := notify.NewSignal() // the Speaker object is to be written again
	sp.claims = members.NewClaims(group, members.MaxBlocks, partSize, log)
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
		Configuration: state,
		Membership:    group,
		Links:         sp.links,
		Prober:        prober,
		Announcer:     announcer,
		Dialer:        &net.Dialer{},
		Room:          sp.claims,
		Requeue:       requeuer{sp.due},
		Status:        status,
		Pass:          state.loops.Loop("watch"),
		Log:           log,
	})
	if err != nil {
		return nil, err
	}
	secret := types.NamespacedName{Namespace: s.Kube.Namespace, Name: s.Kube.MemberSecret}
	secrets, err := members.SecretCache(mgr, secret)
	if err != nil {
		return nil, err
	}
	sp.joiner = members.NewJoiner(members.JoinerConfig{
		Membership: group,
		Address:    address,
		Secret:     secret,
		API:        mgr.GetAPIReader(),
		Secrets:    secrets,
		Status:     status,
		Log:        log,
	})
	sp.view = &view{
		cached: mgr.GetCache(), state: state, tracker: sp.tracker, joiner: sp.joiner, claims: sp.claims, links: sp.links, others: newOtherSecrets(),
		node: s.Node, ignoreExclude: s.IgnoreExclude, ignoreCordon: s.IgnoreCordon,
		probes: s.ProbeCount > 0, handOver: s.HandOver,
	}
	sp.rules = &proxyRules{log: log, done: make(chan struct{})}
	if s.ProxyPort != 0 {
		sp.rules.written = rulesWritten(s.ProxyPort, sp.view.ownAddresses)
	}
	sp.view.proxies = newProxies(s.Node, askProxy(sp.view.ownAddresses), sp.rules.done, log)
	sp.conflicts = newConflicts(sp.view, announcer)
	sp.bgp = gobgp.New(gobgp.Config{Logger: log, Restarting: before.restarting, Software: "Berth/" + version.String()})
	sp.sessions = newSessions(sp.view, before.bootID, before.restarting)
	// Without the capability for it, the sessions run as well as they can.
	if sp.bfd, err = bfd.New(bfd.Config{Logger: log, Realtime: true}); err != nil {
		return nil, err
	}
	sp.paths = &paths{speaker: sp.bfd, sessions: sp.bgp, links: sp.links, log: log}
	sp.routes = &routes{
		view: sp.view, speaker: sp.bgp, sessions: sp.sessions, paths: sp.paths, log: log, weights: weights{interval: s.Weights}, changed: make(chan struct{}, 1),
		lookAtAll: func(ctx context.Context) error { return sp.addresses.lookAllBGP(ctx) },
	}
	sp.object = &object{
		view: sp.view, live: mgr.GetAPIReader(), writer: mgr.GetClient(), log: log, address: address,
		profile: s.Member.profile(), stage: sp.tracker.Stage, conflicts: sp.conflicts.list, sessions: sp.sessions,
		paths: sp.paths, changed: status, before: before.claims, linksBefore: before.links,
		workedBefore: before.worked,
	}
	sp.sessions.told, sp.paths.told = sp.object.tell, sp.object.tell
	sp.peers = members.NewObjects(mgr.GetCache(), sp.tracker)
	sp.metrics = newMetrics(sp.view, announcer, prober, sp.conflicts)
	sp.metrics.sessions, sp.metrics.speaker = sp.sessions, sp.bgp
	sp.metrics.paths, sp.metrics.watcher = sp.paths, sp.bfd
	sp.metrics.traffic = group
	sp.routes.toRoute = sp.metrics.routed
	sp.tracker.SetStage(announcement.StageStarting)
	return sp, nil
}

// addTo has the manager run all parts, and wires them to each other. ctx ends
// with the manager.
func (sp *speaker) addTo(ctx context.Context, mgr manager.Manager) error {
	recorder, err := kube.EventRecorder(mgr, "berth-speaker", sp.log)
	if err != nil {
		return err
	}
	sp.sessions.events = recorder
	s := sp.settings
	sp.addresses = &addresses{
		view: sp.view, announcer: sp.announcer, claims: sp.claims, log: sp.log, told: sp.object.tell, routed: sp.routes.again,
		events: recorder, class: s.Kube.Class, due: sp.due,
	}
	if err := setupControllers(mgr, sp); err != nil {
		return err
	}
	hosts := newProxyFinder(sp.prober, sp.view)
	sp.asking = &asking{
		prober: sp.prober, proxyHosts: hosts, view: sp.view, log: sp.log, count: s.ProbeCount, interval: s.ProbeInterval, look: sp.addresses.due.add, ctx: ctx,
	}
	sp.checking = &checking{
		prober: sp.prober, proxyHosts: hosts, view: sp.view, found: sp.conflicts.found, clear: sp.conflicts.clear, log: sp.log, interval: s.CheckInterval,
		told: func() {
			sp.conflicts.announce()
			sp.object.tell()
		},
	}
	sp.addresses.ask = sp.asking.start
	sp.view.proxies.ctx, sp.view.proxies.look = ctx, sp.addresses.due.add
	sp.conflicts.tell = sp.addresses.event
	sp.rules.told = sp.addresses.due.addAll
	for _, collector := range []prometheus.Collector{sp.metrics, &sp.view.state.loops} {
		if err := ctrlmetrics.Registry.Register(collector); err != nil {
			return err
		}
	}
	for _, part := range []func(context.Context) error{
		sp.links.Run,
		sp.announcer.Run,
		sp.prober.Run,
		sp.joiner.Run,
		sp.runSessions,
		sp.routes.run,
		sp.paths.run,
		sp.object.run,
		sp.tracker.Run,
		sp.addresses.run,
		sp.asking.run,
		sp.checking.run,
		sp.rules.run,
		sp.settle,
		sp.guard,
		sp.renew,
		sp.tellConflicts,
		sp.tellReachable,
		sp.joiner.RotateKeys,
		func(ctx context.Context) error { return sp.view.others.watch(ctx, mgr, s.Kube.Namespace, sp.log) },
	} {
		if err := mgr.Add(manager.RunnableFunc(part)); err != nil {
			return err
		}
	}
	return nil
}

// pathsStay is how long BFD goes on when BGP has closed its connections, so that
// routers have noticed that before they hear that BFD ends.
const pathsStay = 200 * time.Millisecond

// runSessions keeps the sessions of BGP and of BFD until ctx ends. Those of BFD
// end last: many routers take the end of BFD for a failure of the way, and end a
// BGP session that is still there, with its routes.
func (sp *speaker) runSessions(ctx context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var bfd sync.WaitGroup
	bfd.Go(func() {
		if err := sp.bfd.Run(watching); err != nil {
			sp.log.Error("BFD does not run: failures of routers are noticed by BGP's hold time only", "error", err)
		}
	})
	sp.bgp.Run(ctx)
	if len(sp.paths.all()) > 0 {
		time.Sleep(pathsStay)
	}
	stop()
	bfd.Wait()
	return nil
}
