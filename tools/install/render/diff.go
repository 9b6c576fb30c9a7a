package render

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Differences returns what distinguishes two installations, object by object and field by field, in
// the order of the objects' names. Nothing is left out.
func Differences(before, after []*unstructured.Unstructured) []string {
	old, changed := byKey(before), byKey(after)
	var out []string
	for _, key := range union(old, changed) {
		a, had := old[key]
		b, has := changed[key]
		switch {
		case !has:
			out = append(out, key+": removed")
		case !had:
			out = append(out, key+": added")
		default:
			for _, d := range differ("", a.Object, b.Object) {
				out = append(out, key+": "+d)
			}
		}
	}
	return out
}

func byKey(list []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
	out := map[string]*unstructured.Unstructured{}
	for _, o := range list {
		out[Key(o)] = o
	}
	return out
}

// union returns the keys of both maps in their order.
func union[V any](a, b map[string]V) []string {
	all := map[string]bool{}
	for key := range a {
		all[key] = true
	}
	for key := range b {
		all[key] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// differ compares two values below a path.
func differ(path string, a, b any) []string {
	switch a := a.(type) {
	case map[string]any:
		if b, is := b.(map[string]any); is {
			return differInMaps(path, a, b)
		}
	case []any:
		if b, is := b.([]any); is {
			return differInLists(path, a, b)
		}
	}
	if x, y := text(a), text(b); x != y {
		return []string{fmt.Sprintf("%s: %s, was %s", path, y, x)}
	}
	return nil
}

func differInMaps(path string, a, b map[string]any) []string {
	var out []string
	for _, key := range union(a, b) {
		at := key
		if path != "" {
			at = path + "." + key
		}
		x, had := a[key]
		y, has := b[key]
		switch {
		case !has:
			out = append(out, at+": removed")
		case !had:
			out = append(out, at+": added "+text(y))
		default:
			out = append(out, differ(at, x, y)...)
		}
	}
	return out
}

func differInLists(path string, a, b []any) []string {
	var out []string
	for i := range max(len(a), len(b)) {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= len(b):
			out = append(out, at+": removed "+text(a[i]))
		case i >= len(a):
			out = append(out, at+": added "+text(b[i]))
		default:
			out = append(out, differ(at, a[i], b[i])...)
		}
	}
	return out
}

// text is a value in one line, so that a number is the same however it was read.
func text(v any) string {
	out, err := yaml.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if json, err := yaml.YAMLToJSON(out); err == nil {
		return string(json)
	}
	return string(out)
}
