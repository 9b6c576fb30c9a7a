package importing

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	strictjson "sigs.k8s.io/json"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// present is the type of a field of which it matters only whether it is there.
type present = json.RawMessage

// ignored is the type of a field that is known, and has no part in what Berth does. That it is
// left out is told where it says something.
type ignored struct{ says bool }

// UnmarshalJSON implements json.Unmarshaler.
func (i *ignored) UnmarshalJSON(raw []byte) error {
	i.says = !slices.Contains([]string{"null", "false", "0", `""`, "{}", "[]"}, string(raw))
	return nil
}

// leftOut returns the paths of the ignored fields of a value that say something.
func leftOut(v reflect.Value, at string) []string {
	if i, is := v.Interface().(ignored); is {
		if i.says {
			return []string{at}
		}
		return nil
	}
	var out []string
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out = leftOut(v.Elem(), at)
		}
	case reflect.Slice:
		for i := range v.Len() {
			out = append(out, leftOut(v.Index(i), fmt.Sprintf("%s[%d]", at, i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if v.Type().Field(i).IsExported() && name != "" {
				out = append(out, leftOut(v.Field(i), strings.TrimPrefix(at+"."+name, "."))...)
			}
		}
	}
	return out
}

// refOf names an object.
func refOf(o metav1.Object, kind string) v1alpha1.Ref {
	return v1alpha1.Ref{Kind: strings.ToLower(kind), Namespace: o.GetNamespace(), Name: o.GetName()}
}

func ref(o *unstructured.Unstructured) v1alpha1.Ref { return refOf(o, o.GetKind()) }

// note adds a remark on a field of an object, "" for the object itself.
func (c *conversion) note(
	reason v1alpha1.ImportReason, on v1alpha1.Ref, field, message string, commands ...string,
) {
	c.out.Remarks = append(c.out.Remarks, v1alpha1.ImportRemark{
		Reason:   reason,
		Objects:  []v1alpha1.Ref{on},
		Field:    field,
		Message:  message,
		Commands: commands,
	})
}

// noteAll adds a remark that concerns no single object.
func (c *conversion) noteAll(reason v1alpha1.ImportReason, message string, commands ...string) {
	c.out.Remarks = append(c.out.Remarks, v1alpha1.ImportRemark{
		Reason:   reason,
		Message:  message,
		Commands: commands,
	})
}

// noEquivalent notes fields that are set and that Berth has nothing for, by name.
func (c *conversion) noEquivalent(on v1alpha1.Ref, fields map[string]string) {
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		c.note(v1alpha1.ImportNoEquivalent, on, field, fields[field])
	}
}

// gravity is the order of remarks: what does not carry over first.
var gravity = []v1alpha1.ImportReason{
	v1alpha1.ImportRefused, v1alpha1.ImportNoEquivalent, v1alpha1.ImportUnknownField, v1alpha1.ImportToDo,
	v1alpha1.ImportDiffers, v1alpha1.ImportRewritten,
}

// joined returns remarks in the order of their gravity, those that say the same as one.
func joined(remarks []v1alpha1.ImportRemark) []v1alpha1.ImportRemark {
	type said struct {
		reason         v1alpha1.ImportReason
		field, message string
	}
	var out []v1alpha1.ImportRemark
	at := map[said]int{}
	for _, r := range slices.SortedStableFunc(slices.Values(remarks), compareRemarks) {
		key := said{r.Reason, r.Field, r.Message}
		i, found := at[key]
		if !found {
			at[key] = len(out)
			out = append(out, r)
			continue
		}
		out[i].Objects = append(out[i].Objects, r.Objects...)
		out[i].Commands = append(out[i].Commands, r.Commands...)
	}
	for i := range out {
		out[i].Objects = slices.Compact(out[i].Objects) // they are in order
		out[i].Commands = slices.Compact(out[i].Commands)
	}
	return out
}

func compareRemarks(a, b v1alpha1.ImportRemark) int {
	return cmp.Or(
		cmp.Compare(slices.Index(gravity, a.Reason), slices.Index(gravity, b.Reason)),
		slices.CompareFunc(a.Objects, b.Objects, compareRefs),
		cmp.Compare(a.Field, b.Field),
		cmp.Compare(a.Message, b.Message),
	)
}

func compareRefs(a, b v1alpha1.Ref) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
	)
}

// decode reads an object into a type that has the fields that are known. Others are told. It
// returns false if the object cannot be read, which is told too.
func (c *conversion) decode(o *unstructured.Unstructured, into any) bool {
	body := maps.Clone(o.Object)
	for _, head := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(body, head)
	}
	unknown, err := decodeStrict(body, into)
	if err != nil {
		c.note(v1alpha1.ImportRefused, ref(o), "", "It cannot be read: "+err.Error()+".")
		return false
	}
	for _, field := range unknown {
		c.note(v1alpha1.ImportUnknownField, ref(o), field,
			"This program does not know the field, and leaves it out.")
	}
	for _, field := range leftOut(reflect.ValueOf(into), "") {
		c.note(v1alpha1.ImportDiffers, ref(o), field, "It has no part in what Berth does, and is left out.")
	}
	return true
}

// decodeStrict reads a value, and returns the paths of the fields that the type does not have.
func decodeStrict(value, into any) (unknown []string, err error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	strict, err := strictjson.UnmarshalStrict(raw, into, strictjson.DisallowUnknownFields)
	if err != nil {
		return nil, err
	}
	for _, e := range strict {
		var field strictjson.FieldError
		if errors.As(e, &field) {
			unknown = append(unknown, field.FieldPath())
		} else {
			unknown = append(unknown, e.Error())
		}
	}
	return unknown, nil
}

// manifestOf returns an object as it is applied.
func manifestOf(kind string, o any) (map[string]any, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", kind, err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("write %s: %w", kind, err)
	}
	out["apiVersion"], out["kind"] = v1beta1.GroupVersion.String(), kind
	delete(out, "status")
	if metadata, ok := out["metadata"].(map[string]any); ok {
		delete(metadata, "creationTimestamp")
	}
	return out, nil
}

// told records a manifest as the first that is made from its object, if it is.
func (r *Result) told(kind string, manifest map[string]any) {
	_, name := NameOf(manifest)
	key := kind + "/" + name
	if from := r.Origins[key]; r.first[from] == "" {
		r.first[from] = key
	}
}

// NameOf returns the kind and the name of a manifest.
func NameOf(manifest map[string]any) (kind, name string) {
	o := unstructured.Unstructured{Object: manifest}
	return o.GetKind(), o.GetName()
}

// About returns what there is to say of a manifest: which object it is made from, and what of
// that does not do the same.
func (r *Result) About(manifest map[string]any) []string {
	kind, name := NameOf(manifest)
	from, known := r.Origins[kind+"/"+name]
	if !known {
		return nil
	}
	out := []string{"From " + from.String() + "."}
	if r.first[from] != kind+"/"+name {
		return out // it is said once
	}
	for _, remark := range r.Remarks {
		if slices.Contains(remark.Objects, from) && remark.Reason != v1alpha1.ImportRewritten {
			text := string(remark.Reason) + ": " + remark.Message
			if remark.Field != "" {
				text = string(remark.Reason) + ", " + remark.Field + ": " + remark.Message
			}
			out = append(out, text)
		}
	}
	return out
}
