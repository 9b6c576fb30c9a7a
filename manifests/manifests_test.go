// Package manifests has the tests of the manifests beside it.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// document is one object of a manifest.
type document struct {
	file string
	text []byte
	kind schema.GroupVersionKind
}

// documents returns the documents of the files that match a pattern.
func documents(t *testing.T, patterns ...string) []document {
	t.Helper()
	var out []document
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no file matches %s (%v)", pattern, err)
		}
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, split(t, file, content)...)
		}
	}
	return out
}

func split(t *testing.T, file string, content []byte) []document {
	t.Helper()
	var out []document
	for in := yamlstream.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content))); ; {
		text := make([]byte, len(content)+1)
		n, err := in.Read(text)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		text = text[:n]
		var o unstructured.Unstructured
		if err := yaml.Unmarshal(text, &o.Object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(o.Object) > 0 {
			out = append(out, document{file, text, o.GroupVersionKind()})
		}
	}
}

// decode reads a document into its Go type. A field that the type does not
// have is an error.
func decode(scheme *runtime.Scheme, d document) (runtime.Object, error) {
	object, err := scheme.New(d.kind)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.file, err)
	}
	if err := yaml.UnmarshalStrict(d.text, object); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", d.file, d.kind.Kind, err)
	}
	return object, nil
}

// decoded returns the objects of one type among documents; all others must be
// readable too.
func decoded[T runtime.Object](t *testing.T, list []document) []T {
	t.Helper()
	scheme := kube.Scheme()
	var out []T
	for _, d := range list {
		object, err := decode(scheme, d)
		if err != nil {
			t.Error(err)
			continue
		}
		if o, ok := object.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

// base returns the manifests that `kubectl apply -k manifests/base` installs,
// without the definitions of our own kinds.
func base(t *testing.T) []document {
	return documents(t, "base/*.yaml", "base/*/*.yaml")
}

func TestSamplesAreInForceAsWritten(t *testing.T) {
	objects := configObjects(t, samples(t))
	for kind, n := range map[string]int{
		config.KindIPAddressPool:    len(objects.Pools),
		config.KindL2Advertisement:  len(objects.L2Advertisements),
		config.KindBGPPeer:          len(objects.BGPPeers),
		config.KindBGPAdvertisement: len(objects.BGPAdvertisements),
		config.KindCommunity:        len(objects.Communities),
		config.KindBFDProfile:       len(objects.BFDProfiles),
	} {
		if n == 0 {
			t.Errorf("the samples have no %s", kind)
		}
	}
	_, problems := config.Parse(objects, config.Config{}, time.Time{})
	for _, p := range problems {
		t.Errorf("%s %s: %s: %s", p.Kind, p.Name, p.Reason, p.Message)
	}
}

func TestUnknownFieldsOfSamplesAreSeen(t *testing.T) {
	text := "apiVersion: berth.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: x}\n" +
		"spec: {adresses: [192.0.2.0/24]}\n"
	d := split(t, "made up", []byte(text))
	if len(d) != 1 {
		t.Fatalf("%d documents", len(d))
	}
	if _, err := decode(kube.Scheme(), d[0]); err == nil || !strings.Contains(err.Error(), "adresses") {
		t.Errorf("got %v, want an error that names the field", err)
	}
}

// TestSamplesShowEveryField: a user finds every field of a kind, explained,
// in the samples.
func TestSamplesShowEveryField(t *testing.T) {
	shown := map[string]map[string]bool{}
	for _, d := range samples(t) {
		var tree map[string]any
		if err := yaml.Unmarshal(d.text, &tree); err != nil {
			t.Fatal(err)
		}
		if shown[d.kind.Kind] == nil {
			shown[d.kind.Kind] = map[string]bool{}
		}
		paths(tree, "", shown[d.kind.Kind])
	}
	for kind, spec := range map[string]any{
		config.KindIPAddressPool:    v1beta1.IPAddressPoolSpec{},
		config.KindL2Advertisement:  v1beta1.L2AdvertisementSpec{},
		config.KindBGPAdvertisement: v1beta1.BGPAdvertisementSpec{},
		config.KindBGPPeer:          v1beta1.BGPPeerSpec{},
		config.KindBFDProfile:       v1beta1.BFDProfileSpec{},
		config.KindCommunity:        v1beta1.CommunitySpec{},
	} {
		fields := fieldsOf(reflect.TypeOf(spec), ".spec")
		if len(fields) < 3 {
			t.Errorf("%s has only the fields %v: does this test still see them?", kind, fields)
		}
		for _, field := range fields {
			if !shown[kind][field] {
				t.Errorf("no sample of %s shows %s", kind, field)
			}
		}
	}
}

// paths collects the paths of all fields of a document. Elements of a list
// have the path of the list.
func paths(value any, at string, into map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			into[at+"."+key] = true
			paths(below, at+"."+key, into)
		}
	case []any:
		for _, element := range v {
			paths(element, at, into)
		}
	}
}

