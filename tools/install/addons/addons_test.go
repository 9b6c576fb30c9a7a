package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"

	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/tools/install/generated"
	"github.com/berth-lb/berth/tools/install/render"
)

// manifests is the folder of all manifests.
const manifests = "../../../manifests"

// made writes all addons for a test.
func made(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "addons")
	if err := write(manifests, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

type object = map[string]any

// objects reads a stream of documents.
func objects(t *testing.T, stream []byte) []object {
	t.Helper()
	var out []object
	for _, document := range strings.Split(string(stream), "\n---\n") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(document), &o); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		if len(o) > 0 {
			out = append(out, o)
		}
	}
	return out
}

func read(t *testing.T, parts ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// base returns the objects of manifests/base.
func base(t *testing.T) []object {
	t.Helper()
	text, err := render.Kustomization(filepath.Join(manifests, generated.Base))
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, text)
}

// nameOf names an object in messages.
func nameOf(o object) string {
	metadata, _ := o["metadata"].(object)
	name, _ := metadata["name"].(string)
	kind, _ := o["kind"].(string)
	return kind + "/" + name
}

// same compares objects without their order.
func same(t *testing.T, got, want []object) {
	t.Helper()
	if len(want) < 20 {
		t.Errorf("manifests/base has %d objects only: does this test still see them?", len(want))
	}
	there := map[string]object{}
	for _, o := range got {
		there[nameOf(o)] = o
	}
	if len(got) != len(want) {
		t.Errorf("%d objects, want %d", len(got), len(want))
	}
	for _, o := range want {
		if !reflect.DeepEqual(there[nameOf(o)], o) {
			t.Errorf("%s differs from manifests/base", nameOf(o))
		}
	}
}

// standIn is what the programs of the addon call in the place of kubectl: it writes down its arguments, and
// what it is given to read.
const standIn = `#!/bin/sh
echo "$*" >>"$SNAP/calls"
case "$*" in *'-f -') cat >>"$SNAP/read";; esac
`

// ran is what came of a program of the addon.
type ran struct {
	err   error
	out   string   // what it printed
	calls []string // how it called kubectl
	given []byte   // what it gave kubectl to read
}

// microk8s runs a program of the addon against a stand-in for kubectl.
func microk8s(t *testing.T, dir, program string, args ...string) ran {
	t.Helper()
	snap := t.TempDir()
	kubectl := filepath.Join(snap, "microk8s-kubectl.wrapper")
	if err := os.WriteFile(kubectl, []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "microk8s", "addons", "berth", program)
	command := exec.CommandContext(t.Context(), file, args...)
	command.Env = append(os.Environ(), "SNAP="+snap)
	printed, err := command.CombinedOutput()
	called, _ := os.ReadFile(filepath.Join(snap, "calls"))
	given, _ := os.ReadFile(filepath.Join(snap, "read"))
	return ran{err, string(printed), strings.Split(strings.TrimSpace(string(called)), "\n"), given}
}

