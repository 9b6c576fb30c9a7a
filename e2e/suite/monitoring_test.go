package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
)

// fasterAlerts is how much sooner alerts fire in the lab than in the rules that users have: each `for` is
// divided by it. Nothing else of the rules is changed. Targets are scraped and rules evaluated each second.
const fasterAlerts = 15

// TestAlerts: a Prometheus that scrapes Berth and evaluates its alerts as `manifests/monitoring` says sees
// the cluster break in several ways. Each time exactly the right alert fires, and clears afterwards.
func TestAlerts(t *testing.T) {
	fullOnly(t, "three minutes of faults; TestAlertsFireAndClear in tools/monitoring judges every alert")
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Fatal("needs Prometheus: `make deps` installs it")
	}
	whole(t)
	first := peering.Router{
		Host:     lab.HostRouter,
		Nodes:    cluster.NodeNames(),
		Dynamic:  true,
		HoldTime: 3 * time.Second,
	}
	router(t, first)
	apply(t, peering.Peer{Name: "first", Address: lab.RouterAddresses.V4, HoldTime: "3s"}.Manifest())
	apply(t, pool("watched", "10.77.0.208/28"))
	apply(t, web("watched", "node1", "node2", "node3"))
	kubectl(t, "rollout", "status", "deployment/watched", "--timeout=60s")
	apply(t, service("watched", "watched", ""))
	owner := ownedBy(t, hasAddress(t, "watched"))
	established(t, "first")

	p := startPrometheus(t)
	processes := fmt.Sprint(len(cluster.NodeNames()) + controllers(t))
	p.sees(t, "every process", `sum(up{job="berth"})`, processes)
	p.sees(t, "the Service's address and who has it", `count(berth_controller_address_info{pool="watched"}`+
		` * on (address) group_left (node) berth_speaker_announced{node="`+owner+`"})`, "1")
	p.sees(t, "a leader", `sum(leader_election_master_status{name="berth-controller"})`, "1")
	p.sees(t, "no panic", `sum(controller_runtime_reconcile_panics_total{job="berth"})`, "0")
	p.sees(t, "the memory of each process", `count(process_resident_memory_bytes{job="berth"})`, processes)
	p.firing(t)

	for _, o := range append(outagesOfMachines(first, owner), outagesOfObjects(controllers(t))...) {
		t.Run(o.story, func(t *testing.T) { p.watch(t, o) })
	}
	t.Run("dashboards", func(t *testing.T) { p.checkDashboards(t, ownedBy(t, hasAddress(t, "watched"))) })
}

// outage is something that goes wrong, and the alerts that tell of it.
type outage struct {
	story  string
	breaks func(*testing.T)
	fires  []string
	mends  func(*testing.T)
}

// watch breaks something, waits for its alerts, and mends it.
func (p *monitor) watch(t *testing.T, o outage) {
	t.Helper()
	mend := sync.OnceFunc(func() { o.mends(t) })
	defer mend()
	broken := time.Now()
	o.breaks(t)
	p.firing(t, o.fires...)
	fmt.Printf("figure: %s: %v after %.0f s\n", o.story, o.fires, time.Since(broken).Seconds())
	p.staysFor(t, 3*time.Second, o.fires...)
	mend()
	p.firing(t)
}

// outagesOfMachines are those of a router, of the network and of a node.
func outagesOfMachines(first peering.Router, owner string) []outage {
	return []outage{
		{
			"the router loses its cables",
			func(t *testing.T) { succeeds(t, cluster.Router(first.Host).Crash(t.Context())) },
			[]string{"BerthBGPPeerDown peer=first"},
			func(t *testing.T) {
				r := cluster.Router(first.Host)
				succeeds(t, errors.Join(r.Start(t.Context(), first.Config()), r.Open(t.Context())))
			},
		},
		{
			"a host of the LAN has an address before it is assigned",
			func(t *testing.T) {
				strangerAddress(t, "add")
				kubectlInput(t, pool("strange", "10.77.0.228/31"))
				kubectlInput(t, service("strange", "watched", "loadBalancerIP: 10.77.0.228"))
			},
			[]string{"BerthForeignHost"},
			func(t *testing.T) {
				strangerAddress(t, "del")
				kubectl(t, "delete", "service/strange", "ipaddresspool/strange", "l2advertisement/strange")
			},
		},
		{
			"the member port of a node is blocked",
			func(t *testing.T) { succeeds(t, cluster.Node("node2").Block(t.Context(), product.MemberPort)) },
			[]string{"BerthMembersUnreachable"},
			func(t *testing.T) { succeeds(t, cluster.Node("node2").Heal(t.Context())) },
		},
		{
			"the node that owns the address dies",
			func(t *testing.T) { succeeds(t, cluster.Node(owner).Crash(t.Context())) },
			[]string{"BerthSpeakerDown node=" + owner},
			func(t *testing.T) { succeeds(t, cluster.Node(owner).Start(t.Context())) },
		},
	}
}

