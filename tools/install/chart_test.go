package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/tools/install/generated"
	"github.com/berth-lb/berth/tools/install/render"
)

// berth is the chart, read once.
var berth = sync.OnceValues(func() (*chart.Chart, error) {
	return render.Load(filepath.Join(manifests, generated.Chart))
})

// installed is what an installation of the chart brings, with values in YAML.
func installed(t *testing.T, values string) render.Chart {
	t.Helper()
	out, err := attempt(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func attempt(t *testing.T, values string) (render.Chart, error) {
	t.Helper()
	c, err := berth()
	if err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := yaml.Unmarshal([]byte(values), &parsed); err != nil {
		t.Fatal(err)
	}
	release := render.Release{
		Name:      "lb",
		Namespace: "berth-system",
	}
	return render.Of(c, release, parsed)
}

// ofHelm are the labels that objects of the chart have and those of the base do not.
var ofHelm = []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}

// withoutHelm returns the objects without the labels of Helm.
func withoutHelm(t *testing.T, objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, o := range objects {
		o = o.DeepCopy()
		labels := o.GetLabels()
		for _, name := range ofHelm {
			if labels[name] == "" {
				t.Errorf("%s has no label %s", render.Key(o), name)
			}
			delete(labels, name)
		}
		o.SetLabels(labels)
		out = append(out, o)
	}
	return out
}

// TestChartIsTheBase: with its own values the chart installs what the base does, but for the namespace,
// which Helm makes.
func TestChartIsTheBase(t *testing.T) {
	made := installed(t, "")
	all := slices.Concat(made.CRDs, withoutHelm(t, made.Objects))
	same(t, render.Differences(base(t), all), []string{"Namespace berth-system: removed"})
	if len(made.CRDs) != 7 {
		t.Errorf("there are %d CRDs", len(made.CRDs))
	}
}

// TestNoTemplateHasAnythingToDelete: a CRD in the templates would go with the release, and every pool with
// it; what Helm makes up or looks up differs each time it renders.
func TestNoTemplateHasAnythingToDelete(t *testing.T) {
	for _, o := range installed(t, allValues).Objects {
		if o.GetKind() == "CustomResourceDefinition" {
			t.Errorf("%s is in the templates", o.GetName())
		}
		if o.GetKind() == "Secret" && (o.Object["data"] != nil || o.Object["stringData"] != nil) {
			t.Errorf("%s has data", render.Key(o))
		}
	}
	c, err := berth()
	if err != nil {
		t.Fatal(err)
	}
	fickle := regexp.MustCompile(`\b(lookup|rand[A-Z]\w*|now|uuidv4|gen[A-Z]\w*)\b *["(.]`)
	for _, file := range c.Templates {
		if found := fickle.Find(file.Data); found != nil {
			t.Errorf("%s uses %s", file.Name, found)
		}
	}
}

// allValues turns everything on.
const allValues = `
openshift: {enabled: true}
podMonitor: {enabled: true}
prometheusRule: {enabled: true}
dashboards: {enabled: true}
ipAddressPools: [{name: lan, spec: {addresses: [192.0.2.0/24]}}]
l2Advertisements: [{name: lan}]
`

// TestValues: what values change, and nothing beside it.
func TestValues(t *testing.T) {
	var stories []struct {
		Story   string         `json:"story"`
		Values  map[string]any `json:"values"`
		Changes []string       `json:"changes"`
	}
	readYAML(t, filepath.Join("testdata", "values.yaml"), &stories)
	pods := strings.NewReplacer(
		"CONTROLLER ", "Deployment berth-controller in berth-system: spec.template.spec.",
		"SPEAKER ", "DaemonSet berth-speaker in berth-system: spec.template.spec.")
	plain := installed(t, "").Objects
	for _, s := range stories {
		t.Run(s.Story, func(t *testing.T) {
			values, err := yaml.Marshal(s.Values)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, change := range s.Changes {
				// The container first: what stands for a pod ends with a blank.
				change = strings.Replace(change, " container.", " containers[0].", 1)
				want = append(want, pods.Replace(change))
			}
			same(t, render.Differences(plain, installed(t, string(values)).Objects), want)
		})
	}
}

// readYAML reads a file. A field that is not expected is an error.
func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestChartHasTheComponents: what a component does for kustomize, values do for Helm.
func TestChartHasTheComponents(t *testing.T) {
	const one = "controller: {replicas: 1, affinity: null, podDisruptionBudget: {enabled: false}}"
	for _, test := range []struct {
		components []string
		values     string
	}{
		{[]string{"single-node"}, one},
		{[]string{"passive-bgp"}, "speaker: {passiveBGP: true}"},
		{[]string{"openshift"}, "openshift: {enabled: true}"},
		{[]string{"openshift", "passive-bgp"}, "openshift: {enabled: true}\nspeaker: {passiveBGP: true}"},
		{[]string{"layer-2-only"}, "speaker: {settings: {bgp: false}}"},
		{[]string{"bgp-only"}, "speaker: {settings: {layer2: false}}"},
		{[]string{"openshift", "bgp-only", "passive-bgp"},
			"openshift: {enabled: true}\nspeaker: {passiveBGP: true, settings: {layer2: false}}"},
	} {
		made := installed(t, test.values)
		all := slices.Concat(made.CRDs, withoutHelm(t, made.Objects))
		differences := render.Differences(overlay(t, test.components, ""), all)
		same(t, differences, []string{"Namespace berth-system: removed"})
	}
}

// TestChartMonitorsWhatTheManifestsDo: alerts, dashboards and the PodMonitor are those of
// manifests/monitoring.
func TestChartMonitorsWhatTheManifestsDo(t *testing.T) {
	all := installed(t, "podMonitor: {enabled: true}\nprometheusRule: {enabled: true}\n"+
		"dashboards: {enabled: true}")
	plain := map[string]bool{}
	for _, o := range installed(t, "").Objects {
		plain[render.Key(o)] = true
	}
	var monitoring []*unstructured.Unstructured
	for _, o := range withoutHelm(t, all.Objects) {
		if !plain[render.Key(o)] {
			monitoring = append(monitoring, o)
		}
	}
	same(t, render.Differences(kustomized(t, filepath.Join(manifests, "monitoring")), monitoring), nil)
}

// TestPoolsOutliveTheRelease: Helm deletes no pool, whoever removes it from the values.
func TestPoolsOutliveTheRelease(t *testing.T) {
	pool := one(t, installed(t, allValues).Objects, "IPAddressPool", "lan")
	if pool.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
		t.Errorf("the pool has the annotations %v", pool.GetAnnotations())
	}
}

