// Package memberkey sees to it that the Secret with the key that encrypts what speakers
// say to each other has one.
package memberkey

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
)

const (
	// memberKeyBytes is the length of the key: AES-256.
	memberKeyBytes = 32
	// secretInterval is how often the member Secret is read. Reading it needs no
	// right but get; to watch it, one would have to be let list Secrets.
	secretInterval = 5 * time.Second
	// secretRetry is the same while it has no key.
	secretRetry = time.Second
)

// Keeper sees to it that the Secret with which speakers encrypt what they
// say to each other has a key. The install creates it empty, so that the controller
// need not be allowed to create Secrets; a tool that replaces objects empties it
// again.
//
// Every replica remembers the keys that it has seen, and the one that leads fills
// the Secret whenever it is found without: with the same keys as before, so that
// no speaker changes its key, or with a random one when it has seen none. What
// stands in the Secret is never overwritten. Keys are never logged.
type Keeper struct {
	api    client.Client
	name   types.NamespacedName
	leads  notify.Latch // set when this replica leads
	events events.EventRecorder
	log    *slog.Logger

	seen       map[string][]byte // all entries as they were when there was a key last
	lastWarned string            // the last trouble that was logged
}

// New returns a Keeper of the Secret of a name.
func New(with shared.Shared, api client.Client, name types.NamespacedName) *Keeper {
	return &Keeper{
		api:    api,
		name:   name,
		leads:  with.State.Leads,
		events: with.Events,
		log:    with.Log,
	}
}

// errNoKey says that a Secret has no key, and that another replica is to fill it.
var errNoKey = errors.New("it has no key; the replica that leads will fill it")

// Run checks the Secret again and again until ctx ends.
func (m *Keeper) Run(ctx context.Context) error {
	for {
		wait := secretInterval
		if err := m.fill(ctx); err != nil {
			wait = secretRetry
			m.warn(ctx, err)
		} else {
			m.lastWarned = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.firstLeads(wait):
		case <-time.After(wait):
		}
	}
}

// firstLeads is closed when this replica leads, for one that waits with an empty
// Secret for that.
func (m *Keeper) firstLeads(wait time.Duration) <-chan struct{} {
	if wait != secretRetry || m.leads.IsSet() {
		return nil
	}
	return m.leads.C()
}

// fill reads the Secret once, and fills it when it has no key.
func (m *Keeper) fill(ctx context.Context) error {
	var secret corev1.Secret
	err := m.api.Get(ctx, m.name, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("it does not exist: create it empty, as the manifests do: %w", err)
	case err != nil:
		return err
	case len(secret.Data[kube.MemberKey]) > 0:
		m.seen = maps.Clone(secret.Data)
		return nil
	case !m.leads.IsSet():
		return errNoKey
	}
	before := m.seen
	secret.Data = withKeys(secret.Data, before)
	keys := maps.Clone(secret.Data)
	// With the resource version read above: what somebody else has written
	// meanwhile must not be overwritten.
	if err := m.api.Update(ctx, &secret); err != nil {
		return fmt.Errorf("fill it: %w", err)
	}
	m.seen = keys
	if before == nil {
		m.log.Info("the member Secret has a new key", "name", m.name.String())
		m.events.Eventf(&secret, nil, corev1.EventTypeNormal, string(v1beta1.ReasonMemberKeyCreated),
			"FillSecret", "%s",
			"The Secret was empty. It has a random key now, with which speakers encrypt what they tell "+
				"each other.")
		return nil
	}
	m.log.Warn("the member Secret was emptied, and has its former keys again", "name", m.name.String())
	m.events.Eventf(&secret, nil, corev1.EventTypeWarning, string(v1beta1.ReasonMemberKeyRestored),
		"FillSecret", "%s",
		"Somebody emptied the Secret. It has its former keys again. Keep your tools from replacing it: its "+
			"data is not theirs.")
	return nil
}

// withKeys returns the data of a Secret without a key, with the entries that were seen
// before, or else with a random key. What stands there stays.
func withKeys(data, before map[string][]byte) map[string][]byte {
	if before == nil {
		key := make([]byte, memberKeyBytes)
		_, _ = rand.Read(key) // never fails: crypto/rand
		before = map[string][]byte{kube.MemberKey: key}
	}
	out := map[string][]byte{}
	for _, entries := range []map[string][]byte{before, data} {
		for name, value := range entries {
			if len(value) > 0 {
				out[name] = value
			}
		}
	}
	return out
}

// warn reports why the Secret has no key, once for each reason.
func (m *Keeper) warn(ctx context.Context, err error) {
	if ctx.Err() != nil || err.Error() == m.lastWarned || apierrors.IsConflict(err) {
		return
	}
	m.lastWarned = err.Error()
	m.log.Warn("the member Secret has no key, or cannot be read", "name", m.name.String(), "error", err)
	if apierrors.IsNotFound(err) && m.leads.IsSet() {
		gone := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: m.name.Namespace, Name: m.name.Name}}
		m.events.Eventf(gone, nil, corev1.EventTypeWarning, string(v1beta1.ReasonMemberSecretNotFound),
			"FillSecret", "%s",
			"The Secret does not exist, so speakers that start wait for their key. Create it empty, as the "+
				"manifests do; the controller fills it.")
	}
}