// outagesOfObjects are those that an edit brings about.
func outagesOfObjects(replicas int) []outage {
	return []outage{
		{
			"a pool is full, and an advertisement selects no node",
			func(t *testing.T) {
				kubectlInput(t, pool("tiny", "10.77.0.224/32"))
				kubectlInput(t, pool("astray", "10.77.0.226/31", "nowhere"))
				kubectlInput(t, service("tiny", "watched", "loadBalancerIP: 10.77.0.224"))
			},
			[]string{
				"BerthConfigurationNotReady kind=L2Advertisement reason=NoNodeSelected",
				"BerthPoolFull family=ipv4 pool=tiny",
			},
			func(t *testing.T) {
				kubectl(t, "delete", "service/tiny", "ipaddresspool/tiny", "ipaddresspool/astray",
					"l2advertisement/tiny", "l2advertisement/astray")
			},
		},
		{
			"the controllers are gone",
			func(t *testing.T) { scaleController(t, 0) },
			[]string{"BerthControllerDown"},
			func(t *testing.T) { scaleController(t, replicas) },
		},
	}
}

// withoutData are the panels that have none in a cluster that is whole, or was never as broken as that.
var withoutData = []string{
	"Addresses that more than one node announces",
	"BFD sessions that went down",
	"BFD sessions up",
	"Contested addresses",
	"Objects not ready, by kind",
	"Sessions that are not up",
}

// checkDashboards: Prometheus can evaluate every query of the dashboards, and has something to show in every
// panel. The objects that the operator and Grafana read can be made from the manifests.
func (p *monitor) checkDashboards(t *testing.T, node string) {
	t.Helper()
	manifests, err := filepath.Abs(filepath.Join(root, "manifests", "monitoring"))
	if err != nil {
		t.Fatal(err)
	}
	made := kubectl(t, "kustomize", manifests)
	for _, want := range []string{
		"kind: PodMonitor", "kind: PrometheusRule", "name: berth-dashboards", "berth-cluster.json: |",
	} {
		if !strings.Contains(made, want) {
			t.Errorf("the manifests for the operator have no %q", want)
		}
	}
	files, err := filepath.Glob(filepath.Join(manifests, "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	chosen := strings.NewReplacer("$__rate_interval", "4m", "$node", node, "$pool", ".*", "$peer", ".*")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct {
				Title   string `json:"title"`
				Targets []struct {
					Expr string `json:"expr"`
				} `json:"targets"`
			} `json:"panels"`
		}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			t.Fatal(err)
		}
		for _, panel := range dashboard.Panels {
			shows := len(panel.Targets) == 0 || slices.Contains(withoutData, panel.Title)
			for _, target := range panel.Targets {
				var out struct {
					Result []any `json:"result"`
				}
				expr := url.QueryEscape(chosen.Replace(target.Expr))
				if err := p.get(t, "/api/v1/query?query="+expr, &out); err != nil {
					t.Errorf("%s: %s: %v", filepath.Base(file), panel.Title, err)
				}
				shows = shows || len(out.Result) > 0
			}
			if !shows {
				t.Errorf("%s: %s: there is nothing to show", filepath.Base(file), panel.Title)
			}
		}
	}
}

