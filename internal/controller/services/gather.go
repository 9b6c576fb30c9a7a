package services

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/internal/controller/state"
)

// NamespaceKind returns the kind by which namespaces are cached: of them Berth reads
// nothing but their labels.
func NamespaceKind() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return o
}

// namespaceLabels reads the labels of a namespace; none when it is gone.
func namespaceLabels(ctx context.Context, reader client.Reader, name string) (labels.Set, error) {
	ns := NamespaceKind()
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, ns); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}

// WaitersOf returns the waiting Services of a namespace, whose new labels may make a
// pool select them.
func WaitersOf(s *state.State) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, ns client.Object) []reconcile.Request {
		var out []reconcile.Request
		for _, key := range s.Waiting() {
			if key.Namespace == ns.GetName() {
				out = append(out, reconcile.Request{NamespacedName: key})
			}
		}
		return out
	})
}
