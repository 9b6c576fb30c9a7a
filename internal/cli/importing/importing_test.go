package importing

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/config"
)

// objects returns those of YAML documents.
func objects(t testing.TB, text string) []unstructured.Unstructured {
	t.Helper()
	var out []unstructured.Unstructured
	for _, document := range strings.Split(text, "\n---\n") {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

// from converts YAML documents.
func from(t testing.TB, source Source, text string, services ...corev1.Service) Result {
	t.Helper()
	return Convert(Input{
		Source:    source,
		Objects:   objects(t, text),
		Namespace: source.Namespace,
		Berth:     "berth-system",
		Services:  services,
	})
}

// said returns the remarks that have a text.
func said(r Result, reason v1alpha1.ImportReason, text string) int {
	n := 0
	for _, remark := range r.Remarks {
		if remark.Reason == reason && strings.Contains(remark.Field+": "+remark.Message, text) {
			n += len(remark.Objects)
		}
	}
	return n
}

// poolOf is a pool of MetalLB's with so many addresses, each second one.
func poolOf(n, step int) string {
	var entries []string
	for i := range n {
		entries = append(entries, fmt.Sprintf("10.1.%d.%d/32", i*step/256, i*step%256))
	}
	return "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n" +
		"metadata: {name: big, namespace: metallb-system}\nspec: {addresses: " +
		"[" + strings.Join(entries, ", ") + "]}"
}

// TestPoolsWithManyEntries are joined if they touch, and else become several, which
// advertisements name all.
func TestPoolsWithManyEntries(t *testing.T) {
	const advertisement = "\n---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n" +
		"metadata: {name: l2, namespace: metallb-system}\nspec: {ipAddressPools: [big, none]}"
	for _, test := range []struct {
		story   string
		n, step int
		pools   []string
		reason  v1alpha1.ImportReason
		says    string
	}{
		{"fifty", 50, 2, []string{"big"}, "", ""},
		{"sixty that touch", 60, 1, []string{"big"}, v1alpha1.ImportRewritten, "60 entries are joined"},
		{"120 that do not", 120, 2, []string{"big", "big-2", "big-3"}, v1alpha1.ImportDiffers, "several " +
			"pools"},
	} {
		got := from(t, metalLB, poolOf(test.n, test.step)+advertisement)
		var names []string
		size := 0
		for _, p := range got.Pools {
			names = append(names, p.Name)
			if len(p.Spec.Addresses) > mostEntries {
				t.Errorf("%s: %s has %d entries", test.story, p.Name, len(p.Spec.Addresses))
			}
			for _, a := range p.Spec.Addresses {
				r, err := config.ParseRange(string(a))
				if err != nil {
					t.Fatal(err)
				}
				for addr := r.From(); r.Contains(addr); addr = addr.Next() {
					size++
				}
			}
		}
		if !slices.Equal(names, test.pools) || size != test.n {
			t.Errorf("%s: pools %v with %d addresses", test.story, names, size)
		}
		if named := got.L2Advertisements[0].Spec.IPAddressPools; !slices.Equal(named, append(names, "none")) {
			t.Errorf("%s: the advertisement names %v", test.story, named)
		}
		if test.says != "" && said(got, test.reason, test.says) != 1 {
			t.Errorf("%s: %q is not said: %+v", test.story, test.says, got.Remarks)
		}
	}
}

// TestTimesOfPeers: a hold time and keepalives are such that Berth takes them, and what is
// changed is told.
func TestTimesOfPeers(t *testing.T) {
	for _, test := range []struct {
		story, version, times string
		hold, keepalive       string // "" for none
		reason                v1alpha1.ImportReason
		says                  string
	}{
		{"as written", "v1beta2", "holdTime: 30s, keepaliveTime: 10s", "30s", "10s", "", ""},
		{"both off", "v1beta2", "holdTime: 0s, keepaliveTime: " +
			"0s", "0s", "0s", v1alpha1.ImportDiffers, "turns hold time"},
		{"no keepalives with a hold time", "v1beta2", "holdTime: 90s, keepaliveTime: 0s", "1m30s", "",
			v1alpha1.ImportDiffers, "would end the session"},
		{"zeros of the older version", "v1beta1", "holdTime: 0s, keepaliveTime: 0s", "", "",
			v1alpha1.ImportRewritten, "v1beta1 writes"},
		{"fractions", "v1beta2", "holdTime: 10500ms, keepaliveTime: 3s", "10s", "3s",
			v1alpha1.ImportRewritten, "whole seconds"},
		{"keepalives that are too rare", "v1beta2", "holdTime: 9s, keepaliveTime: 10s", "9s", "",
			v1alpha1.ImportDiffers, "longer than the hold time"},
		{"a hold time that is too short", "v1beta2", "holdTime: 2s", "", "", v1alpha1.ImportDiffers, "RFC " +
			"4271"},
	} {
		got := from(t, metalLB, "apiVersion: metallb.io/"+test.version+"\nkind: BGPPeer\n"+
			"metadata: {name: tor, namespace: metallb-system}\n"+
			"spec: {myASN: 64512, peerASN: 64500, peerAddress: 10.0.0.1, "+test.times+"}")
		spec := got.BGPPeers[0].Spec
		if text(spec.HoldTime) != test.hold || text(spec.KeepaliveTime) != test.keepalive {
			t.Errorf("%s: hold %q, keepalive %q", test.story, text(spec.HoldTime), text(spec.KeepaliveTime))
		}
		if test.says != "" && said(got, test.reason, test.says) != 1 {
			t.Errorf("%s: %q is not said: %+v", test.story, test.says, got.Remarks)
		}
	}
}

// TestWhatMetalLBDoesNotHeed depends on by what it speaks BGP.
func TestWhatMetalLBDoesNotHeed(t *testing.T) {
	const peer = "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: tor}\n" +
		"spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, sourceAddress: 10.0.0.2, localASN: 3}"
	for _, test := range []struct {
		story, env     string // "-" for no DaemonSet
		unheeded, hold int
	}{
		{"nobody knows", "-", 2, 1},
		{"its own BGP", "[]", 0, 0},
		{"FRR beside it", "[{name: METALLB_BGP_TYPE, value: frr}]", 0, 1},
		{"frr-k8s", "[{name: METALLB_BGP_TYPE, value: frr-k8s}]", 2, 1},
	} {
		text := peer
		if test.env != "-" {
			text += "\n---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: speaker}\nspec: " +
				"{template: " +
				"{metadata: {labels: {app.kubernetes.io/component: speaker}}, spec: {containers: [{name: " +
				"speaker, " +
				"env: " + test.env + "}]}}}"
		}
		got := from(t, metalLB, text)
		if n := said(got, v1alpha1.ImportDiffers, "takes no notice"); n != test.unheeded {
			t.Errorf("%s: %d fields are not heeded, want %d", test.story, n, test.unheeded)
		}
		if n := said(got, v1alpha1.ImportDiffers, "180s"); n != test.hold {
			t.Errorf("%s: another hold time is told %d times, want %d", test.story, n, test.hold)
		}
	}
}

func text(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}

// TestNamesThatBerthCannotHave are changed, differ all the same, and Services are told.
func TestNamesThatBerthCannotHave(t *testing.T) {
	got := from(t, metalLB, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config, namespace: "+
		"metallb-system}\ndata:\n  config: |\n    address-pools:\n"+
		"    - {name: My Pool, protocol: layer2, addresses: [10.0.0.0/30]}\n"+
		"    - {name: my_pool, protocol: layer2, addresses: [10.0.0.4/30]}\n"+
		"    - {name: '!', protocol: vrrp, addresses: [10.0.0.8/30]}",
		service("web", map[string]string{"metallb.universe.tf/address-pool": "my_pool"}))
	var names []string
	for _, p := range got.Pools {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"imported", "my-pool", "my-pool-2"}) {
		t.Errorf("the pools are %v", names)
	}
	if said(got, v1alpha1.ImportRefused, "neither layer2 nor bgp") != 1 {
		t.Errorf("the protocol is not told: %+v", got.Remarks)
	}
	for _, annotations := range got.Annotations {
		if annotations["metallb.universe.tf/address-pool"] != "my-pool-2" {
			t.Errorf("the Service is to ask for %v", annotations)
		}
	}
	if len(got.Annotations) != 1 {
		t.Errorf("annotations are %v", got.Annotations)
	}
}

// service returns a Service of type LoadBalancer with annotations and addresses.
func service(name string, annotations map[string]string, addresses ...string) corev1.Service {
	s := corev1.Service{}
	s.Namespace, s.Name, s.Annotations = "shop", name, annotations
	s.Spec.Type, s.Spec.ClusterIPs = corev1.ServiceTypeLoadBalancer, []string{"10.96.0.1"}
	s.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
	for _, a := range addresses {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress,
			corev1.LoadBalancerIngress{IP: a})
	}
	return s
}

