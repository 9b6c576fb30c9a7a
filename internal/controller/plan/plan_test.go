package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/pkg/config"
)

func pools(list ...*v1beta1.IPAddressPool) config.Objects {
	var out config.Objects
	for _, p := range list {
		out.Pools = append(out.Pools, *p)
	}
	return out
}

func services(list ...*corev1.Service) []corev1.Service {
	var out []corev1.Service
	for _, s := range list {
		out = append(out, *s)
	}
	return out
}

func asking(pool string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations = map[string]string{v1beta1.AnnotationAddressPool: pool} }
}

// TestPlanOfPlainObjects: what a cluster would become, of nothing but its objects.
func TestPlanOfPlainObjects(t *testing.T) {
	lan := controllertest.Pool("lan", 0, "192.0.2.1-192.0.2.2")
	team := controllertest.Pool("team", 0, "198.51.100.1/32")
	team.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{"team": "a"}},
	}}
	web := controllertest.Service("web", 0)
	shop := controllertest.Service("shop", 1)
	mail := controllertest.Service("mail", 2)
	naming := controllertest.Service("edge", 0, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{"192.0.2.1"}
	})
	for _, test := range []struct {
		story string
		in    Snapshot
		want  []string // name, reason, addresses
	}{
		{"nothing", Snapshot{}, nil},
		{"the oldest come first", Snapshot{Objects: pools(lan), Services: services(mail, shop, web)},
			[]string{"mail PoolsExhausted", "shop Assigned 192.0.2.2", "web Assigned 192.0.2.1"}},
		{"but what a Service has it keeps", Snapshot{Objects: pools(lan), Services: services(
			controllertest.Service("young", 9, controllertest.Having("192.0.2.1")), web)},
			[]string{"web Assigned 192.0.2.2", "young Assigned 192.0.2.1"}},
		{"also what another load balancer gave", Snapshot{Objects: pools(lan), Services: services(web,
			controllertest.Service("theirs", 9, controllertest.OfClass("other"),
				controllertest.Having("192.0.2.1")))},
			[]string{"web Assigned 192.0.2.2"}},
		{"what a Service names is withheld", Snapshot{Objects: pools(lan), Services: services(web, naming)},
			[]string{"web Assigned 192.0.2.2"}},
		{"and what a node has", Snapshot{
			Objects:  pools(lan),
			Services: services(web),
			Nodes: []corev1.Node{{
				ObjectMeta: metav1.ObjectMeta{Name: "n"},
				Status: corev1.NodeStatus{
					Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
				},
			}},
		}, []string{"web Assigned 192.0.2.2"}},
		{"labels of namespaces select pools", Snapshot{
			Objects:    pools(lan, team),
			Services:   services(web),
			Namespaces: map[string]labels.Set{"default": {"team": "a"}},
		},
			[]string{"web Assigned 198.51.100.1"}},
		{"of another class", Snapshot{Objects: pools(lan), Services: services(web), Class: "other"}, nil},
		{"what one gives up another gets", Snapshot{
			Objects: pools(lan, team),
			Services: services(
				controllertest.Service("waits", 0, asking("lan")),
				controllertest.Service("one", 3, controllertest.Having("192.0.2.1"), asking("lan")),
				controllertest.Service("two", 4, controllertest.Having("192.0.2.2"), asking("team"))),
			Namespaces: map[string]labels.Set{"default": {"team": "a"}},
		},
			[]string{"one Assigned 192.0.2.1", "two Assigned 198.51.100.1", "waits Assigned 192.0.2.2"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			before := slices.Clone(test.in.Services)
			plan, err := Of(test.in, controllertest.Birth)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range plan.Services {
				text := fmt.Sprintf("%s %s", s.Key.Name, s.Reason)
				for _, addr := range s.Addresses {
					text += " " + addr.String()
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(before, test.in.Services); diff != "" {
				t.Errorf("the snapshot has changed:\n%s", diff)
			}
		})
	}
}

// TestPlanTellsOfBGPAndProblems: what is wrong with the configuration, and what becomes
// of the addresses that a Service would have.
func TestPlanTellsOfBGPAndProblems(t *testing.T) {
	objects := pools(controllertest.Pool("lan", 0, "192.0.2.0/24"),
		controllertest.Pool("late", 1, "192.0.2.0/25"))
	objects.BGPAdvertisements = []v1beta1.BGPAdvertisement{controllertest.BGPAdvertisement("all", nil)}
	objects.BGPPeers = []v1beta1.BGPPeer{*controllertest.BGPPeer("tor", nil)}
	plan, err := Of(Snapshot{
		Objects:  objects,
		Services: services(controllertest.Service("web", 0)),
		Nodes:    []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}},
		Speakers: []v1beta1.Speaker{*controllertest.SpeakerThat("n1", "tor")},
	}, controllertest.Birth)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Problems) != 1 || plan.Problems[0].Name != "late" ||
		plan.Config.PoolOf(plan.Services[0].Addresses[0]).Name != "lan" {
		t.Errorf("the problems are %+v", plan.Problems)
	}
	got := plan.Services[0].Announced
	if got.Reason != v1beta1.ReasonNoNodeAnnounces || !strings.Contains(got.Message, "192.0.2.0") {
		t.Errorf("by BGP it is %+v", got)
	}
}
