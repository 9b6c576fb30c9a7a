// Command speaker runs on every node and announces the addresses of Services:
// those that the node owns to its local network, and those whose traffic it can
// take to its BGP peers.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/internal/speaker/succession"
	"github.com/berth-lb/berth/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if errors.Is(err, errSuccessorLost) {
		// The container goes on as if nothing had happened: if its process ended, the
		// container would be started anew ever more slowly.
		err = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	if err != nil && !errors.Is(err, context.Canceled) {
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
	cmd.AddCommand(&cobra.Command{
		Use:   "started",
		Short: "Succeeds once the speaker in this container has begun; for its startup probe.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return succession.AskStarted(cmd.Context())
		},
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s processSettings
		valid := func() error { return s.validate() } //nolint:gocritic // s.validate would be of s before
		if err := settings.LoadValid(cmd, &s, valid); err != nil {
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

// run serves until ctx ends. If another speaker works on this node, it first prepares what
// needs no port, and then takes its place.
func run(ctx context.Context, s processSettings, log *slog.Logger) error {
	log.Info("speaker starts", "version", version.String(), "node", s.Node)
	defer log.Info("speaker stops")
	at, err := newPlace(ctx, succession.Name(s.Kube.Namespace), log)
	if err != nil {
		return err
	}
	defer at.silence()
	configuration := cluster.NewConfig()
	p := &shared{
		config: configuration,
		ready:  report.NewReadiness(configuration.Known()),
		loops:  &kube.Loops{},
		place:  at,
	}
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- work(working, s, p, log) }()

	select {
	case err := <-worked:
		return err
	case <-ctx.Done():
		stop()
		return <-worked
	case <-at.turn.C():
	}
	hearing, deaf := context.WithCancel(context.WithoutCancel(ctx))
	defer deaf()
	go at.office.Run(hearing)
	return (&tenure{
		log:     log,
		hold:    s.RestartHold,
		seen:    at.office.Seen,
		changed: at.office.Changed(),
		yield:   at.office.Yield,
		isAlone: p.isAlone,
		prepare: p.prepare,
		stop:    stop,
		silence: at.silence,
		worked:  worked,
	}).run(ctx)
}

// shared is what the parts of the process share.
type shared struct {
	config *cluster.Config
	ready  *report.Readiness
	loops  *kube.Loops
	place  *place
	// speaker is nil before its parts are made.
	speaker atomic.Pointer[speaker]
}

// prepare prepares the end of the speaker, if there is one: see [speaker.leave].
func (p *shared) prepare(succeeded bool) {
	if sp := p.speaker.Load(); sp != nil {
		sp.leave(succeeded)
	}
}

// isAlone reports whether nobody answers for what the speaker owns when it ends.
func (p *shared) isAlone() bool {
	sp := p.speaker.Load()
	return sp != nil && sp.isAlone()
}

// work does the work of the process until ctx ends, all but the answers to ARP and NDP,
// which end with its place.
func work(ctx context.Context, s processSettings, p *shared, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if !p.place.hasTurn(ctx) {
			return nil
		}
		return kube.Health{
			Address:   s.Kube.HealthAddress,
			Missing:   p.ready.Missing,
			Loops:     p.loops,
			Listening: p.place.ports.Set,
			Log:       log,
		}.Run(ctx)
	})
	group.Go(func() error {
		if !p.place.hasTurn(ctx) {
			return nil
		}
		if err := succession.SayStarted(ctx); err != nil {
			log.Error("the startup probe will not hear of this speaker", "error", err)
		}
		return nil
	})
	group.Go(func() error { return speak(ctx, s, p, log) })
	return group.Wait()
}

// speak does the work of the speaker until ctx ends.
func speak(ctx context.Context, s processSettings, p *shared, log *slog.Logger) error {
	config, err := kube.RESTConfig(s.Kube.Kubeconfig, log)
	if err != nil {
		return err
	}
	mgr, err := kube.NewManager(ctx, config, managerOptions(s), log)
	if err != nil {
		return err
	}
	kinds := append(s.protocols().ConfigKinds(),
		&corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Node{}, &v1beta1.Speaker{})
	if s.BGP {
		kinds = append(kinds, &corev1.Secret{})
	}
	if err := kube.Preload(ctx, mgr.GetCache(), log, kinds...); err != nil {
		return err
	}
	if err := cluster.AddIndexes(ctx, mgr.GetCache(), s.Kube.Class); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return mgr.Start(ctx) })
	group.Go(func() error { return begin(ctx, mgr, config, s, p, log) })
	return group.Wait()
}

// begin fills the caches of mgr, waits for this process's turn, and then has mgr run the
// parts of the speaker.
func begin(
	ctx context.Context, mgr manager.Manager, config *rest.Config, s processSettings, p *shared,
	log *slog.Logger,
) error {
	api, err := client.New(config, client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("prepare client: %w", err)
	}
	address, err := memberAddress(ctx, api, s, log)
	if err != nil {
		return err
	}
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	if err := p.place.take(ctx); err != nil {
		return err
	}
	// The former speaker, if there was one, has written its last words.
	if err := kube.ServeMetrics(ctx, mgr, config, s.Kube.MetricsAddress, log); err != nil {
		return err
	}
	last := past{bootID: report.ReadBootID(log)}
	if last.status, err = report.LastStatus(ctx, api, s.Node, log); err != nil {
		return err
	}
	sp, err := newSpeaker(ctx, mgr, s, address, p, last, log)
	if err != nil {
		return err
	}
	p.speaker.Store(sp)
	return sp.addTo(mgr)
}

// memberAddress returns where this speaker is a member; the zero AddrPort if it is none.
func memberAddress(
	ctx context.Context, api client.Reader, s processSettings, log *slog.Logger,
) (netip.AddrPort, error) {
	if !s.Layer2 {
		return netip.AddrPort{}, nil
	}
	own, err := members.ParseAddresses(s.Member.Address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	address, err := members.ChooseAddress(ctx, api, s.Node, own, log)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(address, s.Member.Port), nil
}

func managerOptions(s processSettings) ctrl.Options {
	options := kube.ManagerOptions()
	loadBalancers := fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer))
	options.Cache.ByObject = map[client.Object]cache.ByObject{
		// A Service that is no longer of type LoadBalancer leaves the cache
		// as if it were deleted.
		&corev1.Service{}: {
			Field:                 loadBalancers,
			UnsafeDisableDeepCopy: new(true),
		},
		// Every decision only reads these, thousands of times when a node dies.
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
	bootID string                // of this node, "" when it is not known
	status v1beta1.SpeakerStatus // what the speaker before this one wrote
}
