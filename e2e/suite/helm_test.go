package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// helm runs Helm on the control plane of the lab.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	program, err := lab.BuildHelm(t.Context(), os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	command := append([]string{program, "--namespace", product.Namespace}, args...)
	return string(must(t)(cluster.Host(lab.HostControlPlane).Exec(t.Context(), command...)))
}

// TestHelm: Helm 4 installs Berth with its pools in one pass, upgrades it and takes that back, and none of
// it changes an address. The controller says when the CRDs are older than it. What Helm removes leaves CRDs,
// pools and addresses, and what kubectl has installed Helm adopts without a restart.
func TestHelm(t *testing.T) {
	fullOnly(t, "a lab of its own and Helm itself; tools/install compares the chart with the base")
	if !cluster.ProxyMode().Forwards() {
		t.Skip("without kube-proxy pods have to be told where the API server is")
	}
	for _, variable := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
		t.Setenv(variable, t.TempDir())
	}
	useBareLab(t, "helm", lab.Options{Nodes: 1})
	for _, role := range []string{"controller", "speaker"} {
		succeeds(t, cluster.LoadImage(t.Context(), filepath.Join(root, "dist", role+".tar")))
	}
	manifests, err := filepath.Abs(filepath.Join(root, "manifests"))
	succeeds(t, err)
	chart := filepath.Join(manifests, "helm", "berth")
	values := filepath.Join(t.TempDir(), "values.yaml")
	text := "ipAddressPools: [{name: lan, spec: {addresses: [" + spans(120, 120) + "]}}]\n" +
		"l2Advertisements: [{name: lan}]\n"
	succeeds(t, os.WriteFile(values, []byte(text), 0o600))
	apply(t, web("web", "node1"))
	apply(t, service("web", "web", ""))

	start := time.Now()
	notes := helm(t, "install", "berth", chart, "--create-namespace", "--values", values,
		"--wait", "--timeout=2m")
	t.Logf("figure: installed with a pool in %.0f s", time.Since(start).Seconds())
	const next = "rollout status daemonset/berth-speaker"
	if !strings.Contains(notes, next) || strings.Contains(notes, "no pool") {
		t.Errorf("the notes say\n%s", notes)
	}
	address := hasAddress(t, "web")
	served(t, address)
	keeps := func(story string) {
		t.Helper()
		if got := hasAddress(t, "web"); got != address {
			t.Errorf("%s: the address is %s, was %s", story, got, address)
		}
		served(t, address)
	}
	helm(t, "test", "berth", "--timeout=3m")

	helm(t, "upgrade", "berth", chart, "--values", values, "--set", "speaker.settings.log-level=debug",
		"--wait", "--timeout=2m")
	keeps("an upgrade")
	if env := speakerEnvironment(t); !strings.Contains(env, "BERTH_LOG_LEVEL=debug") {
		t.Errorf("after the upgrade the speaker has %s", env)
	}
	outdatedDefinition(t, chart)
	keeps("older CRDs")

	helm(t, "rollback", "berth", "1", "--wait", "--timeout=2m")
	keeps("a rollback")
	if env := speakerEnvironment(t); strings.Contains(env, "BERTH_LOG_LEVEL") {
		t.Errorf("after the rollback the speaker has %s", env)
	}

	helm(t, "uninstall", "berth", "--wait", "--timeout=2m")
	kubectl(t, "get", "ipaddresspool/lan", "crd/speakers.berth.io")
	if got := hasAddress(t, "web"); got != address {
		t.Errorf("after the removal the status has %q, had %s", got, address)
	}

	adoption(t, manifests, values, keeps)
}

// adoption installs Berth from one file with kubectl and has Helm take it over.
func adoption(t *testing.T, manifests, values string, keeps func(string)) {
	t.Helper()
	kubectl(t, "apply", "-f", filepath.Join(manifests, "install.yaml"))
	for _, workload := range []string{product.Controller, product.Speaker} {
		kubectl(t, "-n", product.Namespace, "rollout", "status", workload, "--timeout=60s")
	}
	apply(t, "apiVersion: berth.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: lan}\n")
	keeps("kubectl apply")
	// It fails if anything differs.
	kubectl(t, "diff", "-k", filepath.Join(manifests, "base"))
	kubectl(t, "diff", "-f", filepath.Join(manifests, "install.yaml"))

	pods := func() string {
		return kubectl(t, "-n", product.Namespace, "get", "pods",
			"-l", "app.kubernetes.io/name=berth", "-o", "name")
	}
	before := pods()
	chart := filepath.Join(manifests, "helm", "berth")
	helm(t, "install", "berth", chart, "--values", values, "--take-ownership", "--force-conflicts",
		"--wait", "--timeout=2m")
	keeps("the adoption")
	if got := pods(); got != before {
		t.Errorf("the adoption replaces pods: they are %q, were %q", got, before)
	}
}

// outdatedDefinition takes a field out of the definition of pools, as if it were of an earlier version, and
// puts it back. A controller that starts says it at the pool.
func outdatedDefinition(t *testing.T, chart string) {
	t.Helper()
	const field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/drain"
	kubectl(t, "patch", "crd", "ipaddresspools.berth.io", "--type=json",
		"-p", `[{"op": "remove", "path": "`+field+`"}]`)
	kubectl(t, "-n", product.Namespace, "rollout", "restart", product.Controller)
	kubectl(t, "-n", product.Namespace, "rollout", "status", product.Controller, "--timeout=60s")
	eventually(t, 30*time.Second, "the pool says that its CRD is outdated", func() (bool, string) {
		got := condition(t, "ipaddresspool lan", "CRDOutdated")
		return strings.HasPrefix(got, "CRDOutdated: ") && strings.Contains(got, "spec.drain"), got
	})
	kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", filepath.Join(chart, "crds"))
	eventually(t, time.Minute, "the pool says no more of its CRD", func() (bool, string) {
		got := condition(t, "ipaddresspool lan", "CRDOutdated")
		return !strings.Contains(got, "CRDOutdated"), got
	})
}

// speakerEnvironment returns the environment of the speaker's pods.
func speakerEnvironment(t *testing.T) string {
	t.Helper()
	return kubectl(t, "-n", product.Namespace, "set", "env", product.Speaker, "--list")
}
