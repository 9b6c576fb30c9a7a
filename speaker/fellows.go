package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/membership"
)

// fellowReconciler tells membership where the other speakers are: each says
// so in its Speaker object. What it told last stays true while the API
// server is away.
type fellowReconciler struct {
	live    client.Reader // the API server
	node    string
	members interface {
		SetPeers([]netip.AddrPort)
	}
	told func() // has this node's own object written again, if it is gone
}

// Reconcile reads all Speaker objects.
func (r *fellowReconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var speakers v1beta1.SpeakerList
	if err := r.live.List(ctx, &speakers); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Speakers: %w", err)
	}
	var peers []netip.AddrPort
	for _, s := range speakers.Items {
		if s.Name == r.node {
			continue
		}
		if peer, err := netip.ParseAddrPort(s.Status.MemberAddress); err == nil {
			peers = append(peers, peer)
		}
	}
	r.members.SetPeers(peers)
	r.told()
	return reconcile.Result{}, nil
}

// settle waits until it is known which fellows are alive, at most for
// timeout.
func settle(ctx context.Context, members *membership.Membership, timeout time.Duration, log *slog.Logger) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !members.Settled() {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			log.Warn("no fellow speaker found in time; going on with those that are known", "count", len(members.Members()))
			return
		case <-again.C:
		}
	}
	log.Info("fellow speakers found", "count", len(members.Members())-1)
}

// memberKey waits for the key with which speakers encrypt what they tell each
// other. The controller makes it when Berth is installed.
func memberKey(ctx context.Context, api client.Client, name types.NamespacedName, log *slog.Logger) ([]byte, error) {
	var key []byte
	told := ""
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var secret corev1.Secret
		err := api.Get(ctx, name, &secret)
		if key = secret.Data[kube.MemberKey]; len(key) > 0 {
			return true, nil
		}
		why := "the controller has not filled it yet"
		if err != nil {
			why = err.Error()
		}
		if apierrors.IsNotFound(err) {
			why = "it does not exist: create it empty, as the manifests do"
		}
		if why != told {
			log.Info("waiting for the key in the member Secret", "name", name.String(), "message", why)
			told = why
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the member Secret: %w", err)
	}
	return key, nil
}
