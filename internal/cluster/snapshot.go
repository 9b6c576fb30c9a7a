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
	kinds map[reflect.Type]*kindOf
}

// kindOf has the objects of one kind, in the order given.
type kindOf struct {
	objects []client.Object
	byName  map[client.ObjectKey]client.Object // the first of each name
	// indexed are the objects of Services and EndpointSlices by what their index has.
	indexed map[indexKey][]client.Object
}

// indexKey is one value of one index.
type indexKey struct{ index, value string }

// NewSnapshot returns a Snapshot of objects, given as pointers, which must not be changed
// any more. Services of the class are Berth's.
func NewSnapshot(class string, objects ...client.Object) *Snapshot {
	s := &Snapshot{kinds: map[reflect.Type]*kindOf{}}
	for _, o := range objects {
		kind := s.kinds[reflect.TypeOf(o)]
		if kind == nil {
			kind = &kindOf{
				byName:  map[client.ObjectKey]client.Object{},
				indexed: map[indexKey][]client.Object{},
			}
			s.kinds[reflect.TypeOf(o)] = kind
		}
		kind.add(o, class)
	}
	return s
}

func (k *kindOf) add(object client.Object, class string) {
	k.objects = append(k.objects, object)
	if key := client.ObjectKeyFromObject(object); k.byName[key] == nil {
		k.byName[key] = object
	}
	switch o := object.(type) {
	case *corev1.Service:
		for _, text := range addressTexts(o, class) {
			key := indexKey{byAddress, text}
			k.indexed[key] = append(k.indexed[key], object)
		}
	case *discoveryv1.EndpointSlice:
		key := indexKey{byService, serviceOf(o).String()}
		k.indexed[key] = append(k.indexed[key], object)
	}
}

// Get implements client.Reader.
func (s *Snapshot) Get(
	_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption,
) error {
	if kind := s.kinds[reflect.TypeOf(into)]; kind != nil {
		if o := kind.byName[key]; o != nil {
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
	if o.LabelSelector != nil && !o.LabelSelector.Empty() {
		return fmt.Errorf("list %T: a snapshot does not select by labels", list)
	}
	items := reflect.ValueOf(list).Elem().FieldByName("Items")
	if !items.IsValid() {
		return fmt.Errorf("list %T: it has no items", list)
	}

	objects, err := s.kinds[reflect.PointerTo(items.Type().Elem())].selected(o.FieldSelector)
	if err != nil {
		return fmt.Errorf("list %T: %w", list, err)
	}
	asStored := o.UnsafeDisableDeepCopy != nil && *o.UnsafeDisableDeepCopy
	out := reflect.MakeSlice(items.Type(), 0, len(objects))
	for _, object := range objects {
		if o.Namespace != "" && object.GetNamespace() != o.Namespace {
			continue
		}
		if !asStored {
			object = object.DeepCopyObject().(client.Object)
		}
		out = reflect.Append(out, reflect.ValueOf(object).Elem())
	}
	items.Set(out)
	return nil
}

// selected returns the objects of a kind that have the values of the indexes that are
// wanted; of a kind without objects none.
func (k *kindOf) selected(wanted fields.Selector) ([]client.Object, error) {
	var requirements fields.Requirements
	if wanted != nil {
		requirements = wanted.Requirements()
	}
	for _, r := range requirements {
		if r.Field != byAddress && r.Field != byService || r.Operator != selection.Equals {
			return nil, fmt.Errorf("a snapshot does not select by %s %s", r.Field, r.Operator)
		}
	}
	switch {
	case k == nil:
		return nil, nil
	case len(requirements) == 0:
		return k.objects, nil
	}

	out := k.indexed[indexKey{requirements[0].Field, requirements[0].Value}]
	for _, r := range requirements[1:] {
		also := k.indexed[indexKey{r.Field, r.Value}]
		out = slices.DeleteFunc(slices.Clone(out), func(o client.Object) bool {
			return !slices.Contains(also, o)
		})
	}
	return out, nil
}