// succeeds fails the test when a fault could not be made.
func succeeds(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// strangerAddress gives an address to a host of the LAN, or takes it away.
func strangerAddress(t *testing.T, change string) {
	t.Helper()
	must(t)(cluster.Host(lab.HostStranger).Exec(t.Context(), "ip", "addr", change, "10.77.0.228/32",
		"dev", "eth0"))
}

// controllers returns how many controllers there are to be.
func controllers(t *testing.T) int {
	t.Helper()
	n := 0
	text := get(t, "get -n "+system+" "+product.Controller, ".spec.replicas")
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// scaleController has the controller run as many times as this.
func scaleController(t *testing.T, replicas int) {
	t.Helper()
	kubectl(t, "scale", "-n", system, product.Controller, fmt.Sprintf("--replicas=%d", replicas))
	if replicas > 0 {
		kubectl(t, "rollout", "status", "-n", system, product.Controller, "--timeout=60s")
	}
}

// monitor is a Prometheus in the lab.
type monitor struct{ client http.Client }

// prometheusAddress is where it answers, on its host.
const prometheusAddress = "127.0.0.1:9090"

// startPrometheus runs Debian's Prometheus beside the API server until the test ends, with the configuration,
// the rules and the rights of manifests/monitoring. It is no pod, so it has its token from another file.
func startPrometheus(t *testing.T) *monitor {
	t.Helper()
	kubectl(t, "create", "namespace", "monitoring")
	cleanup(t, "delete", "namespace", "monitoring")
	kubectl(t, "create", "serviceaccount", "prometheus", "-n", "monitoring")
	rights, err := os.ReadFile(filepath.Join(root, "manifests", "monitoring", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, string(rights))
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	token := write("token", []byte(kubectl(t, "create", "token", "prometheus", "-n", "monitoring",
		"--duration=2h")))
	write("rules.yaml", fasterRules(t))
	config := write("prometheus.yaml", scrapeConfig(t, dir, token))

	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := cluster.Host(lab.HostControlPlane).Command(context.WithoutCancel(t.Context()), "prometheus",
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+prometheusAddress)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &monitor{http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DialContext: cluster.Host(lab.HostControlPlane).Dial},
	}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("targets:\n%s", strings.Join(p.targets(t), "\n"))
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("Prometheus says:\n%.10000s", text)
		}
	})
	eventually(t, 30*time.Second, "Prometheus is ready", func() (bool, string) {
		var out any
		err := p.get(t, "/api/v1/status/runtimeinfo", &out)
		return err == nil, fmt.Sprint(err)
	})
	return p
}

// targets returns a line for each process that is scraped: its address, its health, and why it is not well.
func (p *monitor) targets(t *testing.T) (lines []string) {
	t.Helper()
	var out struct {
		ActiveTargets []struct{ ScrapeURL, Health, LastError string }
	}
	if err := p.get(t, "/api/v1/targets?state=active", &out); err != nil {
		return []string{err.Error()}
	}
	for _, target := range out.ActiveTargets {
		lines = append(lines, fmt.Sprintf("%s: %s %s", target.ScrapeURL, target.Health, target.LastError))
	}
	return lines
}

// fasterRules returns the shipped rules with a shorter `for`.
func fasterRules(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "manifests", "monitoring", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	shortened := 0
	for line := range strings.Lines(string(text)) {
		if wait, is := strings.CutPrefix(line, "    for: "); is {
			duration, err := time.ParseDuration(strings.TrimSpace(wait))
			if err != nil {
				t.Fatal(err)
			}
			line = fmt.Sprintf("    for: %dms\n", (duration / fasterAlerts).Milliseconds())
			shortened++
		}
		out.WriteString(line)
	}
	if shortened < 10 {
		t.Fatalf("only %d alerts wait", shortened)
	}
	return []byte(out.String())
}

// scrapeConfig returns the shipped scrape configuration for Debian's Prometheus. That knows no discovery by
// Kubernetes, so it reads from a file what discover finds.
func scrapeConfig(t *testing.T, dir, token string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "manifests", "monitoring", "scrape.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var shipped struct {
		Jobs []struct {
			Discovery []podFinder `json:"kubernetes_sd_configs"`
		} `json:"scrape_configs"`
	}
	var config map[string]any
	if err := errors.Join(yaml.Unmarshal(text, &shipped), yaml.Unmarshal(text, &config)); err != nil {
		t.Fatal(err)
	}
	targets := filepath.Join(dir, "targets.json")
	shipped.Jobs[0].Discovery[0].run(t, targets)

	job := config["scrape_configs"].([]any)[0].(map[string]any)
	job["authorization"] = map[string]any{"credentials_file": token}
	delete(job, "kubernetes_sd_configs")
	job["file_sd_configs"] = []any{map[string]any{"files": []string{targets}}}
	config["global"] = map[string]any{
		"scrape_interval":     "1s",
		"scrape_timeout":      "1s",
		"evaluation_interval": "1s",
	}
	config["rule_files"] = []string{filepath.Join(dir, "rules.yaml")}
	out, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// podFinder is which pods Prometheus is to find.
