package members

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/membership"
)

// askPause is the time between two reads of something that a speaker cannot start without.
const askPause = 500 * time.Millisecond

// memberKeys waits for the keys that encrypt the traffic between speakers. The controller
// creates the first one when Berth is installed.
func memberKeys(
	ctx context.Context, api client.Reader, name types.NamespacedName, log *slog.Logger,
) ([][]byte, error) {
	var keys [][]byte
	logged := ""
	err := wait.PollUntilContextCancel(ctx, askPause, true, func(ctx context.Context) (bool, error) {
		var secret corev1.Secret
		err := api.Get(ctx, name, &secret)
		var unfit []string
		if keys, unfit = keysOf(&secret); len(keys) > 0 {
			warnOfUnfit(log, name, unfit)
			return true, nil
		}
		why := "the controller has not filled it yet"
		switch {
		case apierrors.IsNotFound(err):
			why = "it does not exist: create it empty, as the manifests do"
		case err != nil:
			why = err.Error()
		case len(unfit) > 0:
			why = fmt.Sprintf("its entry %s is no key, which has 16, 24 or 32 bytes: replace it, "+
				"or take it out, and the controller fills in one", kube.MemberKey)
		}
		if why != logged {
			log.Info("waiting for the key in the member Secret", "name", name.String(), "message", why)
			logged = why
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the member Secret: %w", err)
	}
	return keys, nil
}

// keysOf returns the keys in the member Secret: the entry named key, which encrypts, then
// all others by name, which only decrypt. Without a usable entry named key it returns none.
// It skips entries that are no keys, and returns their names as unfit.
func keysOf(secret *corev1.Secret) (keys [][]byte, unfit []string) {
	first := secret.Data[kube.MemberKey]
	switch {
	case len(first) == 0:
		return nil, nil
	case !membership.IsKey(first):
		return nil, []string{kube.MemberKey}
	}
	keys = [][]byte{first}
	for _, name := range slices.Sorted(maps.Keys(secret.Data)) {
		other := secret.Data[name]
		switch {
		case name == kube.MemberKey || len(other) == 0:
		case membership.IsKey(other):
			keys = append(keys, other)
		default:
			unfit = append(unfit, name)
		}
	}
	return keys, unfit
}

// warnOfUnfit logs the names of entries that are no keys, never their values.
func warnOfUnfit(log *slog.Logger, name types.NamespacedName, unfit []string) {
	for _, entry := range unfit {
		log.Warn("an entry of the member Secret is no key, and is not used",
			"name", name.String(), "entry", entry)
	}
}

// SecretCache returns a cache that watches the member Secret and no other object, so that
// all speakers learn of a new key within a moment.
func SecretCache(mgr manager.Manager, name types.NamespacedName) (cache.Cache, error) {
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(),
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{name.Namespace: {}},
			Field:      fields.OneTermEqualSelector("metadata.name", name.Name),
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare to watch the member Secret: %w", err)
	}
	return c, nil
}

// RotateKeys passes the keys of the member Secret to membership whenever they change, until
// ctx ends.
func (j *Joiner) RotateKeys(ctx context.Context) error {
	select {
	case <-j.keyed.C():
	case <-ctx.Done():
		return nil
	}
	if err := kube.Preload(ctx, j.c.Secrets, j.c.Log, &corev1.Secret{}); err != nil {
		return nil // ctx has ended
	}
	informer, err := j.c.Secrets.GetInformer(ctx, &corev1.Secret{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch the member Secret: %w", err)
	}
	w := &keyWatch{
		membership: j.c.Membership,
		name:       j.c.Secret,
		log:        j.c.Log,
		keys:       j.keys,
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.evaluate(o.(*corev1.Secret)) },
		UpdateFunc: func(_, o any) { w.evaluate(o.(*corev1.Secret)) },
	})
	if err != nil {
		return fmt.Errorf("watch the member Secret: %w", err)
	}
	return j.c.Secrets.Start(ctx)
}

// keyWatch passes the keys of the member Secret to membership. If the Secret is deleted or
// empty, or its entry key is no key, it changes nothing: the members continue with the keys
// they have.
type keyWatch struct {
	membership interface{ SetKeys([][]byte) error }
	name       types.NamespacedName
	log        *slog.Logger
	// keys are those in use, unfit the entries that were logged as unusable.
	keys  [][]byte
	unfit []string
}

func (w *keyWatch) evaluate(secret *corev1.Secret) {
	keys, unfit := keysOf(secret)
	if !slices.Equal(unfit, w.unfit) {
		w.unfit = unfit
		warnOfUnfit(w.log, w.name, unfit)
	}
	if len(keys) == 0 || slices.EqualFunc(keys, w.keys, bytes.Equal) {
		return
	}
	if err := w.membership.SetKeys(keys); err != nil {
		w.log.Error("the member Secret has keys that cannot be used; going on with those before",
			"name", w.name.String(), "error", err)
		return
	}
	w.keys = keys
	w.log.Info("member keys changed", "name", w.name.String(), "count", len(keys))
}
