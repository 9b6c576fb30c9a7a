package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/internal/kube"
)

// memberKeyBytes is the length of the key: AES-256.
const memberKeyBytes = 32

// fillMemberSecret puts a random key into the Secret with which the speakers
// encrypt what they tell each other, unless it has one. The install creates
// the Secret empty, so that the controller need not be allowed to create
// Secrets. It tries until it succeeds or ctx ends.
func fillMemberSecret(ctx context.Context, api client.Client, name types.NamespacedName, log *slog.Logger) error {
	told := ""
	err := wait.PollUntilContextCancel(ctx, 2*time.Second, true, func(ctx context.Context) (bool, error) {
		err := fillOnce(ctx, api, name)
		if err != nil && err.Error() != told {
			told = err.Error()
			log.Warn("the member Secret has no key yet", "name", name.String(), "error", err)
		}
		return err == nil, nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func fillOnce(ctx context.Context, api client.Client, name types.NamespacedName) error {
	var secret corev1.Secret
	err := api.Get(ctx, name, &secret)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("it does not exist: create it empty, as the manifests do: %w", err)
	}
	if err != nil || len(secret.Data[kube.MemberKey]) > 0 {
		return err
	}
	key := make([]byte, memberKeyBytes)
	_, _ = rand.Read(key) // never fails: crypto/rand
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[kube.MemberKey] = key
	// Update, with the resource version read above: two replicas that fill
	// the Secret at once must not both succeed.
	return api.Update(ctx, &secret)
}
