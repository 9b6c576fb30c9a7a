package memberkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
)

// entries are those of a Secret, by name.
type entries map[string]string

// keeper is replicas of the controller at one API server.
type keeper struct {
	*testing.T
	ctx    context.Context
	parts  sync.WaitGroup
	api    client.WithWatch
	away   atomic.Bool                            // the API server
	before func(client.WithWatch, *corev1.Secret) // the next update
	log    strings.Builder
	logger *slog.Logger // one for all replicas: its handler serialises what they write
	mu     sync.Mutex
	events []string
}

// keepers runs a story about the member Secret.
func keepers(t *testing.T, story func(k *keeper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		k := &keeper{T: t, ctx: ctx}
		k.logger = slog.New(slog.NewTextHandler(&k.log, nil))
		defer k.parts.Wait()
		defer stop()
		k.api = fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object,
				options ...client.GetOption) error {
				if k.away.Load() {
					return errors.New("the API server is away")
				}
				return c.Get(ctx, key, o, options...)
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object,
				options ...client.UpdateOption) error {
				if first := k.before; first != nil {
					k.before = nil
					first(c, o.(*corev1.Secret))
				}
				return c.Update(ctx, o, options...)
			},
		}).Build()
		story(k)
	})
}

// replica starts one that leads when its latch is set, and ends with ctx.
func (k *keeper) replica(ctx context.Context, leads notify.Latch) (ended <-chan error) {
	out := make(chan error, 1)
	with := shared.Shared{State: &state.State{Leads: leads}, Events: k, Log: k.logger}
	m := New(with, k.api, controllertest.Key("members"))
	k.parts.Go(func() { out <- m.Run(ctx) })
	return out
}

// leader starts a replica that leads.
func (k *keeper) leader(ctx context.Context) {
	leads := notify.NewLatch()
	leads.Set()
	k.replica(ctx, leads)
	k.pass()
}

// pass lets the replicas look at the Secret again.
func (k *keeper) pass() {
	time.Sleep(secretInterval + secretRetry)
	synctest.Wait()
}

// Eventf makes the keeper an event recorder.
func (k *keeper) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, fmt.Sprintf("%s %s %s", regarding.(client.Object).GetName(), kind, reason))
	if fmt.Sprintf(note, args...) == "" {
		k.Error("an Event without a note")
	}
}

func secretOf(data entries) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "members"}}
	for name, value := range data {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[name] = []byte(value)
	}
	return s
}

// put makes the Secret one with these entries, whatever it was.
func (k *keeper) put(data entries) {
	k.Helper()
	_ = k.api.Delete(k.ctx, secretOf(nil))
	if err := k.api.Create(k.ctx, secretOf(data)); err != nil {
		k.Fatal(err)
	}
}

// has returns the entries of the Secret.
func (k *keeper) has() entries {
	k.Helper()
	var s corev1.Secret
	if err := k.api.Get(k.ctx, controllertest.Key("members"), &s); err != nil {
		k.Fatal(err)
	}
	out := entries{}
	for name, value := range s.Data {
		out[name] = string(value)
	}
	return out
}

// did checks the Events, and that no key stands in the log.
func (k *keeper) did(events ...string) {
	k.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.events, events) {
		k.Errorf("Events are %q, want %q", k.events, events)
	}
	for _, value := range k.has() {
		if value != "" && strings.Contains(k.log.String(), value) {
			k.Errorf("a key stands in the log:\n%s", k.log.String())
		}
	}
}

func TestMemberSecretIsFilledOnce(t *testing.T) {
	keepers(t, func(k *keeper) {
		k.put(nil)
		k.leader(k.ctx)
		first := k.has()
		got := []byte(first[kube.MemberKey])
		if len(got) != 32 || bytes.Equal(got, make([]byte, 32)) || len(first) != 1 {
			k.Fatalf("the entries are %q", slices.Collect(maps.Keys(first)))
		}
		k.pass()
		k.leader(k.ctx) // the next one
		if got := k.has(); !maps.Equal(got, first) {
			k.Error("the key was replaced")
		}
		k.did("members Normal MemberKeyCreated")
	})
}