// cluster is a snapshot of Services, with pools of Berth's.
func cluster(class string, services []corev1.Service, pools ...v1beta1.IPAddressPool) *snapshot.Snapshot {
	return snapshot.New(snapshot.Objects{
		Services:   services,
		Pools:      pools,
		Namespaces: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}},
	}, snapshot.Request{Kinds: Kinds, Berth: "berth-system", Class: &class}, noon)
}

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

const lan = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n" +
	"metadata: {name: lan, namespace: metallb-system}\nspec: {addresses: [10.0.0.0/28]}"

// TestWouldAServiceGetAnotherAddress: as the controller decides it.
func TestWouldAServiceGetAnotherAddress(t *testing.T) {
	drained := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "older"}}
	drained.Spec.Addresses = []v1beta1.AddressRange{"10.0.0.0/29"}
	class := "metallb.io/lb"
	classy := service("classy", nil, "10.0.0.1")
	classy.Spec.LoadBalancerClass = &class
	asking := service("web", map[string]string{"purelb.io/addresses": "10.0.0.9"}, "10.0.0.3")
	for _, test := range []struct {
		story    string
		source   Source
		text     string
		services []corev1.Service
		pools    []v1beta1.IPAddressPool
		want     string // NAME CHANGE REASON, of each
	}{
		{"addresses in the pool stay", metalLB, lan,
			[]corev1.Service{service("web", nil, "10.0.0.3"), service("api", nil, "10.0.0.1")}, nil, ""},
		{"one outside is left to nobody", metalLB, lan,
			[]corev1.Service{service("web", nil, "192.0.2.1")}, nil, "web NotTaken ForeignAddress"},
		{"one that waited gets its first", metalLB, lan,
			[]corev1.Service{service("web", nil)}, nil, "web Gains Assigned"},
		{"two with one address and no key", metalLB, lan,
			[]corev1.Service{service("api", nil, "10.0.0.3"), service("web", nil, "10.0.0.3")}, nil,
			"web Moves Assigned"},
		{"an older pool has the addresses", metalLB, lan,
			[]corev1.Service{service("web", nil, "10.0.0.3")}, []v1beta1.IPAddressPool{drained}, ""},
		{"a class that Berth does not handle", metalLB,
			lan + "\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: controller, " +
				"namespace: metallb-system}\nspec: {template: {metadata: {labels: {component: " +
				"controller}}, " +
				"spec: {containers: [{name: controller, args: [--lb-class=metallb.io/lb]}]}}}",
			[]corev1.Service{classy}, nil, "classy NotHandled "},
		{"an annotation that is set afterwards", pureLB,
			"apiVersion: purelb.io/v2\nkind: ServiceGroup\nmetadata: {name: default}\n" +
				"spec: {local: {v4pool: {pool: 10.0.0.0/28, subnet: 10.0.0.0/24}}}",
			[]corev1.Service{asking},
			nil, "web Moves Assigned once the annotations are set"},
	} {
		result := from(t, test.source, test.text, test.services...)
		got, err := result.Check(cluster("", test.services, test.pools...), test.source)
		if err != nil {
			t.Fatal(err)
		}
		var changes []string
		for _, c := range got.Changes {
			changes = append(changes, strings.TrimSuffix(strings.Join(
				[]string{c.Service.Name, c.Change, c.Reason, c.When}, " "), " "))
		}
		if text := strings.Join(changes, ", "); text != test.want {
			t.Errorf("%s: got %q, want %q", test.story, text, test.want)
		}
		if (got.Verdict == Unchanged) != (test.want == "") {
			t.Errorf("%s: the verdict is %s", test.story, got.Verdict)
		}
	}
}