// TestRefusals: a mistake is told by name before anything is installed.
func TestRefusals(t *testing.T) {
	for _, test := range []struct{ story, values, says string }{
		{"a value that does not exist", "speakers: {}", "additional properties 'speakers' not allowed"},
		{"a setting that does not exist", "speaker: {settings: {log-lvl: debug}}", "'log-lvl' not allowed"},
		{"one of the other program", "controller: {settings: {member-port: 1}}", "'member-port' not allowed"},
		{"one for both", "speaker: {settings: {member-secret: x}}", "'member-secret' not allowed"},
		{"a duration without a unit", "speaker: {settings: {restart-hold: \"30\"}}", "settings/restart-hold"},
		{"a level that does not exist", "settings: {log-level: loud}", "'debug', 'info', 'warn', 'error'"},
		{"no address", "settings: {metrics-bind-address: \"9740\"}", "/settings/metrics-bind-address"},
		{"a pool without addresses", "ipAddressPools: [{name: lan}]", "missing property 'spec'"},
		{"an object without a name", "l2Advertisements: [{spec: {}}]", "missing property 'name'"},
		{"a digest that is none", "speaker: {image: {digest: abc}}", "/speaker/image/digest"},
		{"text for a number", "controller: {replicas: two}", "/controller/replicas"},
		{"a monitor of nothing", "podMonitor: {enabled: true}\nsettings: {metrics-bind-address: \"0\"}",
			"podMonitor.enabled: the setting metrics-bind-address turns metrics off"},
	} {
		t.Run(test.story, func(t *testing.T) {
			if _, err := attempt(t, test.values); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want an error with %q", err, test.says)
			}
		})
	}
}

// TestEverySettingCanBeGiven: each setting that docs/settings.md lists reaches the environment of its
// program, but those that the pod itself knows.
func TestEverySettingCanBeGiven(t *testing.T) {
	documented := documentedSettings(t)
	values := map[string]map[string]any{
		"settings":   {"member-secret": documented["speaker"]["member-secret"]},
		"controller": {},
		"speaker":    {},
	}
	for program, settings := range documented {
		own := maps.Clone(settings)
		maps.DeleteFunc(own, func(name string, _ any) bool {
			// The pod knows its namespace and its node. The last two have to be the same in both programs.
			elsewhere := []string{"namespace", "node-name", "member-secret", "load-balancer-class"}
			return slices.Contains(elsewhere, name)
		})
		values[program]["settings"] = own
	}
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	objects := installed(t, "loadBalancerClass: x\n"+string(text)).Objects
	for program, kind := range map[string]string{"controller": "Deployment", "speaker": "DaemonSet"} {
		workload := one(t, objects, kind, "berth-"+program)
		containers := field[[]any](t, workload, "spec", "template", "spec", "containers")
		environment := map[string]any{}
		for _, e := range containers[0].(map[string]any)["env"].([]any) {
			variable := e.(map[string]any)
			environment[variable["name"].(string)] = variable["value"]
		}
		for setting, value := range documented[program] {
			variable := "BERTH_" + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
			got, has := environment[variable]
			fromPod := has && got == nil // by a reference
			if !fromPod && got != fmt.Sprint(value) {
				t.Errorf("%s: %s is %v, want %v", program, variable, got, value)
			}
		}
	}
}

