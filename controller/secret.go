package main

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
	"github.com/berth-lb/berth/internal/kube"
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

// memberSecret sees to it that the Secret with which speakers encrypt what they
// tell each other has a key. The install creates it empty, so that the controller
// need not be allowed to create Secrets; a tool that replaces objects empties it
// again.
//
// Every replica remembers the keys that it has seen, and the one that leads fills
// the Secret whenever it is found without: with the same keys as before, so that
// no speaker changes its key, or with a random one when it has seen none. What
// stands in the Secret is never overwritten. Keys are never logged.
type memberSecret struct {
	api    client.Client
	name   types.NamespacedName
	leads  <-chan struct{} // closed when this replica leads
	events events.EventRecorder
	log    *slog.Logger

	seen map[string][]byte // all entries as they were when there was a key last
	told string            // the last trouble that was told
}

// errNoKey says that a Secret has no key, and that another replica is to fill it.
var errNoKey = errors.New("it has no key; the replica that leads will fill it")

// run looks at the Secret again and again until ctx ends.
func (m *memberSecret) run(ctx context.Context) error {
	for {
		wait := secretInterval
		if err := m.look(ctx); err != nil {
			wait = secretRetry
			m.tell(ctx, err)
		} else {
			m.told = ""
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
func (m *memberSecret) firstLeads(wait time.Duration) <-chan struct{} {
	if wait != secretRetry || isClosed(m.leads) {
		return nil
	}
	return m.leads
}

// look reads the Secret once, and fills it when it has no key.
func (m *memberSecret) look(ctx context.Context) error {
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
	case !isClosed(m.leads):
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
		m.events.Eventf(&secret, nil, corev1.EventTypeNormal, string(v1beta1.ReasonMemberKeyMade), "FillSecret", "%s",
			"The Secret was empty. It has a random key now, with which speakers encrypt what they tell each other.")
		return nil
	}
	m.log.Warn("the member Secret was emptied, and has its former keys again", "name", m.name.String())
	m.events.Eventf(&secret, nil, corev1.EventTypeWarning, string(v1beta1.ReasonMemberKeyRestored), "FillSecret", "%s",
		"Somebody emptied the Secret. It has its former keys again. Keep your tools from replacing it: its data is not theirs.")
	return nil
}

// withKeys is the data of a Secret without a key, with the entries that were seen
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

// tell says why the Secret has no key, once for each reason.
func (m *memberSecret) tell(ctx context.Context, err error) {
	if ctx.Err() != nil || err.Error() == m.told || apierrors.IsConflict(err) {
		return
	}
	m.told = err.Error()
	m.log.Warn("the member Secret has no key, or cannot be read", "name", m.name.String(), "error", err)
	if apierrors.IsNotFound(err) && isClosed(m.leads) {
		gone := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: m.name.Namespace, Name: m.name.Name}}
		m.events.Eventf(gone, nil, corev1.EventTypeWarning, string(v1beta1.ReasonMemberSecretMissing), "FillSecret", "%s",
			"The Secret does not exist, so speakers that start wait for their key. Create it empty, as the manifests do; the controller fills it.")
	}
}