type podFinder struct {
	Namespaces struct {
		Names []string `json:"names"`
	} `json:"namespaces"`
	Selectors []struct {
		Label string `json:"label"`
	} `json:"selectors"`
}

// run writes the targets to a file each second until the test ends, as Prometheus' own discovery would find
// them with the rights of rbac.yaml.
func (d podFinder) run(t *testing.T, file string) {
	t.Helper()
	if err := d.write(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = d.write(ctx, file) // without the API server the targets stay as they are
			time.Sleep(time.Second)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}

// write finds the targets once.
func (d podFinder) write(ctx context.Context, file string) error {
	out, err := cluster.API().Kubectl(ctx, "get", "pods", "-n", d.Namespaces.Names[0], "-l",
		d.Selectors[0].Label, "-o", "json", "--as=system:serviceaccount:monitoring:prometheus")
	if err != nil {
		return err
	}
	var pods corev1.PodList
	if err := json.Unmarshal(out, &pods); err != nil {
		return err
	}
	type target struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	targets := []target{}
	for _, pod := range pods.Items {
		if pod.Status.PodIP == "" {
			continue
		}
		const prefix = "__meta_kubernetes_pod_"
		of := map[string]string{
			prefix + "ip":        pod.Status.PodIP,
			prefix + "phase":     string(pod.Status.Phase),
			prefix + "node_name": pod.Spec.NodeName,
			prefix + "label_app_kubernetes_io_component": pod.Labels["app.kubernetes.io/component"],
		}
		for _, container := range pod.Spec.Containers {
			// A container that lists no ports is a target too, with the address alone.
			if len(container.Ports) == 0 {
				targets = append(targets, target{[]string{pod.Status.PodIP}, of})
			}
			for _, port := range container.Ports {
				at := net.JoinHostPort(pod.Status.PodIP, fmt.Sprint(port.ContainerPort))
				named := maps.Clone(of)
				named[prefix+"container_port_name"] = port.Name
				targets = append(targets, target{[]string{at}, named})
			}
		}
	}
	text, err := json.Marshal(targets)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// get asks Prometheus, also at the end of a test.
func (p *monitor) get(t *testing.T, path string, out any) error {
	t.Helper()
	at := "http://" + prometheusAddress + path
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	return json.Unmarshal(answer.Data, out)
}

// sees waits until an expression has a value.
func (p *monitor) sees(t *testing.T, what, expr, want string) {
	t.Helper()
	eventually(t, 30*time.Second, what, func() (bool, string) {
		var out struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		}
		err := p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &out)
		if err != nil || len(out.Result) != 1 {
			return false, fmt.Sprint(out, err)
		}
		return out.Result[0].Value[1] == want, fmt.Sprint(out.Result[0].Value[1])
	})
}

// alerts returns those that fire, but for those that say that the machine is busy, each with its labels.
func (p *monitor) alerts(t *testing.T) []string {
	t.Helper()
	var out struct {
		Alerts []struct {
			State  string            `json:"state"`
			Labels map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	if err := p.get(t, "/api/v1/alerts", &out); err != nil {
		t.Fatal(err)
	}
	var firing []string
	for _, a := range out.Alerts {
		if a.State != "firing" || a.Labels["severity"] == "info" {
			continue
		}
		text := a.Labels["alertname"]
		for _, name := range []string{"address", "family", "kind", "node", "peer", "pool", "reason"} {
			if value, has := a.Labels[name]; has {
				text += " " + name + "=" + value
			}
		}
		firing = append(firing, text)
	}
	slices.Sort(firing)
	return firing
}

// firing waits until exactly these alerts fire. Fewer may before, and no other.
func (p *monitor) firing(t *testing.T, want ...string) {
	t.Helper()
	before := p.alerts(t)
	eventually(t, 3*time.Minute, fmt.Sprintf("exactly %q fire", want), func() (bool, string) {
		got := p.alerts(t)
		for _, a := range got {
			if !slices.Contains(want, a) && !slices.Contains(before, a) {
				t.Fatalf("%q fires, and not only %q", a, want)
			}
		}
		return slices.Equal(got, want), fmt.Sprintf("%q", got)
	})
}

// staysFor sees to it that for a while exactly these alerts fire.
func (p *monitor) staysFor(t *testing.T, while time.Duration, want ...string) {
	t.Helper()
	for until := time.Now().Add(while); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if got := p.alerts(t); !slices.Equal(got, want) {
			t.Fatalf("%q fire, want %q", got, want)
		}
	}
}
