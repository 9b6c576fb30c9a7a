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
)

// namespaceKind is how namespaces are cached: Berth reads nothing of them
// but their labels.
func namespaceKind() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return o
}

// ofNodes are the addresses that nodes have, with the node's name, and the
// labels of each node.
func ofNodes(ctx context.Context, reader client.Reader) (addresses map[netip.Addr]string, labels map[string]map[string]string, err error) {
	var nodes corev1.NodeList
	if err := reader.List(ctx, &nodes); err != nil {
		return nil, nil, fmt.Errorf("list Nodes: %w", err)
	}
	addresses, labels = map[netip.Addr]string{}, map[string]map[string]string{}
	for _, n := range nodes.Items {
		labels[n.Name] = n.Labels
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				addresses[addr.Unmap()] = n.Name
			}
		}
	}
	return addresses, labels, nil
}

// namespaceLabels reads the labels of a namespace; none when it is gone.
func namespaceLabels(ctx context.Context, reader client.Reader, name string) (labels.Set, error) {
	ns := namespaceKind()
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, ns); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}
