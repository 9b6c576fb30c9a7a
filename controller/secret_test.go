package main

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/berth-lb/berth/internal/kube"
)

var quiet = slog.New(slog.DiscardHandler)

func secret(key []byte) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "members"}}
	if key != nil {
		s.Data = map[string][]byte{kube.MemberKey: key}
	}
	return s
}

func keyIn(t *testing.T, api client.Client) []byte {
	t.Helper()
	var s corev1.Secret
	if err := api.Get(t.Context(), key("members"), &s); err != nil {
		t.Fatal(err)
	}
	return s.Data[kube.MemberKey]
}

func TestMemberSecretIsFilledOnce(t *testing.T) {
	api := fake.NewClientBuilder().WithObjects(secret(nil)).Build()
	if err := fillMemberSecret(t.Context(), api, key("members"), quiet); err != nil {
		t.Fatal(err)
	}
	first := keyIn(t, api)
	if len(first) != 32 || bytes.Equal(first, make([]byte, 32)) {
		t.Fatalf("the key is %x", first)
	}
	if err := fillMemberSecret(t.Context(), api, key("members"), quiet); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(keyIn(t, api), first) {
		t.Error("the key was replaced")
	}
}

func TestMemberSecretWithAKeyIsLeftAlone(t *testing.T) {
	own := []byte("the key that the user put here..")
	api := fake.NewClientBuilder().WithObjects(secret(own)).WithInterceptorFuncs(interceptor.Funcs{
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			t.Error("the Secret is written")
			return nil
		},
	}).Build()
	if err := fillMemberSecret(t.Context(), api, key("members"), quiet); err != nil {
		t.Fatal(err)
	}
}

func TestMemberSecretIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientBuilder().Build()
		done := make(chan error)
		go func() { done <- fillMemberSecret(t.Context(), api, key("members"), quiet) }()
		synctest.Wait()
		if err := api.Create(t.Context(), secret(nil)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(keyIn(t, api)) != 32 {
			t.Error("the Secret has no key")
		}
	})
}

func TestMemberSecretIsNoErrorWhenTheControllerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- fillMemberSecret(ctx, fake.NewClientBuilder().Build(), key("members"), quiet) }()
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Errorf("got %v", err)
		}
	})
}

// TestReplicasAgreeOnOneKey: two replicas find the Secret empty; the second
// to write is refused, and then sees the key of the first.
func TestReplicasAgreeOnOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs := []byte("the key that the other one wrote")
		first := true
		api := fake.NewClientBuilder().WithObjects(secret(nil)).WithInterceptorFuncs(interceptor.Funcs{
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.UpdateOption) error {
				if first {
					first = false
					var s corev1.Secret
					if err := c.Get(ctx, key("members"), &s); err != nil {
						return err
					}
					s.Data = map[string][]byte{kube.MemberKey: theirs}
					if err := c.Update(ctx, &s); err != nil {
						return err
					}
				}
				return c.Update(ctx, o, options...)
			},
		}).Build()
		if err := fillMemberSecret(t.Context(), api, key("members"), quiet); err != nil {
			t.Fatal(err)
		}
		if got := keyIn(t, api); !bytes.Equal(got, theirs) {
			t.Errorf("the key is %q, want that of the replica that was first", got)
		}
	})
}