// fieldsOf returns the paths of the fields of a type, and of our own types in it.
func fieldsOf(typ reflect.Type, at string) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[v1beta1.IPAddressPool]().PkgPath() {
		return nil
	}
	var out []string
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		path := at + "." + name
		out = append(append(out, path), fieldsOf(field.Type, path)...)
	}
	return out
}

func TestEveryManifestIsReadable(t *testing.T) {
	if n := len(decoded[runtime.Object](t, base(t))); n < 15 {
		t.Errorf("only %d objects in the base", n)
	}
}

// TestKustomizationsListEveryFile: a manifest that no kustomization names is
// not installed.
func TestKustomizationsListEveryFile(t *testing.T) {
	for _, dir := range []string{"base", "base/controller", "base/speaker", "crds"} {
		content, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var k struct {
			Resources []string `json:"resources"`
		}
		if err := yaml.Unmarshal(content, &k); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*.yaml"))
		for _, file := range files {
			name := filepath.Base(file)
			if name != "kustomization.yaml" && !slices.Contains(k.Resources, name) {
				t.Errorf("%s/kustomization.yaml does not list %s", dir, name)
			}
		}
	}
}

// samples returns all samples.
func samples(t *testing.T) []document {
	t.Helper()
	return documents(t, "samples/*.yaml", "samples/*/*.yaml")
}

// TestSamplesRunAnywhere: a sample that is applied outside the lab finds its images.
func TestSamplesRunAnywhere(t *testing.T) {
	workloads := decoded[*appsv1.Deployment](t, samples(t))
	if len(workloads) == 0 {
		t.Fatal("no sample has pods")
	}
	for _, d := range workloads {
		for _, c := range d.Spec.Template.Spec.Containers {
			name, tag, _ := strings.Cut(c.Image, ":")
			host, _, _ := strings.Cut(name, "/")
			if strings.HasSuffix(host, ".test") || host == "localhost" || tag == "" || tag == "latest" {
				t.Errorf("%s uses the image %s", d.Name, c.Image)
			}
		}
	}
}

// pods returns the pods of the base: that of the controller and that of the speaker.
func pods(t *testing.T) (controller, speaker corev1.PodSpec) {
	t.Helper()
	deployments := decoded[*appsv1.Deployment](t, base(t))
	daemonSets := decoded[*appsv1.DaemonSet](t, base(t))
	if len(deployments) != 1 || len(daemonSets) != 1 {
		t.Fatalf("%d Deployments and %d DaemonSets", len(deployments), len(daemonSets))
	}
	return deployments[0].Spec.Template.Spec, daemonSets[0].Spec.Template.Spec
}

func TestPodsHaveTheLeastPrivilege(t *testing.T) {
	controller, speaker := pods(t)
	for _, test := range []struct {
		role string
		pod  corev1.PodSpec
		adds []corev1.Capability
	}{
		{"controller", controller, nil},
		{"speaker", speaker, []corev1.Capability{"NET_RAW"}},
	} {
		t.Run(test.role, func(t *testing.T) {
			if n := len(test.pod.Containers) + len(test.pod.InitContainers); n != 1 {
				t.Fatalf("%d containers", n)
			}
			s := test.pod.Containers[0].SecurityContext
			if s == nil || s.Capabilities == nil {
				t.Fatal("the container has no capabilities in its securityContext, so it has the runtime's")
			}
			if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("drops %v, not ALL", s.Capabilities.Drop)
			}
			if !slices.Equal(s.Capabilities.Add, test.adds) {
				t.Errorf("adds the capabilities %v, want %v", s.Capabilities.Add, test.adds)
			}
			if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Error("the root filesystem can be written")
			}
			if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
				t.Error("allowPrivilegeEscalation is not false")
			}
			if s.Privileged != nil && *s.Privileged {
				t.Error("the container is privileged")
			}
			if p := test.pod.SecurityContext; p == nil || p.SeccompProfile == nil ||
				p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Error("the seccomp profile is not RuntimeDefault")
			}
			if len(test.pod.Volumes) > 0 || test.pod.HostPID || test.pod.HostIPC {
				t.Error("the pod has volumes or shares more of the host than the network")
			}
		})
	}
	s := controller.SecurityContext
	if s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 {
		t.Error("the controller may run as root")
	}
	if controller.HostNetwork {
		t.Error("the controller uses the network of its node")
	}
}

