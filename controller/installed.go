package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/settings"
)

// Times of the test of an installation.
const (
	// installPatience is how long an installation may take until everything works.
	installPatience = 2 * time.Minute
	// installInterval is how often the test asks.
	installInterval = 2 * time.Second
)

// installedCommand tests an installation, for `helm test`.
func installedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "installed",
		Short: "Succeeds once a controller leads, every speaker is ready, and everything that is " +
			"configured is in force.",
		Args: cobra.NoArgs,
	}
	addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s processSettings
		if err := settings.Load(cmd, &s); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), installPatience)
		defer cancel()
		return awaitInstalled(ctx, s.Kube, cmd.OutOrStdout())
	}
	return cmd
}

// awaitInstalled waits until nothing is missing, and prints what is, each time that it changes. The error
// when ctx ends has what was missing last.
func awaitInstalled(ctx context.Context, s kube.Settings, out io.Writer) error {
	rest, err := kube.RESTConfig(s.Kubeconfig, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	api, err := client.New(rest, client.Options{Scheme: kube.Scheme()})
	if err != nil {
		return fmt.Errorf("prepare client: %w", err)
	}
	last := ""
	err = wait.PollUntilContextCancel(ctx, installInterval, true, func(ctx context.Context) (bool, error) {
		found, err := readInstallation(ctx, api, s.Namespace)
		missing := []string{}
		if err != nil {
			missing = append(missing, err.Error())
		} else {
			missing = found.missing(time.Now())
		}
		if text := strings.Join(missing, "\n"); text != last {
			last = text
			_, _ = fmt.Fprintln(out, cmp.Or(text, "everything works"))
		}
		return len(missing) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("the installation does not work after %s:\n%s", installPatience, last)
	}
	return nil
}

// installation is what the API server says of an installation.
type installation struct {
	lease    coordinationv1.Lease
	speakers []v1beta1.Speaker
	objects  []configured
}

// configured is an object that a user wrote.
type configured struct {
	kind, name string
	generation int64
	conditions []metav1.Condition
}

// readInstallation reads what the controller may read.
func readInstallation(ctx context.Context, api client.Reader, namespace string) (installation, error) {
	var found installation
	lease := types.NamespacedName{
		Namespace: namespace,
		Name:      leaseName,
	}
	if err := api.Get(ctx, lease, &found.lease); client.IgnoreNotFound(err) != nil {
		return installation{}, fmt.Errorf("read the lease of the controller: %w", err)
	}
	var speakers v1beta1.SpeakerList
	if err := api.List(ctx, &speakers); err != nil {
		return installation{}, fmt.Errorf("list Speakers: %w", err)
	}
	found.speakers = speakers.Items
	objects, err := kube.ConfigObjects(ctx, api)
	if err != nil {
		return installation{}, err
	}
	for i := range objects.Pools {
		o := &objects.Pools[i]
		found.add("IPAddressPool", o, o.Status.Conditions)
	}
	for i := range objects.L2Advertisements {
		o := &objects.L2Advertisements[i]
		found.add("L2Advertisement", o, o.Status.Conditions)
	}
	for i := range objects.BGPPeers {
		o := &objects.BGPPeers[i]
		found.add("BGPPeer", o, o.Status.Conditions)
	}
	for i := range objects.BGPAdvertisements {
		o := &objects.BGPAdvertisements[i]
		found.add("BGPAdvertisement", o, o.Status.Conditions)
	}
	for i := range objects.BFDProfiles {
		o := &objects.BFDProfiles[i]
		found.add("BFDProfile", o, o.Status.Conditions)
	}
	for i := range objects.Communities {
		o := &objects.Communities[i]
		found.add("Community", o, o.Status.Conditions)
	}
	return found, nil
}

func (i *installation) add(kind string, o client.Object, conditions []metav1.Condition) {
	i.objects = append(i.objects, configured{
		kind:       kind,
		name:       o.GetName(),
		generation: o.GetGeneration(),
		conditions: conditions,
	})
}

// missing returns what does not work, a sentence each, in the order in which things begin to.
func (i *installation) missing(now time.Time) []string {
	var out []string
	if !leads(i.lease.Spec, now) {
		out = append(out, "No controller leads.")
	}
	if len(i.speakers) == 0 {
		out = append(out, "No speaker has reported.")
	}
	for _, s := range i.speakers {
		if !meta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.ConditionReady) {
			out = append(out, sentence("The speaker of "+s.Name, s.Status.Conditions))
		}
	}
	for _, o := range i.objects {
		c := meta.FindStatusCondition(o.conditions, v1beta1.ConditionReady)
		switch {
		case c == nil || c.ObservedGeneration < o.generation:
			out = append(out, fmt.Sprintf("%s %s has not been read.", o.kind, o.name))
		case c.Status != metav1.ConditionTrue:
			out = append(out, sentence(o.kind+" "+o.name, o.conditions))
		}
	}
	return out
}

// sentence says of something that it is not ready, and why if that is known.
func sentence(what string, conditions []metav1.Condition) string {
	if c := meta.FindStatusCondition(conditions, v1beta1.ConditionReady); c != nil {
		return fmt.Sprintf("%s is not ready: %s: %s", what, c.Reason, c.Message)
	}
	return what + " is not ready."
}

// leads reports whether somebody holds a lease now.
func leads(lease coordinationv1.LeaseSpec, now time.Time) bool {
	if lease.HolderIdentity == nil || *lease.HolderIdentity == "" ||
		lease.RenewTime == nil || lease.LeaseDurationSeconds == nil {
		return false
	}
	return now.Before(lease.RenewTime.Add(time.Duration(*lease.LeaseDurationSeconds) * time.Second))
}
