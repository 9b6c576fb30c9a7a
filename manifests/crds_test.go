package manifests

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// schemas returns the schemas of all kinds, by name of the kind.
func schemas(t *testing.T) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for _, d := range documents(t, "crds/berth.io_*.yaml") {
		var crd unstructured.Unstructured
		if err := yaml.Unmarshal(d.text, &crd.Object); err != nil {
			t.Fatal(err)
		}
		kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		if len(versions) != 1 {
			t.Fatalf("%s has %d versions", kind, len(versions))
		}
		schema, ok, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema")
		if err != nil || !ok {
			t.Fatalf("%s has no schema: %v", kind, err)
		}
		out[kind] = schema
	}
	if len(out) != 7 {
		t.Fatalf("%d kinds", len(out))
	}
	return out
}

// field is one field of a schema.
type field struct {
	path   string // such as spec.addresses; elements of lists have the path of the list
	schema map[string]any
}

// fieldsIn lists the fields below spec and status in the order of their paths.
func fieldsIn(schema map[string]any, at string) []field {
	var out []field
	properties, _, _ := unstructured.NestedMap(schema, "properties")
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		below := properties[name].(map[string]any)
		path := strings.TrimPrefix(at+"."+name, ".")
		if path == "metadata" || path == "kind" || path == "apiVersion" {
			continue
		}
		out = append(append(out, field{path, below}), fieldsIn(below, path)...)
	}
	if items, ok, _ := unstructured.NestedMap(schema, "items"); ok {
		out = append(out, fieldsIn(items, at)...)
	}
	return out
}

// TestEveryFieldIsExplained: kubectl explain has a word for each field.
func TestEveryFieldIsExplained(t *testing.T) {
	n := 0
	for kind, schema := range schemas(t) {
		for _, f := range fieldsIn(schema, "") {
			n++
			if text, _ := f.schema["description"].(string); text == "" {
				t.Errorf("%s: kubectl explain says nothing of %s", kind, f.path)
			}
		}
	}
	if n < 200 {
		t.Errorf("only %d fields found: does this test still see them?", n)
	}
}

// TestListsSayHowTheyAreMerged: server-side apply merges a list by what it says of
// itself; one that says nothing is replaced as a whole by whoever applies last.
// What a user writes is bounded, as the cost of validation is.
func TestListsSayHowTheyAreMerged(t *testing.T) {
	for kind, schema := range schemas(t) {
		for _, f := range fieldsIn(schema, "") {
			if f.schema["type"] != "array" || fromKubernetes(f.path) {
				continue
			}
			if f.schema["x-kubernetes-list-type"] == nil {
				t.Errorf("%s: %s does not say how it is merged (listType)", kind, f.path)
			}
			if strings.HasPrefix(f.path, "spec.") && f.schema["maxItems"] == nil {
				t.Errorf("%s: %s may have any number of entries (maxItems)", kind, f.path)
			}
		}
	}
}

// TestStringsAreBounded: of what a user writes, no text is of any length, but what is
// compared with a list of values.
func TestStringsAreBounded(t *testing.T) {
	bounded := func(schema map[string]any) bool {
		return schema["maxLength"] != nil || schema["enum"] != nil ||
			schema["x-kubernetes-validations"] != nil
	}
	for kind, schema := range schemas(t) {
		for _, f := range fieldsIn(schema, "") {
			items, _, _ := unstructured.NestedMap(f.schema, "items")
			for _, s := range []map[string]any{f.schema, items} {
				if !strings.HasPrefix(f.path, "spec.") || fromKubernetes(f.path) {
					continue
				}
				if s["type"] == "string" && !bounded(s) {
					t.Errorf("%s: %s may be of any length (maxLength)", kind, f.path)
				}
			}
		}
	}
}

// fromKubernetes reports whether a field is one of a label selector, whose type is
// Kubernetes' own.
func fromKubernetes(path string) bool {
	return strings.Contains(path, "matchExpressions") || strings.Contains(path, "matchLabels")
}