// TestRolesGrantNoMore: no wildcard, and of Secrets only the one with the
// members' key; to speakers, which read the passwords that BGPPeers name, those
// of their own namespace, and only to read.
func TestRolesGrantNoMore(t *testing.T) {
	rules := map[string][]rbacv1.PolicyRule{}
	for _, r := range decoded[*rbacv1.ClusterRole](t, base(t)) {
		rules["ClusterRole "+r.Name] = r.Rules
	}
	for _, r := range decoded[*rbacv1.Role](t, base(t)) {
		rules["Role "+r.Name] = r.Rules
	}
	if len(rules) < 4 {
		t.Fatalf("only %d roles", len(rules))
	}
	for name, list := range rules {
		for _, wrong := range excesses(name, list) {
			t.Error(wrong)
		}
	}
}

// excesses tells what a role grants that it should not.
func excesses(role string, rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		for _, words := range [][]string{r.APIGroups, r.Resources, r.Verbs, r.NonResourceURLs} {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, "*") }) {
				out = append(out, fmt.Sprintf("%s: a wildcard in %v", role, words))
			}
		}
		if !slices.Contains(r.Resources, "secrets") {
			continue
		}
		reads := role == "Role berth-speaker"
		if strings.HasPrefix(role, "ClusterRole") ||
			!reads && !slices.Equal(r.ResourceNames, []string{"berth-memberlist"}) {
			out = append(out, fmt.Sprintf(
				"%s: grants Secrets other than berth-memberlist of its own namespace: %v",
				role, r.ResourceNames,
			))
		}
		may := []string{"get", "update"}
		if reads {
			may = []string{"get", "list", "watch"}
		}
		if i := slices.IndexFunc(r.Verbs, func(v string) bool { return !slices.Contains(may, v) }); i >= 0 {
			out = append(out, fmt.Sprintf("%s: grants %s of Secrets", role, r.Verbs[i]))
		}
	}
	return out
}

func TestExcessesAreFound(t *testing.T) {
	for _, test := range []struct {
		story string
		role  string
		rule  rbacv1.PolicyRule
		says  string
	}{
		{"a wildcard", "Role x", rbacv1.PolicyRule{
			APIGroups: []string{""},
			Resources: []string{"*"},
			Verbs:     []string{"get"},
		}, "a wildcard"},
		{"all Secrets", "Role x", rbacv1.PolicyRule{
			APIGroups: []string{""},
			Resources: []string{"secrets"},
			Verbs:     []string{"get"},
		}, "grants Secrets other"},
		{"the Secret of every namespace", "ClusterRole x", rbacv1.PolicyRule{
			Resources:     []string{"secrets"},
			ResourceNames: []string{"berth-memberlist"},
			Verbs:         []string{"get"},
		}, "grants Secrets other"},
		{"to delete it", "Role x", rbacv1.PolicyRule{
			Resources:     []string{"secrets"},
			ResourceNames: []string{"berth-memberlist"},
			Verbs:         []string{"delete"},
		}, "grants delete"},
		{"a speaker may read passwords", "Role berth-speaker", rbacv1.PolicyRule{
			APIGroups: []string{""},
			Resources: []string{"secrets"},
			Verbs:     []string{"get", "list", "watch"},
		}, ""},
		{"but not change them", "Role berth-speaker", rbacv1.PolicyRule{
			APIGroups: []string{""},
			Resources: []string{"secrets"},
			Verbs:     []string{"update"},
		}, "grants update"},
		{"nor read those of others", "ClusterRole berth-speaker", rbacv1.PolicyRule{
			APIGroups: []string{""},
			Resources: []string{"secrets"},
			Verbs:     []string{"get"},
		}, "grants Secrets other"},
		{"to read it", "Role x", rbacv1.PolicyRule{
			Resources:     []string{"secrets"},
			ResourceNames: []string{"berth-memberlist"},
			Verbs:         []string{"get"},
		}, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := strings.Join(excesses(test.role, []rbacv1.PolicyRule{test.rule}), "\n")
			if (got == "") != (test.says == "") || !strings.Contains(got, test.says) {
				t.Errorf("got %q, want %q in it", got, test.says)
			}
		})
	}
}

