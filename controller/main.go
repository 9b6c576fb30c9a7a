// Command controller gives Services of type LoadBalancer the addresses of
// IPAddressPools. One replica at a time does so; others stand by.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/internal/controller/definitions"
	"github.com/berth-lb/berth/internal/controller/memberkey"
	"github.com/berth-lb/berth/internal/controller/services"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/speakers"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "controller",
		Short:         "Gives Services of type LoadBalancer the addresses of IPAddressPools.",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	addFlags(cmd)
	cmd.AddCommand(installedCommand())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s processSettings
		validate := func() error { return s.validate() } //nolint:gocritic // s.validate would be of s before
		if err := settings.LoadValid(cmd, &s, validate); err != nil {
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

// run serves until ctx ends.
func run(ctx context.Context, s processSettings, log *slog.Logger) error {
	log.Info("controller starts", "version", version.String())
	remembered := state.New()
	// Writes to the API server may wait for long; decisions may not.
	var loops kube.Loops
	health := kube.Health{Address: s.Kube.HealthAddress, Missing: remembered.Missing, Loops: &loops, Log: log}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return health.Run(ctx) })
	group.Go(func() error { return loops.Loop("decisions").Watch(ctx, remembered.PassBy) })
	group.Go(func() error { return control(ctx, s, remembered, &loops, log) })
	err := group.Wait()
	log.Info("controller stops")
	return err
}

// control does the work of the controller until ctx ends or it leads no more.
func control(
	ctx context.Context, s processSettings, remembered *state.State, loops *kube.Loops, log *slog.Logger,
) error {
	rest, err := kube.RESTConfig(s.Kube.Kubeconfig, log)
	if err != nil {
		return err
	}
	mgr, err := kube.NewManager(ctx, rest, managerOptions(s), log)
	if err != nil {
		return err
	}
	if err := kube.ServeMetrics(ctx, mgr, rest, s.Kube.MetricsAddress, log); err != nil {
		return err
	}
	api, err := client.NewWithWatch(rest, client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("prepare client: %w", err)
	}
	kinds := append(kube.ConfigKinds(), &corev1.Service{}, &corev1.Node{}, &v1beta1.Speaker{},
		services.NamespaceKind())
	if err := kube.Preload(ctx, mgr.GetCache(), log, kinds...); err != nil {
		return err
	}
	recorder, err := kube.EventRecorder(mgr, "berth-controller", log)
	if err != nil {
		return err
	}
	with := shared.Shared{
		State:     remembered,
		Queues:    shared.NewQueues(),
		Cached:    mgr.GetCache(),
		Live:      mgr.GetAPIReader(),
		Writer:    mgr.GetClient(),
		Events:    recorder,
		Log:       log,
		Class:     s.Kube.Class,
		Namespace: s.Kube.Namespace,

		AddressMetrics: s.AddressMetrics,
	}
	reporter := announced.New(with)
	service := services.New(with, reporter)
	if err := setupControllers(mgr, with, service); err != nil {
		return err
	}
	checker := definitions.New(with)
	for _, collector := range collectors(service, checker, loops) {
		if err := ctrlmetrics.Registry.Register(collector); err != nil {
			return err
		}
	}

	parts := append(onEveryReplica(with, api, s),
		manager.RunnableFunc(func(ctx context.Context) error {
			remembered.Leads.Set()
			return service.Adopt(ctx)
		}),
		manager.RunnableFunc(reporter.Run),
		manager.RunnableFunc(checker.Run),
	)
	for _, part := range parts {
		if err := mgr.Add(part); err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

// onEveryReplica returns the parts that run whether or not this replica leads, once the
// caches are filled. Without a member Secret nobody keeps one.
func onEveryReplica(with shared.Shared, api client.WithWatch, s processSettings) []manager.Runnable {
	others := services.NewOthers(with)
	out := []manager.Runnable{everywhere(func(ctx context.Context) error {
		return others.Run(ctx, services.OtherThanLoadBalancers(api))
	})}
	if s.Kube.MemberSecret == "" {
		return out
	}
	secret := memberkey.New(with, api, types.NamespacedName{
		Namespace: s.Kube.Namespace,
		Name:      s.Kube.MemberSecret,
	})
	return append(out, everywhere(secret.Run))
}

// collectors returns what is measured by this process, besides what libraries measure.
func collectors(
	service *services.Reconciler, checker *definitions.Checker, loops *kube.Loops,
) []prometheus.Collector {
	return []prometheus.Collector{service.Metrics(), checker, loops, kube.BuildInfo(version.String())}
}

// everywhere is a part that runs whether or not this replica leads.
type everywhere func(context.Context) error

// Start runs the part.
func (e everywhere) Start(ctx context.Context) error { return e(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (everywhere) NeedLeaderElection() bool { return false }

// leaseName is the lease of the replica that leads.
const leaseName = "berth-controller"

func managerOptions(s processSettings) ctrl.Options {
	options := kube.ManagerOptions()
	options.LeaderElection = s.Elect
	options.LeaderElectionID = leaseName
	options.LeaderElectionNamespace = s.Kube.Namespace
	options.LeaderElectionReleaseOnCancel = true
	renew, retry := s.Lease*2/3, s.Lease/6
	options.LeaseDuration, options.RenewDeadline, options.RetryPeriod = &s.Lease, &renew, &retry
	options.Cache.ByObject = map[client.Object]cache.ByObject{
		// A Service that is no longer of type LoadBalancer leaves the cache
		// as if it were deleted.
		&corev1.Service{}: {
			Field: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)),
		},
		// Read for what they say of BGPPeers, or from the API server.
		&v1beta1.Speaker{}: {Transform: speakers.Trim},
	}
	return options
}
