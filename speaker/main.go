// Command speaker runs on every node and announces the addresses of Services
// that the node owns to its local network.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/internal/version"
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
		Short:         "Announces the addresses of Services that this node owns to its local network.",
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

// speaker is the parts of the process. Each runs until its context ends.
type speaker struct {
	settings  processSettings
	log       *slog.Logger
	view      *view
	links     *layer2.LinkWatcher
	members   *membership.Membership
	announcer *layer2.Announcer
	object    *object
	fellows   *fellowReconciler
}

// run serves until ctx ends.
func run(ctx context.Context, s processSettings, log *slog.Logger) error {
	log.Info("speaker starts", "version", version.String(), "node", s.Node)
	state := newState()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return kube.Health{Address: s.Kube.HealthAddress, Missing: state.missing}.Run(ctx)
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
	secret := types.NamespacedName{Namespace: s.Kube.Namespace, Name: s.Kube.MemberSecret}
	key, err := memberKey(ctx, api, secret, log)
	if err != nil {
		return err
	}
	sp, err := newSpeaker(mgr, s, state, key, log)
	if err != nil {
		return err
	}
	kinds := append(kube.ConfigKinds(), &corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Node{}, &v1beta1.Speaker{})
	if err := kube.Preload(ctx, mgr.GetCache(), log, kinds...); err != nil {
		return err
	}
	if err := addIndexes(ctx, mgr.GetCache(), s.Kube.Class); err != nil {
		return err
	}
	if err := sp.addTo(mgr); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func managerOptions(s processSettings) ctrl.Options {
	options := kube.ManagerOptions(s.Kube)
	options.Cache.ByObject = map[client.Object]cache.ByObject{
		// A Service that is no longer of type LoadBalancer leaves the cache
		// as if it were deleted.
		&corev1.Service{}: {Field: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer))},
		// Every decision reads all nodes, and only reads.
		&corev1.Node{}: {UnsafeDisableDeepCopy: new(true)},
	}
	return options
}

func newSpeaker(mgr manager.Manager, s processSettings, state *state, key []byte, log *slog.Logger) (*speaker, error) {
	exclude, err := s.excludedLinks()
	if err != nil {
		return nil, err
	}
	address := netip.AddrPortFrom(netip.MustParseAddr(s.Member.Address), s.Member.Port)
	members, err := membership.New(membership.Config{
		Name:     s.Node,
		BindAddr: address.Addr(),
		Port:     address.Port(),
		Keys:     [][]byte{key},
		Timing: membership.Timing{
			ProbeInterval: s.Member.ProbeInterval,
			ProbeTimeout:  s.Member.ProbeTimeout,
			SuspicionMult: s.Member.Suspicion,
		},
		Logger: log,
	})
	if err != nil {
		return nil, err
	}
	announcer, err := layer2.NewAnnouncer(layer2.Config{Logger: log, BurstCount: s.BurstCount, BurstInterval: s.BurstInterval})
	if err != nil {
		return nil, err
	}
	sp := &speaker{settings: s, log: log, members: members, announcer: announcer, links: layer2.NewLinkWatcher(log)}
	sp.view = &view{
		cached: mgr.GetCache(), state: state, members: members, links: sp.links,
		node: s.Node, excludeLinks: exclude, ignoreExclude: s.IgnoreExclude,
	}
	sp.object = &object{view: sp.view, live: mgr.GetAPIReader(), writer: mgr.GetClient(), log: log, address: address, changed: make(chan struct{}, 1)}
	sp.fellows = &fellowReconciler{live: mgr.GetAPIReader(), node: s.Node, members: members, told: sp.object.tell}
	return sp, nil
}

// addTo has the manager run all parts, and wires them to each other.
func (sp *speaker) addTo(mgr manager.Manager) error {
	addresses := &addressReconciler{
		view: sp.view, announcer: sp.announcer, log: sp.log, told: sp.object.tell,
		events: mgr.GetEventRecorder("berth-speaker"),
	}
	all, err := setupControllers(mgr, addresses, sp.fellows, sp.settings.Kube.Class)
	if err != nil {
		return err
	}
	if err := ctrlmetrics.Registry.Register(newMetrics(sp.view, sp.announcer)); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		sp.links.Run,
		sp.announcer.Run,
		sp.members.Run,
		sp.object.run,
		sp.settle,
		func(ctx context.Context) error { return sp.follow(ctx, all) },
	} {
		if err := mgr.Add(manager.RunnableFunc(part)); err != nil {
			return err
		}
	}
	return nil
}

// settle finds out which fellows are alive; nothing is announced before. Each
// speaker first says where it is itself and then looks for the others, so
// that of any two that start at once, at least one finds the other before it
// announces anything.
func (sp *speaker) settle(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		err := sp.object.write(ctx, sp.object.status())
		if err == nil {
			_, err = sp.fellows.Reconcile(ctx, reconcile.Request{})
		}
		if err != nil {
			sp.log.Warn("cannot look for fellow speakers; trying again", "error", err)
		}
		return err == nil, nil
	})
	if err != nil {
		return nil // ctx has ended
	}
	settle(ctx, sp.members, sp.settings.Member.SettleTimeout, sp.log)
	close(sp.view.state.settled)
	sp.object.tell()
	return nil
}

// follow has every address looked at when members change, or links that can
// carry announcements; those of pods come and go all the time and cannot.
func (sp *speaker) follow(ctx context.Context, all func()) error {
	var before []layer2.Link
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sp.links.Changed():
			now := sp.links.Links()
			sp.announcer.SetLinks(now)
			now = slices.DeleteFunc(now, func(l layer2.Link) bool { return !l.Usable() })
			if slices.EqualFunc(before, now, layer2.Link.Equal) {
				continue
			}
			before = now
		case <-sp.members.Changed():
		}
		all()
		sp.object.tell()
	}
}
