package plan

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/pkg/config"
)

// gateway is what is read here of a Gateway of Gateway API.
type gateway struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		GatewayClassName string `json:"gatewayClassName"`
		Addresses        []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"addresses"`
		Infrastructure struct {
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"infrastructure"`
		Listeners []struct {
			Protocol string `json:"protocol"`
			Port     int32  `json:"port"`
		} `json:"listeners"`
	} `json:"spec"`
}

// An implementation makes a Service for each Gateway, as those of Gateway API do, which differ in a few
// things.
type implementation struct {
	// loadBalancerIP and externalIPs tell where spec.addresses goes.
	loadBalancerIP, externalIPs bool
	// local: the Services have externalTrafficPolicy Local.
	local bool
}

// service returns the Service that is made for a Gateway, some minutes younger than the oldest.
func (i implementation) service(g gateway, minutes int) *corev1.Service {
	name := g.Metadata.Name + "-" + g.Spec.GatewayClassName
	s := controllertest.Service(name, minutes, controllertest.DualStack)
	*s.Spec.IPFamilyPolicy = corev1.IPFamilyPolicyPreferDualStack
	s.Labels = map[string]string{
		"gateway.networking.k8s.io/gateway-name":       g.Metadata.Name,
		"gateway.networking.k8s.io/gateway-class-name": g.Spec.GatewayClassName,
	}
	maps.Copy(s.Labels, g.Spec.Infrastructure.Labels)
	s.Annotations = maps.Clone(g.Spec.Infrastructure.Annotations)
	s.Spec.Selector = map[string]string{"gateway.networking.k8s.io/gateway-name": g.Metadata.Name}
	s.Spec.Ports = nil
	for _, l := range g.Spec.Listeners {
		protocol := corev1.ProtocolTCP
		if l.Protocol == "UDP" {
			protocol = corev1.ProtocolUDP
		}
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name:     fmt.Sprint(strings.ToLower(l.Protocol), l.Port),
			Protocol: protocol,
			Port:     l.Port,
		})
	}
	for n, a := range g.Spec.Addresses {
		if i.loadBalancerIP && n == 0 {
			s.Spec.LoadBalancerIP = a.Value
		}
		if i.externalIPs {
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, a.Value)
		}
	}
	if i.local {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	return s
}

// samples are what a section of docs/gateway-api.md shows.
type samples struct {
	pools    []v1beta1.IPAddressPool
	gateways []gateway
	services []corev1.Service
}