// TestMicroK8sAddon: the addon installs what manifests/base has, and makes a pool of the ranges that it is
// given; what is no range is refused before anything is applied. Disabling deletes the programs and keeps
// what users have made.
func TestMicroK8sAddon(t *testing.T) {
	dir := made(t)
	folder := filepath.Join(dir, "microk8s", "addons", "berth")
	all := append(objects(t, read(t, folder, "crds.yaml")), objects(t, read(t, folder, "berth.yaml"))...)
	same(t, all, base(t))

	for _, test := range []struct {
		story string
		args  []string
		want  []any // the addresses of the pool
	}{
		{"no ranges", nil, nil},
		{"one", []string{"192.168.1.240-192.168.1.250"}, []any{"192.168.1.240-192.168.1.250"}},
		{"several, of both families", []string{"192.168.1.240/29,2001:db8::/120"},
			[]any{"192.168.1.240/29", "2001:db8::/120"}},
		{"several arguments", []string{"10.0.0.1-10.0.0.2", "10.0.0.4/32"},
			[]any{"10.0.0.1-10.0.0.2", "10.0.0.4/32"}},
	} {
		got := microk8s(t, dir, "enable", test.args...)
		if got.err != nil {
			t.Errorf("%s: %v\n%s", test.story, got.err, got.out)
			continue
		}
		if !strings.HasPrefix(got.calls[0], "apply ") || !strings.HasSuffix(got.calls[0], "crds.yaml") {
			t.Errorf("%s: the CRDs do not come first: %q", test.story, got.calls)
		}
		if test.want == nil {
			if len(got.given) > 0 || !strings.Contains(got.out, "no addresses yet") {
				t.Errorf("%s: %s\n%s", test.story, got.out, got.given)
			}
			continue
		}
		pool, advertisement := objects(t, got.given)[0], objects(t, got.given)[1]
		if got := pool["spec"].(object)["addresses"]; !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: addresses %v", test.story, got)
		}
		if nameOf(pool) != "IPAddressPool/microk8s" || nameOf(advertisement) != "L2Advertisement/microk8s" {
			t.Errorf("%s: %s and %s", test.story, nameOf(pool), nameOf(advertisement))
		}
	}
	for _, bad := range []string{"1.2.3.4-", "host name", `1.2.3.4"]`, "$(id)", "1.2.3.4-1.2.3.5-1.2.3.6"} {
		got := microk8s(t, dir, "enable", bad)
		refused := got.err != nil && strings.Contains(got.out, "is no range of addresses")
		if !refused || got.calls[0] != "" {
			t.Errorf("%q: %v, %q\n%s", bad, got.err, got.calls, got.out)
		}
	}
}

// TestMicroK8sAddonDisabled: every kind that the addon installs is deleted or is one of those that stay.
func TestMicroK8sAddonDisabled(t *testing.T) {
	dir := made(t)
	got := microk8s(t, dir, "disable")
	if got.err != nil {
		t.Fatalf("%v\n%s", got.err, got.out)
	}
	var deleted []string
	for _, call := range got.calls {
		fields := strings.Fields(call)
		if !slices.Contains(fields, "delete") || !slices.Contains(fields, "app.kubernetes.io/name=berth") {
			t.Errorf("kubectl %s", call)
		}
		deleted = append(deleted, strings.Split(fields[len(fields)-1], ",")...)
	}
	stay := []string{"CustomResourceDefinition", "Namespace", "Secret"}
	for _, o := range base(t) {
		kind := o["kind"].(string)
		goes := slices.ContainsFunc(deleted, func(resource string) bool {
			return resource == plural(kind)
		})
		if goes == slices.Contains(stay, kind) {
			t.Errorf("%s is deleted: %t", nameOf(o), goes)
		}
		labels, _ := o["metadata"].(object)["labels"].(object)
		if labels["app.kubernetes.io/name"] != "berth" {
			t.Errorf("%s lacks the label by which it is found", nameOf(o))
		}
	}
}

// plural returns the resource of a kind.
func plural(kind string) string {
	kind = strings.ToLower(kind)
	if stem, is := strings.CutSuffix(kind, "y"); is {
		return stem + "ies"
	}
	return kind + "s"
}

// TestMicroK8sList: MicroK8s finds the addon, and sees whether it is enabled.
func TestMicroK8sList(t *testing.T) {
	dir := made(t)
	var list struct {
		All struct {
			Description string `json:"description"`
			Revision    int    `json:"revision"`
			Addons      []struct {
				Name          string   `json:"name"`
				Description   string   `json:"description"`
				Version       string   `json:"version"`
				CheckStatus   string   `json:"check_status"`
				Architectures []string `json:"supported_architectures"`
			} `json:"addons"`
		} `json:"microk8s-addons"`
	}
	if err := yaml.UnmarshalStrict(read(t, dir, "microk8s", "addons.yaml"), &list); err != nil {
		t.Fatal(err)
	}
	if list.All.Description == "" || list.All.Revision < 1 || len(list.All.Addons) != 1 {
		t.Fatalf("%+v", list)
	}
	addon := list.All.Addons[0]
	if addon.Description == "" || addon.Version == "" || len(addon.Architectures) == 0 {
		t.Errorf("%+v", addon)
	}
	for _, program := range []string{"enable", "disable"} {
		info, err := os.Stat(filepath.Join(dir, "microk8s", "addons", addon.Name, program))
		if err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s cannot be executed: %v", program, err)
		}
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(addon.CheckStatus, "deployment.apps"), "/")
	there := slices.ContainsFunc(base(t), func(o object) bool { return nameOf(o) == "Deployment/"+name })
	if kind != "" || !there {
		t.Errorf("%s is not installed", addon.CheckStatus)
	}
}

