package change

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// noon is when the snapshots are taken.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// read returns the documents of a manifest.
func read(t *testing.T, text string) []Document {
	t.Helper()
	out, err := Read(Files{
		FilenameOptions: resource.FilenameOptions{Filenames: []string{"-"}},
		In:              strings.NewReader(text),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// applied returns what objects are once a manifest is applied.
func applied(t *testing.T, o snapshot.Objects, text string) Result {
	t.Helper()
	out, err := Apply(snapshot.New(o, snapshot.Request{}, noon), Request{
		Documents: read(t, text),
		Namespace: "shop",
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lan is a pool that kubectl apply made, and of which somebody else has set autoAssign.
func lan() v1beta1.IPAddressPool {
	const last = `{"apiVersion":"berth.io/v1beta1","kind":"IPAddressPool","metadata":{"name":"lan"},` +
		`"spec":{"addresses":["192.0.2.0/24"],"avoidBuggyIPs":true}}`
	p := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{
		Name:        "lan",
		Generation:  3,
		Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: last},
	}}
	p.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.0/24"}
	p.Spec.AvoidBuggyIPs, p.Spec.AutoAssign = true, new(false)
	p.Status.ObservedGeneration = 3
	return p
}

// TestManifestsAreMergedAsKubectlDoes: what was applied before and is in the manifest no
// more goes, what others have set stays, and a status in it counts for nothing.
func TestManifestsAreMergedAsKubectlDoes(t *testing.T) {
	o := snapshot.Objects{Pools: []v1beta1.IPAddressPool{lan()}}
	r := applied(t, o, `
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, labels: {site: a}}
spec: {addresses: [192.0.2.0/25]}
status: {observedGeneration: 9}
`)
	p := r.Objects.Pools[0]
	switch {
	case r.Done[0].Verb != Updated || r.Done[0].From != "standard input, document 1":
		t.Errorf("it is %+v", r.Done[0])
	case p.Spec.AvoidBuggyIPs || p.Spec.AutoAssign == nil || *p.Spec.AutoAssign:
		t.Errorf("the fields are %+v", p.Spec)
	case !slices.Equal(p.Spec.Addresses, []v1beta1.AddressRange{"192.0.2.0/25"}) || p.Labels["site"] != "a":
		t.Errorf("the manifest is not in %+v", p)
	case p.Generation != 4 || p.Status.ObservedGeneration != 3:
		t.Errorf("generation %d, observed %d", p.Generation, p.Status.ObservedGeneration)
	case o.Pools[0].Generation != 3 || len(o.Pools[0].Labels) > 0:
		t.Errorf("the snapshot has changed: %+v", o.Pools[0])
	}
	again := applied(t, o, `
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/24], avoidBuggyIPs: true}
`)
	if again.Done[0].Verb != Unchanged {
		t.Errorf("the same once more is %+v", again.Done[0])
	}
}

// TestPortsAreMergedByTheirKeys, as the API server does it with Services.
func TestPortsAreMergedByTheirKeys(t *testing.T) {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	s.Spec = corev1.ServiceSpec{
		Type:       corev1.ServiceTypeLoadBalancer,
		ClusterIPs: []string{"10.96.0.9"},
		ClusterIP:  "10.96.0.9",
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{
			Name:     "http",
			Port:     80,
			NodePort: 30080,
			Protocol: corev1.ProtocolTCP,
		}},
	}
	r := applied(t, snapshot.Objects{Services: []corev1.Service{s}}, `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80, protocol: TCP}, {name: https, port: 443, protocol: TCP}]}
`)
	got := r.Objects.Services[0].Spec
	if len(got.Ports) != 2 || !slices.ContainsFunc(got.Ports, func(p corev1.ServicePort) bool {
		return p.Port == 80 && p.NodePort == 30080
	}) {
		t.Errorf("the ports are %+v", got.Ports)
	}
	if !slices.Equal(got.ClusterIPs, s.Spec.ClusterIPs) {
		t.Errorf("the cluster IPs are %v", got.ClusterIPs)
	}
}

// TestServicesGetClusterIPs of the families that they ask for, of those of the cluster.
func TestServicesGetClusterIPs(t *testing.T) {
	api := func(ips ...string) []corev1.Service {
		s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}
		s.Spec.ClusterIPs = ips
		return []corev1.Service{s}
	}
	both := append(api("10.96.0.1"), corev1.Service{Spec: corev1.ServiceSpec{
		ClusterIPs: []string{"fd96::9", "10.96.0.9"},
	}})
	for _, test := range []struct {
		story    string
		services []corev1.Service
		spec     string
		want     []string
	}{
		{"one family", api("10.96.0.1"), "", []string{"127.0.0.1"}},
		{"the other", api("fd96::1"), "", []string{"::1"}},
		{"of two the first", both, "", []string{"127.0.0.1"}},
		{"or that which is named", both, "ipFamilies: [IPv6]", []string{"::1"}},
		{"both", both, "ipFamilyPolicy: PreferDualStack", []string{"127.0.0.1", "::1"}},
		{"in the other order", both, "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]",
			[]string{"::1", "127.0.0.1"}},
		{"as many as there are", api("10.96.0.1"), "ipFamilyPolicy: PreferDualStack", []string{"127.0.0.1"}},
		{"none is wanted", both, "clusterIP: None", nil},
	} {
		r := applied(t, snapshot.Objects{Services: test.services}, `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, `+test.spec+`}`)
		s := r.Objects.Services[len(test.services)]
		if s.Namespace != "shop" || !slices.Equal(s.Spec.ClusterIPs, test.want) {
			t.Errorf("%s: %s/%s has %v, want %v",
				test.story, s.Namespace, s.Name, s.Spec.ClusterIPs, test.want)
		}
		if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyCluster && test.want != nil {
			t.Errorf("%s: the policy is %q", test.story, s.Spec.ExternalTrafficPolicy)
		}
		if len(r.Objects.EndpointSlices) != 2 || len(r.Remarks) != 1 {
			t.Errorf("%s: endpoints %+v, remarks %q", test.story, r.Objects.EndpointSlices, r.Remarks)
		}
	}
}

// town has two nodes, each with a speaker and an endpoint of Service web.
func town() snapshot.Objects {
	var o snapshot.Objects
	slice := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop",
		Name:      "web-1",
		Labels:    map[string]string{discoveryv1.LabelServiceName: "web"},
	}}
	for _, name := range []string{"node1", "node2"} {
		o.Nodes = append(o.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		s := v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.Status.Stage, s.Status.Links = v1beta1.StageReady, []v1beta1.SpeakerLink{{Name: "of-" + name}}
		o.Speakers = append(o.Speakers, s)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{NodeName: new(name)})
	}
	o.EndpointSlices = []discoveryv1.EndpointSlice{slice}
	o.Services = []corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}}
	return o
}