// TestTheClassOfTheOtherCounts where Berth's settings are not known.
func TestTheClassOfTheOtherCounts(t *testing.T) {
	class := "metallb.io/lb"
	classy := service("classy", nil, "10.0.0.1")
	classy.Spec.LoadBalancerClass = &class
	services := []corev1.Service{classy}
	result := from(t, metalLB, lan+"\n---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: speaker, "+
		"namespace: metallb-system}\nspec: {template: {spec: {containers: [{name: speaker, command: "+
		"[/speaker, --lb-class, metallb.io/lb]}]}}}", services...)
	s := snapshot.New(snapshot.Objects{
		Services:   services,
		Namespaces: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}},
	}, snapshot.Request{Kinds: Kinds}, noon)
	got, err := result.Check(s, metalLB)
	if err != nil || got.Verdict != Unchanged || got.Assigned != 1 || !strings.Contains(got.Message, class) {
		t.Errorf("got %+v, %v", got, err)
	}
	if said(result, v1alpha1.ImportToDo, "BERTH_LOAD_BALANCER_CLASS="+class) != 1 {
		t.Errorf("that it is to be set is not said: %+v", result.Remarks)
	}
}

// TestObjectsThatAreThereAlready keep their age, and are told if they change.
func TestObjectsThatAreThereAlready(t *testing.T) {
	same := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}
	same.Spec.Addresses = []v1beta1.AddressRange{"10.0.0.0/28"}
	same.Spec.Sharing, same.Spec.AutoAssign = v1beta1.SharingCluster, new(true) // filled in by the API server
	other := *same.DeepCopy()
	other.Spec.Addresses = []v1beta1.AddressRange{"10.0.0.8/29"}
	services := []corev1.Service{service("web", nil, "10.0.0.3")}
	for _, test := range []struct {
		story string
		pool  v1beta1.IPAddressPool
		told  int
	}{{"the same", same, 0}, {"another", other, 1}} {
		result := from(t, metalLB, lan, services...)
		got, err := result.Check(cluster("", services, test.pool), metalLB)
		if err != nil || got.Verdict != Unchanged {
			t.Errorf("%s: %+v, %v", test.story, got, err)
		}
		if n := said(result, v1alpha1.ImportDiffers, "is there already"); n != test.told {
			t.Errorf("%s: told %d times: %+v", test.story, n, result.Remarks)
		}
	}
}