// TestMinikubeAddon: with the data that minikube gives its templates, the addon is what manifests/base has,
// with other images, and a pool of the addresses that the user was asked for.
func TestMinikubeAddon(t *testing.T) {
	folder := filepath.Join(made(t), "minikube", "deploy", "addons", "berth")
	data := map[string]any{
		"ImageRepository":  "",
		"CustomRegistries": map[string]string{},
		"Registries":       map[string]string{"Controller": "ghcr.io/", "Speaker": "ghcr.io/"},
		"Images": map[string]string{
			"Controller": "berth-lb/controller:dev",
			"Speaker":    "berth-lb/speaker:dev",
		},
		"LoadBalancerStartIP": "192.168.49.200",
		"LoadBalancerEndIP":   "192.168.49.250",
	}
	file := func(name string) []byte { return rendered(t, read(t, folder, name), data) }

	all := append(objects(t, read(t, folder, "berth-crds.yaml")), objects(t, file("berth.yaml.tmpl"))...)
	same(t, all, base(t))

	config := objects(t, file("berth-config.yaml.tmpl"))
	if len(config) != 2 || nameOf(config[0]) != "IPAddressPool/minikube" ||
		nameOf(config[1]) != "L2Advertisement/minikube" {
		t.Fatalf("configuration %v", config)
	}
	want := []any{"192.168.49.200-192.168.49.250"}
	if got := config[0]["spec"].(object)["addresses"]; !reflect.DeepEqual(got, want) {
		t.Errorf("addresses %v", got)
	}

	// Nobody was asked yet.
	data["LoadBalancerStartIP"], data["LoadBalancerEndIP"] = "", ""
	if config := objects(t, file("berth-config.yaml.tmpl")); len(config) != 1 {
		t.Errorf("configuration without addresses %v", config)
	}
	// minikube start --image-repository, and minikube addons enable --registries.
	data["ImageRepository"] = "mirror.example.com/"
	data["CustomRegistries"] = map[string]string{"Speaker": "own.example.com/"}
	text := string(file("berth.yaml.tmpl"))
	for _, image := range []string{
		"image: mirror.example.com/berth-lb/controller:dev\n",
		"image: own.example.com/berth-lb/speaker:dev\n",
	} {
		if strings.Count(text, image) != 1 {
			t.Errorf("no %q", image)
		}
	}
}

// rendered executes a template with the functions that minikube has.
func rendered(t *testing.T, text []byte, data any) []byte {
	t.Helper()
	functions := template.FuncMap{"default": func(otherwise string, value any) string {
		if value, is := value.(string); is && value != "" {
			return value
		}
		return otherwise
	}}
	parsed, err := template.New("addon").Funcs(functions).Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWhatCannotBeATemplate(t *testing.T) {
	const crd = "kind: CustomResourceDefinition\n---\n"
	const both = "image: ghcr.io/berth-lb/controller:dev\nx:\n  image: ghcr.io/berth-lb/speaker:dev\n"
	for _, test := range []struct{ story, base, want string }{
		{"all that is needed", crd + both, ""},
		{"no CRD", both, "something is missing"},
		{"an image less", crd + "image: ghcr.io/berth-lb/controller:dev\n", "is not there exactly once"},
		{"braces", crd + both + "y: '{{.}}'\n", "a template would take for its own"},
	} {
		_, err := files([]byte(test.base))
		told := ""
		if err != nil {
			told = err.Error()
		}
		if test.want == "" && told != "" || !strings.Contains(told, test.want) {
			t.Errorf("%s: %q", test.story, told)
		}
	}
}