// TestMemberSecretThatIsEmptied: by whatever means; it has the same keys again, and
// what stands in it stays.
func TestMemberSecretThatIsEmptied(t *testing.T) {
	seen := entries{
		kube.MemberKey: "the key that the user put here..",
		"former":       "the key before that one.........",
	}
	for _, test := range []struct {
		story  string
		change func(k *keeper)
		want   entries
		events []string
	}{
		{"nothing happens", func(*keeper) {}, seen, nil},
		{"it is replaced by an empty one", func(k *keeper) {
			s := secretOf(nil)
			if err := k.api.Get(k.ctx, controllertest.Key("members"), s); err != nil {
				k.Fatal(err)
			}
			s.Data = nil
			if err := k.api.Update(k.ctx, s); err != nil {
				k.Fatal(err)
			}
		}, seen, []string{"members Warning MemberKeyRestored"}},
		{"it is deleted and created again",
			func(k *keeper) { k.put(nil) }, seen, []string{"members Warning MemberKeyRestored"}},
		{"its key is empty, and something else stands there", func(k *keeper) {
			k.put(entries{
				kube.MemberKey: "",
				"former":       "another one than was there before",
				"note":         "do not touch",
			})
		}, entries{
			kube.MemberKey: seen[kube.MemberKey],
			"former":       "another one than was there before",
			"note":         "do not touch",
		},
			[]string{"members Warning MemberKeyRestored"}},
		{"it has another key now",
			func(k *keeper) { k.put(entries{kube.MemberKey: "a key of somebody who knows how."}) },
			entries{kube.MemberKey: "a key of somebody who knows how."}, nil},
		{"it had another key, and then none", func(k *keeper) {
			k.put(entries{kube.MemberKey: "a key of somebody who knows how."})
			k.pass()
			k.put(nil)
		}, entries{kube.MemberKey: "a key of somebody who knows how."},
			[]string{"members Warning MemberKeyRestored"}},
		{"somebody else fills it at the same moment", func(k *keeper) {
			k.before = func(c client.WithWatch, _ *corev1.Secret) {
				s := secretOf(nil)
				if err := c.Get(k.ctx, controllertest.Key("members"), s); err != nil {
					k.Fatal(err)
				}
				s.Data = secretOf(entries{kube.MemberKey: "the key that was written first.."}).Data
				if err := c.Update(k.ctx, s); err != nil {
					k.Fatal(err)
				}
			}
			k.put(nil)
		}, entries{kube.MemberKey: "the key that was written first.."}, nil},
		{"the API server is away meanwhile", func(k *keeper) {
			k.put(nil)
			k.away.Store(true)
			time.Sleep(time.Hour)
			k.away.Store(false)
		}, seen, []string{"members Warning MemberKeyRestored"}},
		{"it is deleted, and created an hour later", func(k *keeper) {
			if err := k.api.Delete(k.ctx, secretOf(nil)); err != nil {
				k.Fatal(err)
			}
			time.Sleep(time.Hour)
			k.put(nil)
		}, seen, []string{"members Warning MemberSecretNotFound", "members Warning MemberKeyRestored"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			keepers(t, func(k *keeper) {
				k.put(seen)
				k.leader(k.ctx)
				test.change(k)
				k.pass()
				if got := k.has(); !maps.Equal(got, test.want) {
					k.Errorf("it has %q, want %q", got, test.want)
				}
				k.did(test.events...)
			})
		})
	}
}

// TestTheReplicaThatTakesOverRemembers: the leader dies, the Secret is emptied, and
// one that stood by has seen its key.
func TestTheReplicaThatTakesOverRemembers(t *testing.T) {
	keepers(t, func(k *keeper) {
		k.put(nil)
		leader, die := context.WithCancel(k.ctx)
		leads := notify.NewLatch()
		k.replica(k.ctx, leads)
		k.leader(leader)
		first := k.has()
		k.pass()
		die()
		synctest.Wait()
		k.put(nil)
		k.pass()
		if got := k.has(); len(got) != 0 {
			k.Error("a replica that stands by has written")
		}
		leads.Set()
		synctest.Wait()
		if got := k.has(); !maps.Equal(got, first) || len(got) != 1 {
			k.Error("the key is another one")
		}
	})
}

func TestMemberSecretIsWaitedFor(t *testing.T) {
	keepers(t, func(k *keeper) {
		k.leader(k.ctx)
		k.pass()
		k.put(nil)
		k.pass()
		if got := k.has(); len(got[kube.MemberKey]) != 32 {
			k.Error("the Secret has no key")
		}
		k.did("members Warning MemberSecretNotFound", "members Normal MemberKeyCreated")
		if n := strings.Count(k.log.String(), "does not exist"); n != 1 {
			k.Errorf("that it is missing was logged %d times", n)
		}
	})
}

func TestMemberSecretIsNoErrorWhenTheControllerStops(t *testing.T) {
	keepers(t, func(k *keeper) {
		ctx, stop := context.WithCancel(k.ctx)
		ended := k.replica(ctx, notify.NewLatch())
		synctest.Wait()
		stop()
		if err := <-ended; err != nil {
			k.Errorf("got %v", err)
		}
	})
}
