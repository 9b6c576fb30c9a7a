package definitions

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
)

// definition is one of a kind with a version v1 and a schema in YAML.
func definition(t *testing.T, schema string) *unstructured.Unstructured {
	t.Helper()
	crd := &unstructured.Unstructured{}
	text := "spec: {versions: [{name: v1, served: true, schema: {openAPIV3Schema: " + schema + "}}]}"
	if err := yaml.Unmarshal([]byte(text), &crd.Object); err != nil {
		t.Fatal(err)
	}
	return crd
}

func TestBehind(t *testing.T) {
	const now = `{properties: {spec: {properties: {a: {type: string, maxLength: 5}, b: {enum: [U, V]}, ` +
		`c: {type: array, items: {properties: {d: {type: integer}}}}}}}}`
	for _, test := range []struct {
		story, installed string
		want             []string
	}{
		{"the same", now, nil},
		{"an older one has fewer fields",
			`{properties: {spec: {properties: {a: {type: string, maxLength: 5}}}}}`,
			[]string{"spec.b", "spec.c"}},
		{"an older one has fewer values", strings.Replace(now, "[U, V]", "[U]", 1), []string{"spec.b: V"}},
		{"an older one has no such field in its list", strings.Replace(now, "d: {type: integer}", "", 1),
			[]string{"spec.c.d"}},
		{"one that lacks a field lacks it, whatever it has beside",
			`{properties: {spec: {properties: {a: {type: string, maxLength: 5}, z: {type: string}}}}}`,
			[]string{"spec.b", "spec.c"}},
		{"another bound", strings.Replace(now, "maxLength: 5", "maxLength: 4", 1),
			[]string{"spec.a (maxLength)"}},
		{"another rule",
			strings.Replace(now, "type: string,", "type: string, x-kubernetes-validations: [{rule: r}],", 1),
			[]string{"spec.a (x-kubernetes-validations)"}},
		{"a later one knows more fields, and other bounds",
			strings.NewReplacer("maxLength: 5", "maxLength: 9", "b: {", "z: {}, b: {").Replace(now), nil},
		{"a later one knows more values", strings.Replace(now, "[U, V]", "[U, V, W]", 1), nil},
		{"another description",
			strings.Replace(now, "type: string,", "type: string, description: x,", 1), nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := Behind(definition(t, now), definition(t, test.installed))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	other := definition(t, now)
	other.Object["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)["name"] = "v0"
	if got := Behind(definition(t, now), other); !slices.Equal(got, []string{"the version v1"}) {
		t.Errorf("of a definition with another version: %q", got)
	}
}

// TestEachOwnDefinitionIsUpToDate: no definition is behind itself, and each is behind when a field is gone.
func TestEachOwnDefinitionIsUpToDate(t *testing.T) {
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	if len(own) != 7 {
		t.Fatalf("there are %d definitions", len(own))
	}
	for _, crd := range own {
		if got := Behind(crd, crd.DeepCopy()); len(got) > 0 {
			t.Errorf("%s is behind itself: %q", crd.GetName(), got)
		}
		if got := Behind(crd, withoutField(t, crd, "spec")); !slices.Contains(got, "spec") &&
			crd.GetName() != "speakers.berth.io" { // it has none
			t.Errorf("%s without its spec: %q", crd.GetName(), got)
		}
	}
}

// withoutField returns a definition without a field of its first version.
func withoutField(t *testing.T, crd *unstructured.Unstructured, name string) *unstructured.Unstructured {
	t.Helper()
	out := crd.DeepCopy()
	versions, _, _ := unstructured.NestedSlice(out.Object, "spec", "versions")
	properties := versions[0].(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)
	delete(properties["properties"].(map[string]any), name)
	if err := unstructured.SetNestedSlice(out.Object, versions, "spec", "versions"); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestChecker: what is outdated is told once, and once more when it was repaired. What could not be read is
// neither.
func TestChecker(t *testing.T) {
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	remembered := state.New()
	pool := own[slices.IndexFunc(own, func(o *unstructured.Unstructured) bool {
		return o.GetName() == "ipaddresspools.berth.io"
	})]
	api := fake.NewClientBuilder().WithScheme(runtime.NewScheme()).
		WithObjects(withoutField(t, pool, "status")).Build()
	c := New(shared.Shared{
		State:  remembered,
		Queues: shared.NewQueues(),
		Live:   api,
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})

	for range 2 {
		if !c.check(t.Context(), own) {
			t.Error("nothing is to be checked again soon")
		}
	}
	message, known := remembered.Outdated("IPAddressPool")
	if !known || !strings.Contains(message, "ipaddresspools.berth.io is older than the controller") ||
		!strings.Contains(message, "status. What") {
		t.Errorf("of the pool's definition it is known: %v, %q", known, message)
	}
	if _, known := remembered.Outdated("BGPPeer"); known {
		t.Error("something is known of a definition that could not be read")
	}
	if n := strings.Count(log.String(), "CustomResourceDefinition is outdated"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, &log)
	}

	installed := pool.DeepCopy()
	current := &unstructured.Unstructured{}
	current.SetGroupVersionKind(pool.GroupVersionKind())
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(pool), current); err != nil {
		t.Fatal(err)
	}
	installed.SetResourceVersion(current.GetResourceVersion())
	if err := api.Update(t.Context(), installed); err != nil {
		t.Fatal(err)
	}
	for _, crd := range own {
		if crd.GetName() != pool.GetName() {
			if err := api.Create(t.Context(), crd.DeepCopy()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.check(t.Context(), own) {
		t.Error("definitions that are as they should be are to be checked again soon")
	}
	if message, known := remembered.Outdated("IPAddressPool"); !known || message != "" {
		t.Errorf("of the definition that was repaired it is known: %v, %q", known, message)
	}
	if n := strings.Count(log.String(), "up to date again"); n != 1 {
		t.Errorf("the repair is logged %d times:\n%s", n, &log)
	}
}

// A leader that begins after an upgrade of the definitions knows that they are right, so that it can take
// back what the one before has written.
func TestANewLeaderKnowsThatDefinitionsAreRight(t *testing.T) {
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(runtime.NewScheme())
	for _, crd := range own {
		api = api.WithObjects(crd.DeepCopy())
	}
	remembered := state.New()
	c := New(shared.Shared{
		State:  remembered,
		Queues: shared.NewQueues(),
		Live:   api.Build(),
		Log:    slog.New(slog.DiscardHandler),
	})

	if c.check(t.Context(), own) {
		t.Error("something is to be checked again soon")
	}
	if message, known := remembered.Outdated("IPAddressPool"); !known || message != "" {
		t.Errorf("of the pool's definition it is known: %v, %q", known, message)
	}
}