// documentedSettings returns a value for each setting of docs/settings.md, by program. The tests of both
// programs compare that page with their flags.
func documentedSettings(t *testing.T) map[string]map[string]any {
	t.Helper()
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{"controller": {}, "speaker": {}}
	row := regexp.MustCompile("(?m)^\\| `--([a-z0-9-]+)` \\| `BERTH_[A-Z0-9_]+` \\| ([^|]+) \\|")
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		for _, cells := range row.FindAllStringSubmatch(text, -1) {
			value := exampleOf(cells[1], cells[2])
			for program, settings := range out {
				if heading == "Both processes" || strings.EqualFold(heading, program) {
					settings[cells[1]] = value
				}
			}
		}
	}
	if len(out["controller"]) < 10 || len(out["speaker"]) < 25 {
		t.Fatalf("only %d settings of the controller and %d of the speaker are found",
			len(out["controller"]), len(out["speaker"]))
	}
	return out
}

// exampleOf returns a value for a setting with the default that the page gives, as the values have it.
func exampleOf(setting, printed string) any {
	quoted := regexp.MustCompile("`([^`]*)`").FindStringSubmatch(printed)
	if quoted == nil {
		return cmp.Or(map[string]string{"exclude-interfaces": "^x"}[setting], "x")
	}
	var number int
	if err := json.Unmarshal([]byte(quoted[1]), &number); err == nil {
		return number
	}
	var truth bool
	if err := json.Unmarshal([]byte(quoted[1]), &truth); err == nil {
		return truth
	}
	return quoted[1]
}

// TestNotesNameTheNextCommands: of what is still to be done, and of nothing else.
func TestNotesNameTheNextCommands(t *testing.T) {
	const rollout = "kubectl -n berth-system rollout status daemonset/berth-speaker"
	plain := installed(t, "").Notes
	for _, want := range []string{rollout, "helm test lb --namespace berth-system", "kind: IPAddressPool"} {
		if !strings.Contains(plain, want) {
			t.Errorf("the notes do not say %q:\n%s", want, plain)
		}
	}
	pools := "ipAddressPools: [{name: lan, spec: {addresses: [192.0.2.0/24]}}]\n"
	if notes := installed(t, pools).Notes; !strings.Contains(notes, "nobody\nannounces them") {
		t.Errorf("the notes do not say that nothing announces the pool:\n%s", notes)
	}
	whole := installed(t, pools+"l2Advertisements: [{name: lan}]").Notes
	if strings.Contains(whole, "kind: IPAddressPool") || strings.Contains(whole, "nobody") {
		t.Errorf("the notes ask for what is there:\n%s", whole)
	}
	c, err := berth()
	if err != nil {
		t.Fatal(err)
	}
	upgrade, err := render.Of(c, render.Release{
		Name:      "lb",
		Namespace: "berth-system",
		Upgrade:   true,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(upgrade.Notes, "CRDOutdated") || strings.Contains(plain, "CRDOutdated") {
		t.Error("an upgrade, and nothing else, has to say that Helm leaves CRDs as they are")
	}
}

// TestTheTestNeedsNothingElse: helm test runs the controller's own image, as the controller runs.
func TestTheTestNeedsNothingElse(t *testing.T) {
	made := installed(t, "openshift: {enabled: true}")
	if len(made.Tests) != 1 {
		t.Fatalf("there are %d tests", len(made.Tests))
	}
	pod := field[map[string]any](t, made.Tests[0], "spec")
	controller := field[map[string]any](t, one(t, made.Objects, "Deployment", "berth-controller"),
		"spec", "template", "spec")
	for _, name := range []string{"serviceAccountName", "securityContext", "nodeSelector"} {
		if fmt.Sprint(pod[name]) != fmt.Sprint(controller[name]) {
			t.Errorf("%s of the test is %v, of the controller %v", name, pod[name], controller[name])
		}
	}
	container := pod["containers"].([]any)[0].(map[string]any)
	of := controller["containers"].([]any)[0].(map[string]any)
	for _, name := range []string{"image", "securityContext", "env", "resources"} {
		if fmt.Sprint(container[name]) != fmt.Sprint(of[name]) {
			t.Errorf("%s of the test is %v, of the controller %v", name, container[name], of[name])
		}
	}
}

// TestEveryValueIsExplained: the schema knows every value, and each has a comment or one above it.
func TestEveryValueIsExplained(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(manifests, generated.Chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	values, err := os.ReadFile(filepath.Join(manifests, generated.Chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.UnmarshalStrict(values, &defaults); err != nil {
		t.Fatal(err)
	}
	for name := range schema.Properties {
		if _, has := defaults[name]; !has {
			t.Errorf("values.yaml does not show %s", name)
		}
	}
}
