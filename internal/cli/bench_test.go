package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/clitest"
)

// asProgram is a variable that has the test binary be kubectl-berth: the benchmark measures
// a process of its own.
const asProgram = "BERTH_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(context.Background(), append([]string{"kubectl-berth"}, os.Args[1:]...), Streams()))
	}
	os.Exit(m.Run())
}

// city is a cluster of many nodes and Services: each node owns some addresses, and announces
// all by BGP to two routers.
func city(nodes, services int) []client.Object {
	ready := func(reason v1beta1.Reason) []metav1.Condition {
		return []metav1.Condition{{
			Type:               v1beta1.ConditionReady,
			Status:             metav1.ConditionTrue,
			Reason:             string(reason),
			ObservedGeneration: 1,
		}}
	}
	old := metav1.NewTime(time.Now().Add(-time.Hour))
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Generation: 1, CreationTimestamp: old}
	}
	pool := &v1beta1.IPAddressPool{ObjectMeta: meta("all")}
	pool.Spec.Addresses = []v1beta1.AddressRange{"10.64.0.0/16"}
	pool.Status.Conditions = ready(v1beta1.ReasonAccepted)
	pool.Status.AssignedIPv4, pool.Status.AvailableIPv4 = int64(services), int64(65536-services)
	pool.Status.Assigned = int64(services)
	l2 := &v1beta1.L2Advertisement{ObjectMeta: meta("all")}
	l2.Status.Conditions = ready(v1beta1.ReasonAccepted)
	bgp := &v1beta1.BGPAdvertisement{ObjectMeta: meta("all")}
	bgp.Status.Conditions = ready(v1beta1.ReasonAccepted)
	out := []client.Object{pool, l2, bgp, &corev1.Namespace{ObjectMeta: meta("default")}}
	for _, name := range []string{"tor-a", "tor-b"} {
		p := &v1beta1.BGPPeer{ObjectMeta: meta(name)}
		p.Spec = v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "10.1.0.1"}
		if name == "tor-b" {
			p.Spec.PeerAddress = "10.1.0.2"
		}
		p.Status.Conditions = ready(v1beta1.ReasonAccepted)
		out = append(out, p)
	}
	address := func(i int) string { return fmt.Sprintf("10.64.%d.%d", i/256, i%256) }
	for n := range nodes {
		name := fmt.Sprintf("node%04d", n)
		own := fmt.Sprintf("10.0.%d.%d", n/250, n%250+1)
		node := &corev1.Node{ObjectMeta: meta(name)}
		node.Labels = map[string]string{corev1.LabelHostname: name, "rack": string(rune('a' + n%2))}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: own}}
		node.Status.Conditions = []corev1.NodeCondition{{
			Type:   corev1.NodeReady,
			Status: corev1.ConditionTrue,
		}}
		s := &v1beta1.Speaker{ObjectMeta: meta(name)}
		s.Status.Stage, s.Status.HasWorked, s.Status.Version = v1beta1.StageReady, true, "v1"
		s.Status.MemberAddress, s.Status.Conditions = own+":7947", ready(v1beta1.ReasonAnnouncing)
		s.Status.Links = []v1beta1.SpeakerLink{{
			Name:       "eth0",
			MACAddress: fmt.Sprintf("02:00:00:00:%02x:%02x", n/256, n%256),
			Up:         true,
			Prefixes:   []string{own + "/8"},
		}}
		for i := n; i < services; i += nodes {
			s.Status.Layer2.Announcements = append(s.Status.Layer2.Announcements, v1beta1.Layer2Announcement{
				Address:    address(i),
				Services:   []string{fmt.Sprintf("default/web%05d", i)},
				Links:      []string{"eth0"},
				Generation: 1,
			})
		}
		s.Status.Layer2.Count = int32(len(s.Status.Layer2.Announcements))
		s.Status.Layer2.Owned = s.Status.Layer2.Count
		count := int32(services)
		s.Status.BGP.Count, s.Status.BGP.Established, s.Status.BGP.AddressCount = 2, 2, &count
		s.Status.BGP.Addresses = []string{"10.64.0.0-" + address(services-1)}
		for _, peer := range []string{"tor-a", "tor-b"} {
			s.Status.BGP.Sessions = append(s.Status.BGP.Sessions, v1beta1.BGPSession{
				Peer:           peer,
				State:          v1beta1.BGPEstablished,
				Families:       []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4},
				AdvertisedIPv4: count,
			})
		}
		out = append(out, node, s)
	}
	return append(out, cityServices(nodes, services, address, old)...)
}

func cityServices(nodes, services int, address func(int) string, created metav1.Time) []client.Object {
	var out []client.Object
	for i := range services {
		name := fmt.Sprintf("web%05d", i)
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
			Namespace:         "default",
			Name:              name,
			CreationTimestamp: created,
			Labels:            map[string]string{"app": name},
		}}
		s.Spec = corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeLoadBalancer,
			ClusterIPs:            []string{fmt.Sprintf("10.96.%d.%d", i/256, i%256)},
			IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol},
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			Selector:              map[string]string{"app": name},
			Ports:                 []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address(i)}}
		s.Status.Conditions = []metav1.Condition{{
			Type:    v1beta1.ConditionAddressAssigned,
			Status:  metav1.ConditionTrue,
			Reason:  string(v1beta1.ReasonAssigned),
			Message: address(i) + " from pool all.",
		}}
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default",
			Name:      name + "-1",
			Labels:    map[string]string{discoveryv1.LabelServiceName: name},
		}}
		slice.AddressType = discoveryv1.AddressTypeIPv4
		for n := range 2 {
			node := fmt.Sprintf("node%04d", (i+n)%nodes)
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses:  []string{fmt.Sprintf("10.244.%d.%d", i%256, n+1)},
				NodeName:   &node,
				Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			})
		}
		out = append(out, s, slice)
	}
	return out
}

// BenchmarkCity: status, explain and plan of 10,000 Services and 1,000 nodes, each in a process of
// its own. It prints seconds of wall time and of processor time, and megabytes.
func BenchmarkCity(b *testing.B) {
	server := clitest.New(city(1000, 10000)...)
	kubeconfig := server.Start(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, args := range []string{
		"status", "check", "report -f -", "services -A", "explain web00500 -n default", "explain 10.64.255.1",
		"routes --address 10.64.1.1 --node node0001",
		"plan --drain node0500", "plan --fail node0500", "plan --add node9999",
		"plan --delete ipaddresspool/all", "plan -f testdata/plan/city.yaml",
		"plan -f testdata/plan/city-racks.yaml",
		"import --from metallb -f testdata/import/metallb-minikube.yaml --report",
		"dashboard --snapshot -",
	} {
		b.Run(args, func(b *testing.B) {
			one := func() (cpu time.Duration, peak float64) {
				cmd := exec.Command(self, strings.Fields(args)...)
				cmd.Env = append(os.Environ(), asProgram+"=yes", "KUBECONFIG="+kubeconfig)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Run(); cmd.ProcessState.ExitCode() > ExitProblems {
					b.Fatalf("%v: %s", err, out.String())
				}
				ended := cmd.ProcessState
				return ended.UserTime() + ended.SystemTime(), peakMemory(ended)
			}
			one() // the server encodes each page once
			b.ResetTimer()
			var cpu time.Duration
			var peak float64
			for b.Loop() {
				c, p := one()
				cpu, peak = cpu+c, max(peak, p)
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s")
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s")
			b.ReportMetric(peak, "MB")
		})
	}
}