// TestNodesComeAndGo, with their endpoints and speakers.
func TestNodesComeAndGo(t *testing.T) {
	for _, test := range []struct {
		story   string
		request Request
		is      func(Result) bool
	}{
		{"a drained node is cordoned, and empty", Request{Drain: []string{"node1"}}, func(r Result) bool {
			return r.Objects.Nodes[0].Spec.Unschedulable && len(r.Objects.EndpointSlices[0].Endpoints) == 1 &&
				len(r.Objects.Speakers) == 2 && len(r.Remarks) == 1
		}},
		{"one that fails is there still", Request{Fail: []string{"node2"}}, func(r Result) bool {
			return slices.Equal(r.FailedNodes, []string{"node2"}) && len(r.Objects.Nodes) == 2 &&
				len(r.Objects.EndpointSlices[0].Endpoints) == 1 && !r.Objects.Nodes[1].Spec.Unschedulable
		}},
		{"one that is deleted takes its speaker along",
			Request{Delete: []v1alpha1.Ref{{Kind: "node", Name: "node1"}}}, func(r Result) bool {
				return len(r.Objects.Nodes) == 1 && len(r.Objects.Speakers) == 1 &&
					len(r.Objects.EndpointSlices[0].Endpoints) == 1
			}},
		{"a new one is like the first without marks",
			Request{Add: []string{"node3"}, Drain: []string{"node1"}}, func(r Result) bool {
				return len(r.Objects.Nodes) == 3 && r.AddedNodes["node3"] == "node1" &&
					r.Objects.Speakers[2].Status.Links[0].Name == "of-node1"
			}},
		{"a namespace takes its Services along",
			Request{Delete: []v1alpha1.Ref{{Kind: "namespace", Name: "shop"}}}, func(r Result) bool {
				return len(r.Objects.Services)+len(r.Objects.EndpointSlices) == 0
			}},
	} {
		o := town()
		o.Namespaces = []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}}
		s := snapshot.New(o, snapshot.Request{}, noon)
		r, err := Apply(s, test.request)
		if err != nil || !test.is(r) {
			t.Errorf("%s: got %+v, %v", test.story, r, err)
		}
		if len(s.Nodes) != 2 || len(s.EndpointSlices[0].Endpoints) != 2 || s.Nodes[0].Spec.Unschedulable {
			t.Errorf("%s: the snapshot has changed", test.story)
		}
	}
}

