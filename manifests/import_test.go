package manifests

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/cli/importing"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// imports are what users of other load balancers may have, and what is left to be refused of
// the manifests that come of it.
var imports = []struct{ file, from, refused string }{
	{"metallb", "metallb", ""},
	{"metallb-minikube", "metallb", ""},
	{"metallb-configmap", "metallb", "public-addresses-2"},
	{"openelb", "openelb", ""},
	{"purelb", "purelb", ""},
	{"kube-vip", "kube-vip", ""},
	{"kube-vip-bare", "kube-vip", ""},
	{"cilium", "cilium", ""},
	{"take-over", "metallb", ""},
}

// imported returns the manifests that come of an import.
func imported(t *testing.T, file, from string) []document {
	t.Helper()
	path := filepath.Join("..", "internal", "cli", "testdata", "import", file+".yaml")
	source, err := importing.SourceOf(from)
	if err != nil {
		t.Fatal(err)
	}
	in := importing.Input{Source: source, Namespace: source.Namespace, Berth: "berth-system"}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range split(t, path, content) {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal(d.text, &o.Object); err != nil {
			t.Fatal(err)
		}
		in.Objects = append(in.Objects, o)
	}
	result := importing.Convert(in)
	manifests, err := result.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, m := range manifests {
		raw, err := yaml.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString("---\n" + string(raw))
	}
	return split(t, path, []byte(text.String()))
}

// TestImportsAreInForce: what comes of an import is in force as it is written, but for what
// the report tells.
func TestImportsAreInForce(t *testing.T) {
	for _, i := range imports {
		if i.file == "kube-vip-bare" {
			continue // its pool is made of the addresses of Services, which are not read here
		}
		objects := configObjects(t, imported(t, i.file, i.from))
		objects.SecretsUnread = true
		if len(objects.Pools) == 0 {
			t.Errorf("%s: there is no pool", i.file)
		}
		_, problems := config.Parse(objects, config.Config{}, time.Time{})
		for _, p := range problems {
			if p.Name != i.refused {
				t.Errorf("%s: %s %s: %s: %s", i.file, p.Kind, p.Name, p.Reason, p.Message)
			}
		}
	}
}

// testImports: the API server takes all that comes of an import.
func (s *apiServer) testImports(t *testing.T) {
	n := 0
	for _, i := range imports {
		for _, d := range imported(t, i.file, i.from) {
			var o unstructured.Unstructured
			if err := yaml.Unmarshal(d.text, &o.Object); err != nil {
				t.Fatal(err)
			}
			n++
			o.SetName("import-" + o.GetName()) // the samples have some of these names
			if err := s.apply(t, &o); err != nil {
				t.Errorf("%s: %v", i.file, err)
				continue
			}
			if err := s.Delete(t.Context(), &o); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d manifests: does this test still see them?", n)
	}
}

// testForeign: kinds of other products are read from a real API server, page by page. One that
// is not installed has no objects.
func (s *apiServer) testForeign(t *testing.T) {
	crd := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "ipaddresspools.metallb.io")
	crd.Object["spec"] = map[string]any{
		"group": "metallb.io",
		"scope": "Namespaced",
		"names": map[string]any{
			"kind":     "IPAddressPool",
			"listKind": "IPAddressPoolList",
			"plural":   "ipaddresspools",
			"singular": "ipaddresspool",
		},
		"versions": []any{map[string]any{
			"name":    "v1beta1",
			"served":  true,
			"storage": true,
			"schema": map[string]any{"openAPIV3Schema": map[string]any{
				"type":                                 "object",
				"x-kubernetes-preserve-unknown-fields": true,
			}},
		}},
	}
	if err := s.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	reader, err := snapshot.NewClient(s.config, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		o := object("metallb.io/v1beta1", "IPAddressPool", name)
		o.SetNamespace("default")
		until(t, &syncBuffer{}, "the kind is served", func(ctx context.Context) error {
			// Another client each time, as it remembers what there was.
			c, err := client.New(s.config, client.Options{Scheme: kube.Scheme()})
			if err != nil {
				return err
			}
			return c.Create(ctx, o)
		})
	}
	objects, unread, err := reader.Foreign(t.Context(), []snapshot.Foreign{
		{
			Group:      "metallb.io",
			Versions:   []string{"v1beta2", "v1beta1"},
			Resource:   "ipaddresspools",
			Kind:       "IPAddressPool",
			Namespaced: true,
		},
		{Group: "metallb.io", Versions: []string{"v1beta1"}, Resource: "communities", Kind: "Community"},
		{Versions: []string{"v1"}, Resource: "configmaps", Kind: "ConfigMap", Name: "none", Own: true},
		{Versions: []string{"v1"}, Resource: "namespaces", Kind: "Namespace", Name: "default"},
	}, "default")
	if err != nil || len(unread) > 0 {
		t.Fatalf("unread: %v, %v", unread, err)
	}
	var names []string
	for _, o := range objects {
		names = append(names, o.GetAPIVersion()+" "+o.GetKind()+" "+o.GetName())
	}
	want := []string{
		"metallb.io/v1beta1 IPAddressPool a", "metallb.io/v1beta1 IPAddressPool b",
		"metallb.io/v1beta1 IPAddressPool c", "v1 Namespace default",
	}
	if !slices.Equal(names, want) {
		t.Errorf("read %v, want %v", names, want)
	}
}
