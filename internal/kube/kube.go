// Package kube is what both binaries need of a cluster: the scheme, a manager
// whose caches hold no more than is used, health, and metrics that only
// authenticated clients can read.
package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/settings"
)

// Settings are those that both binaries share.
type Settings struct {
	Kubeconfig     string `mapstructure:"kubeconfig"`
	Namespace      string `mapstructure:"namespace"`
	Class          string `mapstructure:"load-balancer-class"`
	MetricsAddress string `mapstructure:"metrics-bind-address"`
	HealthAddress  string `mapstructure:"health-bind-address"`
	MemberSecret   string `mapstructure:"member-secret"`
}

// AddFlags defines the flags of Settings.
func AddFlags(flags *pflag.FlagSet) {
	flags.String("kubeconfig", "", "Kubeconfig file; empty for the pod's ServiceAccount.")
	flags.String("namespace", "berth-system", "Namespace that Berth runs in.")
	flags.String("load-balancer-class", "",
		"spec.loadBalancerClass of the Services to handle; empty for Services without a class.")
	flags.String("metrics-bind-address", ":9740",
		"Address and port for metrics over HTTPS, for clients that may get /metrics; 0 turns them off.")
	flags.String("health-bind-address", ":9741",
		"Address and port for /healthz and /readyz over HTTP; 0 turns them off.")
	flags.String("member-secret", "berth-memberlist",
		"Secret, in Berth's namespace, with the key that encrypts the traffic between speakers; empty "+
			"where they have none, as with --layer2=false.")
}

// Validate returns an error for each setting that cannot be used, by name.
func (s Settings) Validate() []error {
	var errs []error
	address := func(flag, value string) {
		if _, _, err := net.SplitHostPort(value); err != nil && value != "0" {
			errs = append(errs, settings.Invalid(flag, value, "use ADDRESS:PORT, :PORT, or 0 to turn it off"))
		}
	}
	name := func(flag, value string) {
		if value == "" {
			errs = append(errs, settings.Invalid(flag, value, "it must not be empty"))
		}
	}
	address("metrics-bind-address", s.MetricsAddress)
	address("health-bind-address", s.HealthAddress)
	name("namespace", s.Namespace)
	return errs
}

// MemberKey is the entry of the member Secret that holds the key: 32 random
// bytes.
const MemberKey = "key"

// Scheme returns a scheme with every kind that Berth reads or writes.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(v1beta1.AddToScheme(s))
	return s
}

// ManagerOptions returns the manager's options that both binaries share.
func ManagerOptions() ctrl.Options {
	options := ctrl.Options{
		Scheme:                 Scheme(),
		HealthProbeBindAddress: "0", // Health answers before the manager starts
		// ServeMetrics serves them in place of controller-runtime.
		Metrics: metricsserver.Options{BindAddress: "0"},
	}
	options.Cache.DefaultTransform = trim
	options.Cache.ReaderFailOnMissingInformer = true
	// A process that cannot reach the API server waits for it, unready. It
	// gains nothing from ending, and would be restarted ever more slowly.
	options.Controller.CacheSyncTimeout = 10 * 365 * 24 * time.Hour
	return options
}

// Preload has the manager's cache hold these kinds from the start. The manager
// fills its cache before anything else of it runs, so whatever runs sees all
// objects of these kinds. It waits for kinds that are not installed yet, and
// for the API server.
func Preload(ctx context.Context, c cache.Cache, log *slog.Logger, kinds ...client.Object) error {
	for _, kind := range kinds {
		logged := ""
		err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
			_, err := c.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
			if err != nil && err.Error() != logged {
				logged = err.Error()
				name := reflect.TypeOf(kind).Elem().Name()
				log.Warn("waiting for a kind of API object", "kind", name, "error", err)
			}
			return err == nil, nil
		})
		if err != nil {
			return fmt.Errorf("prepare the cache of %T: %w", kind, err)
		}
	}
	return nil
}

// TrimNodes returns what a cache does with Nodes: it trims them like all objects, but
// keeps the annotations of one, by name, in which BGPPeers may have values.
func TrimNodes(keep string) toolscache.TransformFunc {
	return func(in any) (any, error) {
		node, ok := in.(*corev1.Node)
		if !ok || node.Name != keep {
			return trim(in)
		}
		annotations := node.Annotations
		out, err := trim(in)
		node.Annotations = annotations
		return out, err
	}
}

// trim drops from cached objects what Berth never reads; it is most of their
// size.
func trim(in any) (any, error) {
	object, ok := in.(client.Object)
	if !ok {
		return in, nil
	}
	object.SetManagedFields(nil)
	annotations := object.GetAnnotations()
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	switch o := object.(type) {
	case *corev1.Node:
		o.Status = corev1.NodeStatus{
			Addresses:  o.Status.Addresses,
			Conditions: nodeConditions(o.Status.Conditions),
		}
		o.Annotations = nil
	case *corev1.Secret:
		// Only passwords of BGP peers are read from a cache.
		password, has := o.Data[corev1.BasicAuthPasswordKey]
		o.Data, o.StringData, o.Annotations = nil, nil, nil
		if has {
			o.Data = map[string][]byte{corev1.BasicAuthPasswordKey: password}
		}
	case *discoveryv1.EndpointSlice:
		o.Ports, o.Annotations = nil, nil
		for i, e := range o.Endpoints {
			o.Endpoints[i] = discoveryv1.Endpoint{NodeName: e.NodeName, Conditions: e.Conditions}
		}
	}
	return object, nil
}

// nodeConditions keeps the conditions that Berth reads, without their
// heartbeats.
func nodeConditions(conditions []corev1.NodeCondition) []corev1.NodeCondition {
	var out []corev1.NodeCondition
	for _, c := range conditions {
		switch c.Type {
		case corev1.NodeNetworkUnavailable:
			out = append(out, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		case corev1.NodeReady:
			c.LastHeartbeatTime = metav1.Time{}
			out = append(out, c)
		}
	}
	return out
}

// Condition returns a condition as Berth writes it, observed at a generation of the
// object. When its status last changed is filled in when it is set.
func Condition(
	kind string, status bool, reason v1beta1.Reason, message string, generation int64,
) metav1.Condition {
	s := metav1.ConditionFalse
	if status {
		s = metav1.ConditionTrue
	}
	const longest = 32768 // of a condition's message, by its OpenAPI schema
	return metav1.Condition{
		Type:               kind,
		Status:             s,
		Reason:             string(reason),
		Message:            cut(message, longest),
		ObservedGeneration: generation,
	}
}

// Note returns text as the note of an Event, of which events.k8s.io takes no more
// than 1,024 bytes.
func Note(text string) string { return cut(text, 1024) }

// cut shortens text to at most that many bytes, between two characters, and
// shows by dots that it did.
func cut(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	end := bytes - len("...")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}