// TestAllThatIsWrongIsSaid, at once, with where it is.
func TestAllThatIsWrongIsSaid(t *testing.T) {
	documents := read(t, `
apiVersion: v1
kind: Service
metadata: {generateName: web-}
---
apiVersion: berth.io/v2
kind: IPAddressPool
metadata: {name: lan}
---
apiVersion: v1
kind: Node
metadata: {name: node1, lables: {}}
---
apiVersion: v1
kind: Secret
metadata: {namespace: shop, name: password}
`)
	r, err := Apply(snapshot.New(town(), snapshot.Request{}, noon), Request{
		Documents: documents,
		Drain:     []string{"node8"},
		Fail:      []string{"node9"},
	})
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{
		"standard input, document 1: Service has no metadata.name",
		"standard input, document 2: IPAddressPool is of apiVersion berth.io/v2, use berth.io/v1beta1",
		"standard input, document 3: node node1: strict decoding error: unknown field \"metadata.lables\"",
		`--drain: there is no node "node8"`,
		`--fail: there is no node "node9"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	want := NotJudged{
		Object: v1alpha1.Ref{Kind: "secret", Namespace: "shop", Name: "password"},
		From:   "standard input, document 4",
	}
	if len(r.NotJudged) != 1 || r.NotJudged[0] != want {
		t.Errorf("not judged are %+v", r.NotJudged)
	}
}

// TestWordsForKinds are those of kubectl.
func TestWordsForKinds(t *testing.T) {
	for word, want := range map[string]string{
		"svc": "service", "Services": "service", "pool": "ipaddresspool", "ipps": "ipaddresspool",
		"ipaddresspools.berth.io": "ipaddresspool", "communities": "community", "peer.berth.io": "bgppeer",
		"no": "node", "deployment": "", "services.berth.io": "",
	} {
		if got, _, ok := Kind(word); got != want || ok != (want != "") {
			t.Errorf("%s is %q, want %q", word, got, want)
		}
	}
}

// TestSamplesCanBePlanned: each of the project's own samples is understood.
func TestSamplesCanBePlanned(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "manifests", "samples")
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	options := resource.FilenameOptions{Filenames: []string{dir}, Recursive: true}
	documents, err := Read(Files{FilenameOptions: options})
	if err != nil || len(documents) < 10 {
		t.Fatalf("%d documents: %v", len(documents), err)
	}
	r, err := Apply(snapshot.New(town(), snapshot.Request{}, noon), Request{Documents: documents})
	if err != nil {
		t.Error(err)
	}
	for _, n := range r.NotJudged {
		if n.Object.Kind != "deployment" && n.Object.Kind != "secret" {
			t.Errorf("%s of %s is not judged", n.Object, n.From)
		}
	}
}
