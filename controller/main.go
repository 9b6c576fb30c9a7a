// Command controller gives Services of type LoadBalancer the addresses of
// IPAddressPools. One replica at a time does so; others stand by.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
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
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s processSettings
		if err := settings.Load(cmd, &s); err != nil {
			return err
		}
		if err := s.validate(); err != nil {
			return err
		}
		log, err := logging.New(s.Log, os.Stderr)
		if err != nil {
			return err
		}
		return run(cmd.Context(), s, log)
	}
	return cmd
}

// run serves until ctx ends.
func run(ctx context.Context, s processSettings, log *slog.Logger) error {
	log.Info("controller starts", "version", version.String())
	config, err := kube.RESTConfig(s.Kube.Kubeconfig)
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, managerOptions(s))
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	kinds := append(kube.ConfigKinds(), &corev1.Service{}, namespaceKind())
	if err := kube.Preload(ctx, mgr.GetCache(), kinds...); err != nil {
		return err
	}
	state := newState()
	services, err := setupControllers(mgr, s, state, log)
	if err != nil {
		return err
	}
	// Like the controllers, it starts when this replica leads.
	if err := mgr.Add(manager.RunnableFunc(services.adopt)); err != nil {
		return err
	}
	name := types.NamespacedName{Namespace: s.Kube.Namespace, Name: s.Kube.MemberSecret}
	api, err := client.New(config, client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("prepare client: %w", err)
	}
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		_ = fillMemberSecret(ctx, api, name, log) // ends with ctx only
		return nil
	})); err != nil {
		return err
	}
	if err := addHealth(mgr, state); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return err
	}
	log.Info("controller stops")
	return nil
}

func managerOptions(s processSettings) ctrl.Options {
	options := kube.ManagerOptions(s.Kube)
	options.LeaderElection = s.Elect
	options.LeaderElectionID = "berth-controller"
	options.LeaderElectionNamespace = s.Kube.Namespace
	options.LeaderElectionReleaseOnCancel = true
	renew, retry := s.Lease*2/3, s.Lease/6
	options.LeaseDuration, options.RenewDeadline, options.RetryPeriod = &s.Lease, &renew, &retry
	options.Cache.ByObject = map[client.Object]cache.ByObject{
		// A Service that is no longer of type LoadBalancer leaves the cache
		// as if it were deleted.
		&corev1.Service{}: {Field: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer))},
	}
	return options
}

// addHealth says when this replica is ready: its caches are synced and, if it
// leads, the addresses that Services have are adopted.
func addHealth(mgr manager.Manager, state *state) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("caches", func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return fmt.Errorf("the caches of API objects are not filled yet")
		}
		return nil
	}); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("adoption", func(*http.Request) error {
		if isClosed(mgr.Elected()) && !isClosed(state.adopted) {
			return fmt.Errorf("the addresses that Services have are not adopted yet")
		}
		return nil
	})
}

// register makes the metrics of this process known to its metrics endpoint.
func register(m *metrics) error {
	return ctrlmetrics.Registry.Register(m)
}
