// Package traefik has the manifests of the lab's ingress controller, Traefik, behind a Service of type
// LoadBalancer. It serves Ingress and, if asked, Gateway API.
package traefik

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/berth-lb/berth/e2e/lab"
)

// Names of what the manifests have.
const (
	Namespace  = "ingress"
	Deployment = "deployment/traefik"
	// Service gives Ingresses and Gateways their addresses.
	Service = "traefik"
	// App is the label app of the pods, for further Services.
	App = "traefik"
	// Class is that of Ingresses and of Gateways.
	Class = "traefik"
)

// gracePeriod is how long a pod that is told to end goes on accepting connections. For whoever sends to it,
// that is the time to notice.
const gracePeriod = "5s"

// Options say how Traefik runs.
type Options struct {
	// Nodes are those that a pod may run on, one on each.
	Nodes []string
	// Pool is the IPAddressPool from which the Service gets its addresses.
	Pool string
	// Gateway: it serves Gateway API too. Its CRDs must be there, see lab.GatewayCRDs: Traefik waits for them
	// before it serves anything.
	Gateway bool
	// Ports are those of TCP at which it listens besides 80 and 443. They are for listeners of Gateways.
	Ports []uint16
	// Published is the address that Gateways say they have; "" for those of the Service.
	Published string
}

// Load builds the image, if it is not in the cache, and loads it into the nodes.
func Load(ctx context.Context, l *lab.Lab, out io.Writer) error {
	archive, err := lab.BuildTraefik(ctx, out)
	if err != nil {
		return err
	}
	return l.LoadImage(ctx, archive)
}

// Manifests returns all objects that Traefik needs.
func Manifests(o Options) string {
	objects := []string{
		fmt.Sprintf(namespaced, Namespace),
		fmt.Sprintf(access, Namespace, toJSON(rules(o.Gateway))),
		fmt.Sprintf(deployment, Namespace, App, len(o.Nodes), toJSON(o.Nodes), lab.TraefikImage,
			toJSON(arguments(o)), toJSON(containerPorts(o.Ports))),
		fmt.Sprintf(ingressClass, Class),
	}
	if o.Gateway {
		objects = append(objects, fmt.Sprintf(gatewayClass, Class))
	}
	return strings.Join(objects, "---") + "---" + LoadBalancer(Service, o.Pool, o.Ports...)
}

// LoadBalancer returns a Service of type LoadBalancer for the pods of Traefik, with an address from a pool.
// The ports are those of Options. The pods see the clients' own addresses.
func LoadBalancer(name, pool string, ports ...uint16) string {
	return fmt.Sprintf(loadBalancer, Namespace, App, name, pool, toJSON(servicePorts(ports)))
}

// A port is one at which Traefik listens.
type port struct {
	name     string
	number   uint16
	protocol corev1.Protocol
}

// portsOf returns all ports, given those that Options add. HTTP/3 has the number of HTTPS.
func portsOf(more []uint16) []port {
	all := []port{
		{"web", 80, corev1.ProtocolTCP},
		{"websecure", 443, corev1.ProtocolTCP},
		{"http3", 443, corev1.ProtocolUDP},
	}
	for _, number := range more {
		all = append(all, port{entryPoint(number), number, corev1.ProtocolTCP})
	}
	return all
}

// entryPoint names a port that Options add.
func entryPoint(number uint16) string { return fmt.Sprintf("port%d", number) }

func containerPorts(more []uint16) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for _, p := range portsOf(more) {
		out = append(out, corev1.ContainerPort{
			Name:          p.name,
			ContainerPort: int32(p.number),
			Protocol:      p.protocol,
		})
	}
	return out
}

func servicePorts(more []uint16) []corev1.ServicePort {
	var out []corev1.ServicePort
	for _, p := range portsOf(more) {
		out = append(out, corev1.ServicePort{
			Name:       p.name,
			Port:       int32(p.number),
			Protocol:   p.protocol,
			TargetPort: intstr.FromString(p.name),
		})
	}
	return out
}