// readSamples returns what the YAML of a section of docs/gateway-api.md says, which has this title.
func readSamples(t *testing.T, title string) samples {
	t.Helper()
	page, err := os.ReadFile("../../../docs/gateway-api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+title+"\n")
	if !found {
		t.Fatalf("docs/gateway-api.md has no section %q", title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var out samples
	for i, block := range strings.Split(section, "```yaml\n") {
		if i == 0 {
			continue // before the first
		}
		block, _, _ = strings.Cut(block, "```")
		for text := range strings.SplitSeq(block, "---\n") {
			out.add(t, text)
		}
	}
	return out
}

func (s *samples) add(t *testing.T, text string) {
	t.Helper()
	var is metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &is); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	switch is.Kind {
	case "IPAddressPool":
		s.pools = append(s.pools, read[v1beta1.IPAddressPool](t, text))
	case "Service":
		s.services = append(s.services, read[corev1.Service](t, text))
	case "Gateway":
		s.gateways = append(s.gateways, read[gateway](t, text))
	default:
		t.Fatalf("an object of kind %q:\n%s", is.Kind, text)
	}
}

func read[T any](t *testing.T, text string) T {
	t.Helper()
	var object T
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return object
}

// named returns a Gateway of a class with one listener, after some changes.
func named(name, class string, changes ...func(*gateway)) gateway {
	var g gateway
	g.Metadata.Name, g.Spec.GatewayClassName = name, class
	g.Spec.Listeners = append(g.Spec.Listeners, struct {
		Protocol string `json:"protocol"`
		Port     int32  `json:"port"`
	}{"HTTP", 80})
	for _, change := range changes {
		change(&g)
	}
	return g
}

func annotated(key, value string) func(*gateway) {
	return func(g *gateway) { g.Spec.Infrastructure.Annotations = map[string]string{key: value} }
}

func labelled(key, value string) func(*gateway) {
	return func(g *gateway) { g.Spec.Infrastructure.Labels = map[string]string{key: value} }
}

// planned returns what becomes of Services, each as its name, its reason and its addresses.
func planned(t *testing.T, pools []v1beta1.IPAddressPool, services []corev1.Service) []string {
	t.Helper()
	plan, err := Of(Snapshot{Objects: config.Objects{Pools: pools}, Services: services}, controllertest.Birth)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plan.Problems {
		t.Errorf("a problem: %v", p)
	}
	var out []string
	for _, s := range plan.Services {
		line := s.Key.Name + " " + string(s.Reason)
		for _, addr := range s.Addresses {
			line += " " + addr.String()
		}
		out = append(out, line)
	}
	return out
}

// TestGateways: the examples of docs/gateway-api.md, and what goes beyond them, for implementations that make
// a Service for each Gateway.
func TestGateways(t *testing.T) {
	fixed := readSamples(t, "A fixed address").gateways
	apart := readSamples(t, "A pool for Gateways").pools
	sharing := readSamples(t, "Several Gateways at one address").gateways
	all := []v1beta1.IPAddressPool{*controllertest.Pool("all", 0, "192.0.2.0-192.0.2.31", "2001:db8::/120")}
	for _, test := range []struct {
		story    string
		pools    []v1beta1.IPAddressPool
		is       implementation
		gateways []gateway
		want     []string
	}{
		{"spec.addresses as loadBalancerIP", all, implementation{loadBalancerIP: true}, fixed, []string{
			"blog-example Assigned 192.0.2.11 2001:db8::",
			"shop-example Assigned 192.0.2.10 2001:db8::10",
		}},
		{"spec.addresses as externalIPs", all, implementation{externalIPs: true}, fixed, []string{
			"blog-example Assigned 192.0.2.0 2001:db8::",
			"shop-example Assigned 192.0.2.10 2001:db8::10",
		}},
		{"spec.addresses as both", all, implementation{loadBalancerIP: true, externalIPs: true}, fixed,
			[]string{
				"blog-example Assigned 192.0.2.11 2001:db8::",
				"shop-example Assigned 192.0.2.10 2001:db8::10",
			}},
		{"spec.addresses ignored", all, implementation{}, fixed, []string{
			"blog-example Assigned 192.0.2.0 2001:db8::",
			"shop-example Assigned 192.0.2.10 2001:db8::10",
		}},
		{"MetalLB's annotations", all, implementation{}, []gateway{
			named("old", "c", annotated("metallb.universe.tf/loadBalancerIPs", "192.0.2.20")),
			named("new", "c", annotated("metallb.io/loadBalancerIPs", "192.0.2.21")),
		}, []string{
			"new-c Assigned 192.0.2.21 2001:db8::1",
			"old-c Assigned 192.0.2.20 2001:db8::",
		}},
		{"spec.addresses and an annotation that differ", all, implementation{loadBalancerIP: true}, []gateway{
			named("torn", "c", annotated("berth.io/loadBalancerIPs", "192.0.2.20"), func(g *gateway) {
				g.Spec.Addresses = fixed[1].Spec.Addresses
			}),
		}, []string{"torn-c InvalidRequest"}},
		{"an address that no pool has, beside one of the other family", all, implementation{}, []gateway{
			named("far", "c", annotated("berth.io/loadBalancerIPs", "198.51.100.1")),
		}, []string{"far-c PartlyAssigned 2001:db8::"}},
		{"pools by labels of what is made", apart, implementation{}, []gateway{
			named("any", "example"),
			named("own", "inside"),
			named("mine", "example", labelled("example.com/network", "inside")),
			named("asks", "example", annotated("berth.io/address-pool", "inside")),
		}, []string{
			"any-example Assigned 192.0.2.0 2001:db8::",
			"asks-example NoEligiblePool",
			"mine-example Assigned 10.20.0.1 2001:db8:20::1",
			"own-inside Assigned 10.20.0.0 2001:db8:20::",
		}},
		{"several at one address", all, implementation{}, sharing, []string{
			"front-example Assigned 192.0.2.0 2001:db8::",
			"mqtt-example Assigned 192.0.2.0 2001:db8::",
			"names-example Assigned 192.0.2.0 2001:db8::",
		}},
		{"not with externalTrafficPolicy Local", all, implementation{local: true}, sharing, []string{
			"front-example Assigned 192.0.2.0 2001:db8::",
			"mqtt-example Assigned 192.0.2.1 2001:db8::1",
			"names-example Assigned 192.0.2.2 2001:db8::2",
		}},
		{"not with the same port", all, implementation{}, []gateway{
			named("first", "c", annotated("berth.io/allow-shared-ip", "key")),
			named("second", "c", annotated("berth.io/allow-shared-ip", "key")),
		}, []string{
			"first-c Assigned 192.0.2.0 2001:db8::",
			"second-c Assigned 192.0.2.1 2001:db8::1",
		}},
	} {
		t.Run(test.story, func(t *testing.T) {
			var services []corev1.Service
			for i, g := range test.gateways {
				services = append(services, *test.is.service(g, i))
			}
			got := planned(t, test.pools, services)
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestGatewaysOfAClass: whoever serves Services of a class serves those that are made with it, and no others.
func TestGatewaysOfAClass(t *testing.T) {
	made := implementation{}.service(named("with", "c"), 0)
	made.Spec.LoadBalancerClass = new("example.com/lan")
	services := []corev1.Service{*made, *implementation{}.service(named("without", "c"), 1)}
	lan := config.Objects{Pools: []v1beta1.IPAddressPool{
		*controllertest.Pool("lan", 0, "192.0.2.0/28", "2001:db8::/124"),
	}}
	for class, want := range map[string]string{
		"example.com/lan": "with-c",
		"":                "without-c",
		"example.com/far": "",
	} {
		plan, err := Of(Snapshot{Objects: lan, Services: services, Class: class}, controllertest.Birth)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, s := range plan.Services {
			got += s.Key.Name
		}
		if got != want {
			t.Errorf("class %q: %q is served, want %q", class, got, want)
		}
	}
}

// TestBothProtocolsOfOnePort: a Service as HTTP/3 wants it has one address, which nobody else gets who wants
// one of its ports.
func TestBothProtocolsOfOnePort(t *testing.T) {
	edge := readSamples(t, "HTTP/3, and TCP and UDP on one Service").services[0]
	edge.Namespace, edge.CreationTimestamp = "default", metav1.NewTime(controllertest.Birth)
	edge.Spec.ClusterIPs = []string{"10.96.0.1"}
	edge.Annotations = map[string]string{"berth.io/allow-shared-ip": "key"}
	of := func(protocol corev1.Protocol) corev1.Service {
		name := strings.ToLower(string(protocol))
		return *controllertest.Service(name, 1, func(s *corev1.Service) {
			s.Annotations = edge.Annotations
			s.Spec.Ports = []corev1.ServicePort{{Protocol: protocol, Port: 443}}
		})
	}
	lan := []v1beta1.IPAddressPool{*controllertest.Pool("lan", 0, "192.0.2.1-192.0.2.9")}
	for _, test := range []struct {
		story    string
		services []corev1.Service
		want     []string
	}{
		{"one Service for both", []corev1.Service{edge, of(corev1.ProtocolUDP)},
			[]string{"edge Assigned 192.0.2.1", "udp Assigned 192.0.2.2"}},
		{"a Service for each", []corev1.Service{of(corev1.ProtocolTCP), of(corev1.ProtocolUDP)},
			[]string{"tcp Assigned 192.0.2.1", "udp Assigned 192.0.2.1"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			if diff := cmp.Diff(test.want, planned(t, lan, test.services)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
