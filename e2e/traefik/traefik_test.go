package traefik

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/e2e/lab"
)

// objects splits manifests by kind. There is one object of each kind.
func objects(t *testing.T, manifests string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for text := range strings.SplitSeq(manifests, "---\n") {
		var object struct{ Kind string }
		if err := yaml.Unmarshal([]byte(text), &object); err != nil || object.Kind == "" {
			t.Fatalf("no object, %v:\n%s", err, text)
		}
		if out[object.Kind] != "" {
			t.Errorf("two objects of kind %s", object.Kind)
		}
		out[object.Kind] = text
	}
	return out
}

// parse reads an object, of which it must know every field.
func parse[T any](t *testing.T, text string) T {
	t.Helper()
	var object T
	if err := yaml.UnmarshalStrict([]byte(text), &object); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return object
}

func TestManifests(t *testing.T) {
	all := objects(t, Manifests(Options{
		Nodes: []string{"node1", "node2"},
		Pool:  "front",
		Ports: []uint16{9000},
	}))
	kinds := []string{"ClusterRole", "ClusterRoleBinding", "Deployment", "IngressClass", "Namespace",
		"Service", "ServiceAccount"}
	for _, kind := range kinds {
		if all[kind] == "" {
			t.Errorf("no %s", kind)
		}
	}
	if len(all) != len(kinds) {
		t.Errorf("%d objects, want %d", len(all), len(kinds))
	}
	deployment := parse[appsv1.Deployment](t, all["Deployment"])
	pod := deployment.Spec.Template
	nodes := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.
		NodeSelectorTerms[0].MatchExpressions[0].Values
	if *deployment.Spec.Replicas != 2 || !slices.Equal(nodes, []string{"node1", "node2"}) {
		t.Errorf("%d pods on %v", *deployment.Spec.Replicas, nodes)
	}
	if got := pod.Spec.Containers[0].Image; got != lab.TraefikImage {
		t.Errorf("image %s", got)
	}
	grace, err := time.ParseDuration(gracePeriod)
	limit := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	if err != nil || limit < 2*grace {
		t.Errorf("a pod that accepts connections for %s is killed after %s, %v", grace, limit, err)
	}

	service := parse[corev1.Service](t, all["Service"])
	if service.Annotations["berth.io/address-pool"] != "front" {
		t.Errorf("annotations %v", service.Annotations)
	}
	for key, value := range service.Spec.Selector {
		if pod.Labels[key] != value {
			t.Errorf("the Service selects %s=%s, the pods have %v", key, value, pod.Labels)
		}
	}
	if args := pod.Spec.Containers[0].Args; !slices.Contains(args, "--entryPoints.port9000.address=:9000") {
		t.Errorf("nothing listens at port 9000: %q", args)
	}
	var ports []string
	for _, port := range service.Spec.Ports {
		ports = append(ports, fmt.Sprint(port.Protocol, port.Port))
		if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool {
			return p.Name == port.TargetPort.StrVal && p.ContainerPort == port.Port &&
				p.Protocol == port.Protocol
		}) {
			t.Errorf("port %d leads to %q, which is not that port of the pods", port.Port,
				port.TargetPort.StrVal)
		}
	}
	if want := []string{"TCP80", "TCP443", "UDP443", "TCP9000"}; !slices.Equal(ports, want) {
		t.Errorf("ports %v, want %v", ports, want)
	}

	binding := parse[rbacv1.ClusterRoleBinding](t, all["ClusterRoleBinding"])
	account := parse[corev1.ServiceAccount](t, all["ServiceAccount"])
	if s := binding.Subjects[0]; s.Name != account.Name || s.Namespace != account.Namespace ||
		pod.Spec.ServiceAccountName != account.Name {
		t.Errorf("pods run as %s, %s/%s is bound", pod.Spec.ServiceAccountName, s.Namespace, s.Name)
	}
	parse[corev1.Namespace](t, all["Namespace"])
	if class := parse[networkingv1.IngressClass](t, all["IngressClass"]); class.Name != Class {
		t.Errorf("class %s", class.Name)
	}
}

// TestGatewayIsOptional: without its CRDs nothing asks for Gateway API; with it the role covers each kind and
// its status.
func TestGatewayIsOptional(t *testing.T) {
	without := Manifests(Options{Nodes: []string{"node1"}, Pool: "front"})
	if strings.Contains(strings.ToLower(without), "gateway") {
		t.Error("Gateway API is named without being asked for")
	}
	all := objects(t, Manifests(Options{Nodes: []string{"node1"}, Pool: "front", Gateway: true}))
	if !strings.Contains(all["GatewayClass"], "controllerName: traefik.io/gateway-controller") {
		t.Errorf("GatewayClass: %s", all["GatewayClass"])
	}
	role := parse[rbacv1.ClusterRole](t, all["ClusterRole"])
	may := map[string]bool{}
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				may[verb+" "+resource] = true
			}
		}
	}
	for _, want := range []string{
		"watch gateways",
		"update gateways/status",
		"watch httproutes",
		"update httproutes/status",
		"update gatewayclasses/status",
		"watch referencegrants",
		"watch ingresses",
	} {
		if !may[want] {
			t.Errorf("the role does not allow to %s", want)
		}
	}
	for what := range may {
		if strings.HasPrefix(what, "update ") && !strings.HasSuffix(what, "/status") {
			t.Errorf("the role allows to %s", what)
		}
	}
	deployment := parse[appsv1.Deployment](t, all["Deployment"])
	args := deployment.Spec.Template.Spec.Containers[0].Args
	if !slices.Contains(args, "--providers.kubernetesGateway=true") {
		t.Error("the pods do not serve Gateway API")
	}
	all = objects(t, Manifests(Options{
		Nodes:     []string{"node1"},
		Pool:      "front",
		Gateway:   true,
		Published: "10.96.0.9",
	}))
	if !strings.Contains(all["Deployment"], "--providers.kubernetesGateway.statusAddress.ip=10.96.0.9") {
		t.Error("Gateways do not say the address that they were to say")
	}
}
