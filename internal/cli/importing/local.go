package importing

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/internal/cli/snapshot"
)

// Local returns a Snapshot of what stands in files: Services, namespaces and nodes. Without
// Services in them it is not known which there are.
func Local(
	objects []unstructured.Unstructured, request snapshot.Request, taken time.Time,
) (*snapshot.Snapshot, error) {
	var out snapshot.Objects
	for i := range objects {
		o := &objects[i]
		if o.GetAPIVersion() != "v1" {
			continue
		}
		var err error
		switch o.GetKind() {
		case "Service":
			out.Services, err = added(out.Services, o)
		case "Namespace":
			out.Namespaces, err = added(out.Namespaces, o)
		case "Node":
			out.Nodes, err = added(out.Nodes, o)
		}
		if err != nil {
			return nil, err
		}
	}
	for i := range out.Services { // as the API server has it
		if s := &out.Services[i]; s.Namespace == "" {
			s.Namespace = corev1.NamespaceDefault
		}
	}
	s := snapshot.New(out, request, taken)
	if len(out.Services) == 0 {
		s.SetUnread(snapshot.Services, errors.New("there are none in the files"))
	}
	return s, nil
}

// added returns a list with an object read into its type.
func added[T any](list []T, o *unstructured.Unstructured) ([]T, error) {
	var one T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &one); err != nil {
		return nil, fmt.Errorf("read %s: %w", ref(o), err)
	}
	return append(list, one), nil
}