func TestMemberSecretHasNoKey(t *testing.T) {
	secrets := decoded[*corev1.Secret](t, base(t))
	if len(secrets) != 1 || secrets[0].Name != "berth-memberlist" {
		t.Fatalf("the Secrets are %v", secrets)
	}
	if len(secrets[0].Data)+len(secrets[0].StringData) > 0 {
		t.Error("the Secret has data: a key that everybody can read, " +
			"and that applying the manifest again would bring back")
	}
}

// TestPortsAreTheDefaults: the flags are not set in the manifests, so the
// ports there must be the flags' defaults. That of the members is checked
// with the speaker's flags.
func TestPortsAreTheDefaults(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	kube.AddFlags(flags)
	address := func(flag string) string {
		value, err := flags.GetString(flag)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	controller, speaker := pods(t)
	for _, test := range []struct {
		role string
		pod  corev1.PodSpec
		want map[string]string
	}{
		{"controller", controller, map[string]string{
			"metrics": address("metrics-bind-address"),
			"health":  address("health-bind-address"),
		}},
		// In the node's network a port that is listed keeps a second speaker away, which
		// an update wants beside the first.
		{"speaker", speaker, map[string]string{}},
	} {
		got := map[string]string{}
		for _, p := range test.pod.Containers[0].Ports {
			got[p.Name] = fmt.Sprintf(":%d", p.ContainerPort)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: the ports are %v, the flags' defaults %v", test.role, got, test.want)
		}
	}
	for _, probe := range []*corev1.Probe{
		speaker.Containers[0].LivenessProbe, speaker.Containers[0].ReadinessProbe,
	} {
		if port := probe.HTTPGet.Port.String(); ":"+port != address("health-bind-address") {
			t.Errorf("a probe of the speaker asks at port %s", port)
		}
	}
	if address("metrics-bind-address") != ":9740" || address("health-bind-address") != ":9741" {
		t.Error("the default ports have changed: " +
			"change them in the documentation and in the network policy too")
	}
}

// TestASpeakerIsReplacedBesideTheOldOne: nothing of the DaemonSet keeps the next pod from
// starting on the node of the one that works, and no probe takes the answers of the old
// speaker for those of the new one.
func TestASpeakerIsReplacedBesideTheOldOne(t *testing.T) {
	sets := decoded[*appsv1.DaemonSet](t, base(t))
	if len(sets) != 1 {
		t.Fatalf("there are %d DaemonSets", len(sets))
	}
	update := sets[0].Spec.UpdateStrategy.RollingUpdate
	if update == nil || update.MaxSurge.IntValue() != 1 || update.MaxUnavailable.IntValue() != 0 {
		t.Errorf("the pods are replaced by %+v", update)
	}
	c := sets[0].Spec.Template.Spec.Containers[0]
	want := &corev1.ExecAction{Command: []string{"/speaker", "started"}}
	if c.StartupProbe == nil || !reflect.DeepEqual(c.StartupProbe.Exec, want) {
		t.Errorf("the startup probe is %+v, want one that runs %v", c.StartupProbe, want.Command)
	}
	for _, v := range sets[0].Spec.Template.Spec.Volumes {
		if v.HostPath != nil {
			t.Errorf("the speakers share the folder %s of the node", v.HostPath.Path)
		}
	}
}

// TestGoKnowsTheMemoryLimit: the runtime collects garbage harder before the kernel ends
// the process, and leaves some room for what it does not count.
func TestGoKnowsTheMemoryLimit(t *testing.T) {
	controller, speaker := pods(t)
	for role, pod := range map[string]corev1.PodSpec{"controller": controller, "speaker": speaker} {
		c := pod.Containers[0]
		limit := c.Resources.Limits.Memory().Value()
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
		if i < 0 {
			t.Errorf("%s: GOMEMLIMIT is not set", role)
			continue
		}
		var mebibytes int64
		if _, err := fmt.Sscanf(c.Env[i].Value, "%dMiB", &mebibytes); err != nil {
			t.Errorf("%s: GOMEMLIMIT is %q: %v", role, c.Env[i].Value, err)
		}
		if share := float64(mebibytes<<20) / float64(limit); share < 0.85 || share > 0.92 {
			t.Errorf("%s: GOMEMLIMIT is %s, %.2f of the memory limit; it should be about 0.9",
				role, c.Env[i].Value, share)
		}
	}
}
