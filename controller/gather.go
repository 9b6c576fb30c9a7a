package main

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// namespaceKind is how namespaces are cached: Berth reads nothing of them
// but their labels.
func namespaceKind() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return o
}

// ofNodes are the addresses that nodes have, as their statuses and their Speakers
// tell, and the labels of each node, which the caller must not change.
func ofNodes(
	ctx context.Context, reader client.Reader,
) (map[netip.Addr]config.NodeAddress, map[string]map[string]string, error) {
	var nodes corev1.NodeList
	if err := reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("list Nodes: %w", err)
	}
	var speakers v1beta1.SpeakerList
	if err := reader.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("list Speakers: %w", err)
	}
	labels := map[string]map[string]string{}
	for _, n := range nodes.Items {
		labels[n.Name] = n.Labels
	}
	return config.NodeAddresses(nodes.Items, speakers.Items), labels, nil
}

// namespaceLabels reads the labels of a namespace; none when it is gone.
func namespaceLabels(ctx context.Context, reader client.Reader, name string) (labels.Set, error) {
	ns := namespaceKind()
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, ns); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}
