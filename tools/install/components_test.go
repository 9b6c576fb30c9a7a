package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/tools/install/generated"
	"github.com/berth-lb/berth/tools/install/render"
)

// manifests is the directory of the manifests.
const manifests = "../../manifests"

// theBase is the base, built once.
var theBase = sync.OnceValues(func() ([]byte, error) {
	return render.Kustomization(filepath.Join(manifests, generated.Base))
})

// base returns the objects that the base installs.
func base(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	text, err := theBase()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := render.Objects(text)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func kustomized(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	text, err := render.Kustomization(dir)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := render.Objects(text)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// overlay returns what a kustomization of a user's own installs, of the base and components. The
// last argument is further lines of it.
func overlay(t *testing.T, components []string, more string) []*unstructured.Unstructured {
	t.Helper()
	// Kustomize takes no absolute paths, and follows links.
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(manifests)
	if err != nil {
		t.Fatal(err)
	}
	if here, err = filepath.EvalSymlinks(here); err != nil {
		t.Fatal(err)
	}
	if here, err = filepath.Rel(dir, here); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, c := range components {
		list = append(list, filepath.Join(here, "components", c))
	}
	text := fmt.Sprintf("resources: [%s]\ncomponents: [%s]\n%s",
		filepath.Join(here, generated.Base), strings.Join(list, ", "), more)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kustomized(t, dir)
}

// TestComponents: each component changes what is listed here, and everything else equals the base.
func TestComponents(t *testing.T) {
	const (
		deployment = "Deployment berth-controller in berth-system: "
		daemonSet  = "DaemonSet berth-speaker in berth-system: "
		pod        = "spec.template.spec."
		adds       = daemonSet + pod + "containers[0].securityContext.capabilities.add[1]: " +
			`added "NET_BIND_SERVICE"`
	)
	for _, test := range []struct {
		story      string
		components []string
		want       []string
	}{
		{"nothing is chosen", nil, nil},
		{"one node has one controller", []string{"single-node"}, []string{
			deployment + "spec.replicas: 1, was 2",
			deployment + pod + "affinity: removed",
			"PodDisruptionBudget berth-controller in berth-system: removed",
		}},
		{"a speaker that listens may have a port below 1024", []string{"passive-bgp"}, []string{adds}},
		{"OpenShift admits the speaker by an SCC", []string{"openshift"}, ofOpenShift()},
		{
			story:      "and one that listens too",
			components: []string{"openshift", "passive-bgp"},
			want:       append([]string{adds}, ofOpenShift()...),
		},
		{"without BGP the speaker may read less", []string{"layer-2-only"}, ofLayer2Only()},
		{"without layer 2 it needs no capability and no Secret", []string{"bgp-only"}, ofBGPOnly()},
		{"a component for one node is another's neighbour", []string{"single-node", "passive-bgp"}, []string{
			adds,
			deployment + "spec.replicas: 1, was 2",
			deployment + pod + "affinity: removed",
			"PodDisruptionBudget berth-controller in berth-system: removed",
		}},
	} {
		t.Run(test.story, func(t *testing.T) {
			same(t, render.Differences(base(t), overlay(t, test.components, "")), test.want)
		})
	}
}

// ofLayer2Only are the changes by the component of the name.
func ofLayer2Only() []string {
	const rule = "ClusterRole berth-speaker: rules[3].resources"
	return []string{
		rule + `[0]: "ipaddresspools", was "bfdprofiles"`,
		rule + `[1]: "l2advertisements", was "bgpadvertisements"`,
		rule + `[2]: removed "bgppeers"`,
		rule + `[3]: removed "communities"`,
		rule + `[4]: removed "ipaddresspools"`,
		rule + `[5]: removed "l2advertisements"`,
		"DaemonSet berth-speaker in berth-system: spec.template.spec.containers[0].env[4]: " +
			`added {"name":"BERTH_BGP","value":"false"}`,
		`Role berth-speaker in berth-system: rules[0].resourceNames: added ["berth-memberlist"]`,
	}
}

// ofBGPOnly are the changes by the component of the name.
func ofBGPOnly() []string {
	const (
		container = "DaemonSet berth-speaker in berth-system: spec.template.spec.containers[0]."
		role      = "Role berth-controller in berth-system: rules"
	)
	return []string{
		`ClusterRole berth-speaker: rules[3].resources[5]: removed "l2advertisements"`,
		container + `env[2].name: "GOMEMLIMIT", was "BERTH_MEMBER_ADDRESS"`,
		container + `env[2].value: added "460MiB"`,
		container + `env[2].valueFrom: removed`,
		container + `env[3].name: "BERTH_LAYER2", was "GOMEMLIMIT"`,
		container + `env[3].value: "false", was "460MiB"`,
		container + `securityContext.capabilities.add[0]: removed "NET_RAW"`,
		"Deployment berth-controller in berth-system: spec.template.spec.containers[0].args: " +
			`added ["--member-secret="]`,
		// The rule about the member Secret goes, and those behind it move up.
		role + `[1].apiGroups[0]: "coordination.k8s.io", was ""`,
		role + `[1].resourceNames: removed`,
		role + `[1].resources[0]: "leases", was "secrets"`,
		role + `[1].verbs[0]: "create", was "get"`,
		role + `[1].verbs[1]: removed "update"`,
		role + `[2].resourceNames: added ["berth-controller"]`,
		role + `[2].verbs[0]: "get", was "create"`,
		role + `[2].verbs[1]: added "update"`,
		role + `[3]: removed {"apiGroups":["coordination.k8s.io"],"resourceNames":["berth-controller"],` +
			`"resources":["leases"],"verbs":["get","update"]}`,
		"Secret berth-memberlist in berth-system: removed",
	}
}

// ofOpenShift are the changes by the component for OpenShift.
func ofOpenShift() []string {
	return []string{
		"Deployment berth-controller in berth-system: spec.template.spec.securityContext.runAsGroup: removed",
		"Deployment berth-controller in berth-system: spec.template.spec.securityContext.runAsUser: removed",
		`Namespace berth-system: metadata.annotations: added {"openshift.io/node-selector":""}`,
		"Role berth-speaker-scc in berth-system: added",
		"RoleBinding berth-speaker-scc in berth-system: added",
		"SecurityContextConstraints berth-speaker: added",
	}
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the differences are\n\t%s\nwant\n\t%s",
			strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// TestSCCAdmitsTheSpeakerAndNoMore: what the SCC allows is what the pod of the speaker asks for.
func TestSCCAdmitsTheSpeakerAndNoMore(t *testing.T) {
	for _, components := range [][]string{
		{"openshift"},
		{"openshift", "passive-bgp"},
		{"openshift", "bgp-only"},
		{"openshift", "bgp-only", "passive-bgp"},
	} {
		objects := overlay(t, components, "")
		scc := one(t, objects, "SecurityContextConstraints", "berth-speaker")
		speaker := one(t, objects, "DaemonSet", "berth-speaker")
		pod := field[map[string]any](t, speaker, "spec", "template", "spec")
		container := pod["containers"].([]any)[0].(map[string]any)
		asked, _, _ := unstructured.NestedSlice(container, "securityContext", "capabilities", "add")
		if allowed := field[[]any](t, scc, "allowedCapabilities"); !slices.Equal(allowed, asked) {
			t.Errorf("%v: the SCC allows %v, the speaker asks for %v", components, allowed, asked)
		}
		for name, of := range scc.Object {
			if allows, is := of.(bool); is && allows &&
				!slices.Contains([]string{"allowHostNetwork", "readOnlyRootFilesystem"}, name) {
				t.Errorf("%v: the SCC allows %s", components, name)
			}
		}
		if pod["hostNetwork"] != true || pod["volumes"] != nil {
			t.Errorf("the pod of the speaker has hostNetwork %v and volumes %v: the SCC is made for others",
				pod["hostNetwork"], pod["volumes"])
		}
	}
}

// TestOwnNamespace: the field `namespace` of a kustomization is all that another namespace takes.
func TestOwnNamespace(t *testing.T) {
	objects := overlay(t, []string{"openshift"}, "namespace: lb\n")
	for _, o := range objects {
		if ns := o.GetNamespace(); ns != "" && ns != "lb" {
			t.Errorf("%s is in another namespace", render.Key(o))
		}
		text := fmt.Sprint(o.Object["spec"], o.Object["subjects"], o.Object["rules"])
		if o.GetKind() != "CustomResourceDefinition" && strings.Contains(text, "berth-system") {
			t.Errorf("%s names berth-system: %v", render.Key(o), o.Object)
		}
	}
	one(t, objects, "Namespace", "lb")
	if got, want := len(objects), len(overlay(t, []string{"openshift"}, "")); got != want {
		t.Errorf("there are %d objects, in berth-system %d", got, want)
	}
}

// TestOneFileIsTheBase: install.yaml has what the base installs.
func TestOneFileIsTheBase(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(manifests, generated.Everything))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := render.Objects(text)
	if err != nil {
		t.Fatal(err)
	}
	same(t, render.Differences(base(t), objects), nil)
}

// one returns an object by kind and name.
func one(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// field returns a field of an object.
func field[T any](t *testing.T, o *unstructured.Unstructured, path ...string) T {
	t.Helper()
	value, _, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	out, is := value.(T)
	if !is {
		t.Fatalf("%s has %v at %v", render.Key(o), value, path)
	}
	return out
}
