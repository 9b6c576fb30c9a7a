package cluster

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A Snapshot is the objects of a cluster at one moment. It is a client.Reader with the
// indexes of [AddIndexes], so that what decides on a cache decides on a snapshot too. It
// is safe for concurrent use.
type Snapshot struct {
	class   string
	objects []client.Object
}

// NewSnapshot returns a Snapshot of objects, given as pointers, which must not be changed
// any more. Services of the class are Berth's.
func NewSnapshot(class string, objects ...client.Object) *Snapshot {
	return &Snapshot{class: class, objects: objects}
}

// Get implements client.Reader.
func (s *Snapshot) Get(
	_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption,
) error {
	for _, o := range s.objects {
		if reflect.TypeOf(o) == reflect.TypeOf(into) && client.ObjectKeyFromObject(o) == key {
			reflect.ValueOf(into).Elem().Set(reflect.ValueOf(o.DeepCopyObject()).Elem())
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: fmt.Sprintf("%T", into)}, key.String())
}

// List implements client.Reader. It knows namespaces and the fields of [AddIndexes], and
// returns an error for any other way to select objects.
func (s *Snapshot) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	var wanted fields.Requirements
	if o.FieldSelector != nil {
		wanted = o.FieldSelector.Requirements()
	}
	if o.LabelSelector != nil && !o.LabelSelector.Empty() {
		return fmt.Errorf("list %T: a snapshot does not select by labels", list)
	}

	items := reflect.ValueOf(list).Elem().FieldByName("Items")
	if !items.IsValid() {
		return fmt.Errorf("list %T: it has no items", list)
	}
	out := reflect.MakeSlice(items.Type(), 0, 0)
	for _, object := range s.objects {
		if reflect.TypeOf(object).Elem() != items.Type().Elem() ||
			o.Namespace != "" && object.GetNamespace() != o.Namespace {
			continue
		}
		matches, err := s.matches(object, wanted)
		if err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
		if matches {
			out = reflect.Append(out, reflect.ValueOf(object.DeepCopyObject()).Elem())
		}
	}
	items.Set(out)
	return nil
}

// matches reports whether the indexes of an object have the values that are wanted.
func (s *Snapshot) matches(object client.Object, wanted fields.Requirements) (bool, error) {
	for _, r := range wanted {
		var values []string
		switch o := object.(type) {
		case *corev1.Service:
			values = addressTexts(o, s.class)
		case *discoveryv1.EndpointSlice:
			values = []string{serviceOf(o).String()}
		}
		if r.Field != byAddress && r.Field != byService || r.Operator != selection.Equals {
			return false, fmt.Errorf("a snapshot does not select by %s %s", r.Field, r.Operator)
		}
		if !slices.Contains(values, r.Value) {
			return false, nil
		}
	}
	return true, nil
}
