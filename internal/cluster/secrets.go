package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/internal/kube"
)

// OtherSecrets knows the names of the Secrets in Berth's namespace that are of
// another type than passwords are, and nothing else of them: a BGPPeer may name one
// by mistake. It is safe for concurrent use.
type OtherSecrets struct {
	queue *kube.Queue[reconcile.Request]

	mu    sync.Mutex
	names map[string]bool
}

// NewOtherSecrets returns OtherSecrets that knows of none yet.
func NewOtherSecrets() *OtherSecrets {
	return &OtherSecrets{queue: &kube.Queue[reconcile.Request]{}, names: map[string]bool{}}
}

// Queue is a source that has the configuration read again when there is a name more or
// less.
func (o *OtherSecrets) Queue() *kube.Queue[reconcile.Request] { return o.queue }

// list returns Secrets with the names, and neither type nor data. Of nil there are none.
func (o *OtherSecrets) list() []corev1.Secret {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []corev1.Secret
	for _, name := range slices.Sorted(maps.Keys(o.names)) {
		out = append(out, corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return out
}

// set records whether a Secret exists.
func (o *OtherSecrets) set(name string, there bool) {
	o.mu.Lock()
	changed := o.names[name] != there
	if there {
		o.names[name] = true
	} else {
		delete(o.names, name)
	}
	o.mu.Unlock()
	if changed {
		o.queue.Add(kube.WholeConfig)
	}
}

// handler has set called. A Secret that was deleted while nobody watched comes as
// a tombstone.
func (o *OtherSecrets) handler() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(s any) { o.set(s.(client.Object).GetName(), true) },
		DeleteFunc: func(s any) {
			if gone, is := s.(cache.DeletedFinalStateUnknown); is {
				s = gone.Obj
			}
			if secret, is := s.(client.Object); is {
				o.set(secret.GetName(), false)
			}
		},
	}
}

// secretNames is how these Secrets are watched: the API server sends no more than
// their metadata.
func secretNames() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return o
}

// Watch follows the Secrets of a namespace until ctx ends. Nobody waits for it.
func (o *OtherSecrets) Watch(
	ctx context.Context, mgr manager.Manager, namespace string, log *slog.Logger,
) error {
	c, err := ctrlcache.New(mgr.GetConfig(), ctrlcache.Options{
		HTTPClient: mgr.GetHTTPClient(),
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
		ByObject: map[client.Object]ctrlcache.ByObject{secretNames(): {
			Namespaces: map[string]ctrlcache.Config{namespace: {}},
			Field:      fields.OneTermNotEqualSelector("type", string(corev1.SecretTypeBasicAuth)),
			Transform:  onlyName,
		}},
	})
	if err != nil {
		return fmt.Errorf("prepare to watch the names of Secrets: %w", err)
	}
	if err := kube.Preload(ctx, c, log, secretNames()); err != nil {
		return nil // ctx has ended
	}
	informer, err := c.GetInformer(ctx, secretNames(), ctrlcache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch the names of Secrets: %w", err)
	}
	if _, err := informer.AddEventHandler(o.handler()); err != nil {
		return fmt.Errorf("watch the names of Secrets: %w", err)
	}
	return c.Start(ctx)
}

// onlyName drops everything from a cached object but its name and version.
func onlyName(in any) (any, error) {
	o, ok := in.(*metav1.PartialObjectMetadata)
	if !ok {
		return in, nil
	}
	o.ObjectMeta = metav1.ObjectMeta{
		Namespace:       o.Namespace,
		Name:            o.Name,
		UID:             o.UID,
		ResourceVersion: o.ResourceVersion,
	}
	return o, nil
}