// arguments returns the flags of a pod.
func arguments(o Options) []string {
	service := Namespace + "/" + Service
	args := []string{
		"--global.checkNewVersion=false",
		"--global.sendAnonymousUsage=false",
		"--log.level=INFO",
		"--entryPoints.web.address=:80",
		"--entryPoints.web.asDefault=true",
		"--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=" + gracePeriod,
		"--entryPoints.websecure.address=:443",
		"--entryPoints.websecure.asDefault=true",
		"--entryPoints.websecure.http.tls=true",
		"--entryPoints.websecure.http3=true",
		"--entryPoints.websecure.transport.lifeCycle.requestAcceptGraceTimeout=" + gracePeriod,
		"--entryPoints.health.address=:8082",
		"--entryPoints.health.transport.lifeCycle.requestAcceptGraceTimeout=" + gracePeriod,
		"--ping.entryPoint=health",
		// A pod that is told to end serves during its grace period, so it is ready to: kube-proxy sends to it
		// as long as its node has no other.
		"--ping.terminatingStatusCode=204",
		"--providers.kubernetesIngress=true",
		"--providers.kubernetesIngress.ingressEndpoint.publishedService=" + service,
	}
	for _, number := range o.Ports {
		args = append(args, fmt.Sprintf("--entryPoints.%s.address=:%d", entryPoint(number), number))
	}
	if !o.Gateway {
		return args
	}
	args = append(args,
		"--providers.kubernetesGateway=true",
		"--providers.kubernetesGateway.experimentalChannel=true", // it has TCPRoute from there
	)
	if o.Published != "" {
		return append(args, "--providers.kubernetesGateway.statusAddress.ip="+o.Published)
	}
	return append(args,
		"--providers.kubernetesGateway.statusAddress.service.namespace="+Namespace,
		"--providers.kubernetesGateway.statusAddress.service.name="+Service,
	)
}

// A rule is one of a ClusterRole.
type rule struct {
	Groups    []string `json:"apiGroups"`
	Resources []string `json:"resources"`
	Verbs     []string `json:"verbs"`
}

// rules returns what a pod may do: it reads, and it writes nothing but status.
func rules(gateway bool) []rule {
	read := []string{"get", "list", "watch"}
	all := []rule{
		{[]string{""}, []string{"services", "secrets", "nodes", "namespaces", "configmaps"}, read},
		{[]string{"discovery.k8s.io"}, []string{"endpointslices"}, read},
		{[]string{"networking.k8s.io"}, []string{"ingresses", "ingressclasses"}, read},
		{[]string{"networking.k8s.io"}, []string{"ingresses/status"}, []string{"update"}},
	}
	if !gateway {
		return all
	}
	kinds := []string{"gatewayclasses", "gateways", "httproutes", "grpcroutes", "tlsroutes", "tcproutes",
		"referencegrants", "backendtlspolicies"}
	var statuses []string
	for _, kind := range kinds {
		statuses = append(statuses, kind+"/status")
	}
	const group = "gateway.networking.k8s.io"
	return append(all,
		rule{[]string{group}, kinds, read},
		rule{[]string{group}, statuses, []string{"update"}},
	)
}

func toJSON(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // what is written here are lists of texts
	}
	return string(out)
}

const namespaced = `
apiVersion: v1
kind: Namespace
metadata: {name: %s}
`

const access = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: traefik, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: traefik}
rules: %[2]s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: traefik}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: traefik}
subjects: [{kind: ServiceAccount, name: traefik, namespace: %[1]s}]
`

// Traefik finds the entry point of a Gateway's listener by its port, so it listens at the ports that clients
// use. It answers /ping before it has read the first Ingress, and would answer clients with 404: it gets some
// time.
const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: traefik, namespace: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      serviceAccountName: traefik
      terminationGracePeriodSeconds: 20
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: %[4]s}]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: %[2]s}}
        matchLabelKeys: [pod-template-hash]
      tolerations: [{operator: Exists, effect: NoExecute, tolerationSeconds: 3}]
      containers:
      - name: traefik
        image: %[5]s
        args: %[6]s
        ports: %[7]s
        readinessProbe: {httpGet: {path: /ping, port: 8082}, periodSeconds: 1, initialDelaySeconds: 3}
        resources: {requests: {cpu: 100m}}
        securityContext:
          runAsUser: 0
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
`

const ingressClass = `
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: %s}
spec: {controller: traefik.io/ingress-controller}
`

const gatewayClass = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: %s}
spec: {controllerName: traefik.io/gateway-controller}
`

const loadBalancer = `
apiVersion: v1
kind: Service
metadata: {name: %[3]s, namespace: %[1]s, annotations: {berth.io/address-pool: %[4]s}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ipFamilyPolicy: PreferDualStack
  selector: {app: %[2]s}
  ports: %[5]s
`