// TestPeersOfKubeVIP reads what its variable may have.
func TestPeersOfKubeVIP(t *testing.T) {
	for _, test := range []struct {
		text, want string // ADDRESS or INTERFACE, ASN, password, multihop, port; or the error
	}{
		{"192.0.2.1:65000", "192.0.2.1 65000  false 0"},
		{"192.0.2.1:65000:geheim:true:1790", "192.0.2.1 65000 geheim true 1790"},
		{"[fd00::1]:65000::false:179", "fd00::1 65000  false 179"},
		{"[fd00::1]:65000", "fd00::1 65000  false 0"},
		{"unnumbered:eth0:65000", "eth0 65000  false 0"},
		{"unnumbered:eth0", "eth0 0  false 0"},
		{"192.0.2.1", "no AS number"},
		{"192.0.2.1:4294967296", "no AS number"},
		{"192.0.2.1:-1", "no AS number"},
		{"host:65000", "no IP address"},
		{"[fd00::1:65000", "no IP address"},
		{"192.0.2.1:65000::maybe", "neither true nor false"},
		{"192.0.2.1:65000:::70000", "no port"},
		{"192.0.2.1:65000:::::true;x", "no number"},
		{"", "no IP address"},
	} {
		spec, _, err := kubeVIPPeer(test.text)
		got := fmt.Sprintf("%s%s %d %s %v %d", spec.PeerAddress, spec.Interface, spec.PeerASN, spec.Password,
			spec.EBGPMultiHop, spec.PeerPort)
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
}

// TestExpressionsForWholeNames match the names that the others match in part.
func TestExpressionsForWholeNames(t *testing.T) {
	expressions := []string{
		"eth", "^eth", "eth0$", "^eth0$", "^eth[0-9]+", "eth.*", "^a|b$", "(bond|ens)0", ".*", `eth\d`, "$",
	}
	rapid.Check(t, func(t *rapid.T) {
		expression := rapid.SampledFrom(expressions).Draw(t, "expression")
		name := rapid.StringMatching(`[abeth]{0,3}(eth|bond|ens)?[0-9]{0,2}[abx]?`).Draw(t, "name")
		part := regexp.MustCompile(expression).MatchString(name)
		whole := regexp.MustCompile("^(?:" + wholeName(expression) + ")$").MatchString(name)
		if part != whole {
			t.Fatalf("%s matches %q: %v, and %s: %v", expression, name, part, wholeName(expression), whole)
		}
	})
}

// FuzzMetalLBFile: whatever stands in a ConfigMap, what comes of it is such that Berth takes
// it, and what is left out is told.
func FuzzMetalLBFile(f *testing.F) {
	f.Add("address-pools:\n- {name: default, protocol: layer2, addresses: [192.168.49.100-192.168.49.120]}")
	f.Add("peers:\n- {my-asn: 1, peer-asn: 2, peer-address: 10.0.0.1, hold-time: 1s, node-selectors: [{}]}")
	f.Add("address-pools: [{name: A b, addresses: [1.2.3.4, 10.0.0.5/24, '-', fe80::/10], " +
		"bgp-advertisements: [{}]}]")
	f.Add("bgp-communities: {a: 1:2, ':': x}\nbfd-profiles: [{name: x, minimum-ttl: -1}]")
	f.Add("address-pools: [{name: -a.-b..c, protocol: layer2, addresses: [10.0.0.0/24]}]")
	f.Add("address-pools: {}")
	f.Fuzz(checkFile)
}

// checkFile checks what comes of a ConfigMap.
func checkFile(t *testing.T, content string) {
	configMap := unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]any{"name": "config", "namespace": "metallb-system"},
		"data":       map[string]any{"config": content},
	}}
	got := Convert(Input{
		Source:    metalLB,
		Objects:   []unstructured.Unstructured{configMap},
		Namespace: "metallb-system",
	})
	manifests, err := got.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range manifests {
		kind, name := NameOf(m)
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 || names[kind+name] {
			t.Errorf("%s %q: %v", kind, name, problems)
		}
		names[kind+name] = true
	}
	for _, p := range got.Pools {
		if n := len(p.Spec.Addresses); n == 0 || n > mostEntries {
			t.Errorf("%s has %d entries", p.Name, n)
		}
		for _, a := range p.Spec.Addresses {
			if _, err := config.ParseRange(string(a)); err != nil {
				t.Error(err)
			}
		}
	}
	if len(got.Found) > 0 && len(manifests) == 0 && len(got.Remarks) == 0 {
		t.Errorf("nothing came of it, and nothing is told")
	}
}
