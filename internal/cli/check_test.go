package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/clitest"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// well returns the objects of a cluster in which all of Berth is well.
func well(t testing.TB) []client.Object {
	t.Helper()
	return clitest.Load(t, filepath.Join("testdata", "well.yaml"))
}

// namespace returns a namespace with the label that says which pods it admits.
func namespace(name, enforce string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if enforce != "" {
		n.Labels["pod-security.kubernetes.io/enforce"] = enforce
	}
	return n
}

// TestCheckStories: what check prints of a cluster, word by word.
func TestCheckStories(t *testing.T) {
	partly := clitest.New(well(t)...)
	partly.Forbidden = map[string]bool{
		"services": true, "configmaps": true, "daemonsets": true, "felixconfigurations": true,
	}
	partly.AllowedIn = "shop"
	denied := clitest.New(well(t)...)
	denied.Denied = map[string]bool{"create clusterroles": true, "create secrets": true}
	busy := append(load(t), namespace("berth-system", "privileged"))
	for _, story := range []struct {
		name   string
		server *clitest.Server
		args   string
		code   int
	}{
		{"check", clitest.New(well(t)...), "check", ExitOK},
		{"check-shop", clitest.New(busy...), "check --problems", ExitProblems},
		{"check-partly", partly, "check --problems", ExitProblems},
		{"check-pre", clitest.New(well(t)...), "check --pre --ascii", ExitOK},
		{"check-pre-denied", denied, "check --pre --problems", ExitProblems},
	} {
		t.Run(story.name, func(t *testing.T) {
			got := run(t, story.server.Start(t), strings.Fields(story.args)...)
			if got.code != story.code {
				t.Errorf("exit code %d, want %d", got.code, story.code)
			}
			text := "$ kubectl berth " + story.args + "\n" + got.out
			if got.err != "" {
				text += "--- stderr\n" + got.err
			}
			compare(t, filepath.Join("testdata", "stories", story.name+".txt"), text)
		})
	}
}

// broken is one thing that is not well in a cluster.
type broken struct {
	story string
	// change breaks it among the objects, and returns them.
	change func(objects []client.Object) []client.Object
	// raw are answers of kinds that Berth does not know.
	raw  map[string]string
	args string
	// want are the lines that are not well.
	want []string
	code int
}

// objectOf returns the object of a name and type.
func objectOf[T client.Object](objects []client.Object, name string) T {
	for _, o := range objects {
		if one, is := o.(T); is && o.GetName() == name {
			return one
		}
	}
	panic("there is no object " + name)
}

// with returns a change that adds objects.
func with(more ...client.Object) func([]client.Object) []client.Object {
	return func(objects []client.Object) []client.Object { return append(objects, more...) }
}

// changed returns a change of the object of a name and type.
func changed[T client.Object](name string, change func(T)) func([]client.Object) []client.Object {
	return func(objects []client.Object) []client.Object {
		change(objectOf[T](objects, name))
		return objects
	}
}

// daemonSet returns a DaemonSet that runs an image.
func daemonSet(namespace, name, image string, change func(*corev1.PodSpec)) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: image}}
	if change != nil {
		change(&d.Spec.Template.Spec)
	}
	return d
}

func nothing(objects []client.Object) []client.Object { return objects }

const exclude = corev1.LabelNodeExcludeBalancers

// condition sets a condition of a speaker.
func condition(s *v1beta1.Speaker, kind string, status metav1.ConditionStatus, reason, message string) {
	c := metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
	s.Status.Conditions = slices.DeleteFunc(s.Status.Conditions,
		func(o metav1.Condition) bool { return o.Type == kind })
	s.Status.Conditions = append(s.Status.Conditions, c)
}

// notWell returns the lines of a check that are not well, and its exit code.
func notWell(t *testing.T, kubeconfig string, args ...string) ([]string, v1alpha1.Checks, int) {
	t.Helper()
	got := run(t, kubeconfig, append([]string{"check", "--problems", "-o", "json"}, args...)...)
	var checks v1alpha1.Checks
	if err := json.Unmarshal([]byte(got.out), &checks); err != nil {
		t.Fatalf("%v: %s%s", err, got.out, got.err)
	}
	lines := []string{}
	for _, g := range checks.Groups {
		for _, c := range g.Checks {
			text := string(c.State) + " " + c.Name + ": " + c.Message
			if len(c.Details) > 0 {
				text += " [" + strings.Join(c.Details, "; ") + "]"
			}
			lines = append(lines, text)
		}
	}
	return lines, checks, got.code
}

// TestWhatIsBrokenIsFound: one thing after the other is not well, and the lines say that and
// nothing else.
func TestWhatIsBrokenIsFound(t *testing.T) {
	for _, b := range slices.Concat(brokenClusters(), brokenSpeakers(), brokenConfigurations()) {
		t.Run(b.story, func(t *testing.T) {
			server := clitest.New(b.change(well(t))...)
			server.Raw = b.raw
			got, _, code := notWell(t, server.Start(t), strings.Fields(b.args)...)
			if !slices.Equal(got, b.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(b.want, "\n"))
			}
			if code != b.code {
				t.Errorf("exit code %d, want %d", code, b.code)
			}
		})
	}
}

func brokenClusters() []broken {
	metalLB := daemonSet("metallb-system", "speaker", "quay.io/metallb/speaker:v0.15.2", nil)
	ofClass := daemonSet("metallb-system", "speaker", "quay.io/metallb/speaker:v0.15.2",
		func(p *corev1.PodSpec) {
			p.Containers[0].Args = []string{"--lb-class=metal"}
		})
	kubeVIP := daemonSet("kube-system", "kube-vip", "ghcr.io/kube-vip/kube-vip:v1.0.2",
		func(p *corev1.PodSpec) {
			p.Containers[0].Env = []corev1.EnvVar{{Name: "svc_enable", Value: "true"}}
		})
	elsewhere := kubeVIP.DeepCopy()
	elsewhere.Spec.Template.Spec.Containers[0].Env[0] = corev1.EnvVar{
		Name:      "svc_enable",
		ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{Key: "svc"}},
	}
	static := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace:   "kube-system",
		Name:        "kube-vip-node1",
		Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"},
	}}
	static.Spec = *kubeVIP.Spec.Template.Spec.DeepCopy()
	planeOnly := daemonSet("kube-system", "kube-vip", "ghcr.io/kube-vip/kube-vip:v1.0.2", nil)
	cloud := daemonSet("kube-system", "openstack-cloud-controller-manager", "registry/ccm:1", nil)
	noService := daemonSet("kube-system", "openstack-cloud-controller-manager", "registry/ccm:1",
		func(p *corev1.PodSpec) { p.Containers[0].Args = []string{"--controllers=*,-service"} })
	onPort := daemonSet("default", "exporter", "exporter:1", func(p *corev1.PodSpec) {
		p.HostNetwork = true
		p.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 9741}}
	})
	calico := daemonSet("kube-system", "calico-node", "docker.io/calico/node:v3.32.2", nil)
	setProxy := func(text string) func([]client.Object) []client.Object {
		return changed("kube-proxy", func(c *corev1.ConfigMap) { c.Data["config.conf"] = text })
	}
	return []broken{
		{story: "nothing", change: nothing, want: []string{}},
		{story: "nothing before the install", change: nothing, args: "--pre", want: []string{}},
		{story: "MetalLB", change: with(metalLB), args: "--pre", code: ExitProblems, want: []string{
			"Problem OtherLoadBalancer: MetalLB handles the same Services [daemonset metallb-system/speaker]",
		}},
		{story: "MetalLB, after the install", change: with(metalLB), code: ExitProblems, want: []string{
			"Problem OtherLoadBalancer: MetalLB handles the same Services [daemonset metallb-system/speaker]",
		}},
		{story: "MetalLB of a class", change: with(ofClass), want: []string{}},
		{
			story:  "MetalLB, beside a Berth of a class",
			change: with(metalLB),
			args:   "--pre --load-balancer-class berth.io/berth",
			want:   []string{},
		},
		{story: "kube-vip", change: with(kubeVIP), args: "--pre", code: ExitProblems, want: []string{
			"Problem OtherLoadBalancer: kube-vip handles the same Services [daemonset kube-system/kube-vip]",
		}},
		{story: "kube-vip as a static pod", change: with(static), code: ExitProblems, want: []string{
			"Problem OtherLoadBalancer: kube-vip handles the same Services [pod kube-system/kube-vip-node1]",
		}},
		{story: "kube-vip whose settings are elsewhere", change: with(elsewhere), want: []string{
			"Warning OtherLoadBalancer: kube-vip may handle the same Services " +
				"[daemonset kube-system/kube-vip]",
		}},
		{story: "kube-vip for the control plane", change: with(planeOnly), want: []string{}},
		{
			story: "PureLB and OpenELB",
			change: with(daemonSet("purelb", "lbnodeagent", "ghcr.io/purelb/purelb/lbnodeagent:v1", nil),
				daemonSet("openelb-system", "speaker", "kubesphere/openelb:v0.6", nil)),
			code: ExitProblems,
			want: []string{
				"Problem OtherLoadBalancer: PureLB handles the same Services [daemonset purelb/lbnodeagent]",
				"Problem OtherLoadBalancer: OpenELB handles the same Services [daemonset " +
					"openelb-system/speaker]",
			},
		},
		{
			story:  "ServiceLB of k3s",
			change: with(daemonSet("kube-system", "svclb-web", "rancher/klipper-lb:v0.4", nil)),
			code:   ExitProblems,
			want: []string{
				"Problem OtherLoadBalancer: ServiceLB of k3s handles the same Services " +
					"[daemonset kube-system/svclb-web]",
			},
		},
		{story: "a cloud controller", change: with(cloud), want: []string{
			"Warning OtherLoadBalancer: a cloud controller may handle the same Services " +
				"[daemonset kube-system/openstack-cloud-controller-manager]",
		}},
		{story: "a cloud controller without Services", change: with(noService), want: []string{}},
		{
			story:  "Cilium",
			change: nothing,
			raw: map[string]string{
				"/apis/cilium.io/v2alpha1/ciliuml2announcementpolicies": `{"items":[
					{"metadata":{"name":"all"}}]}`,
				"/apis/cilium.io/v2/ciliumloadbalancerippools": `{"items":[
					{"metadata":{"name":"lan"},"spec":{}},
					{"metadata":{"name":"off"},"spec":{"disabled":true}}]}`,
			},
			code: ExitProblems,
			want: []string{
				"Problem OtherLoadBalancer: Cilium handles the same Services [ciliumloadbalancerippool " +
					"lan: " +
					"assigns addresses; ciliuml2announcementpolicy all: answers ARP and NDP]",
			},
		},
		{
			story:  "Calico",
			change: nothing,
			raw: map[string]string{
				"/apis/crd.projectcalico.org/v1/ippools": `{"items":[
					{"metadata":{"name":"pods"},"spec":{"allowedUses":["Workload"]}},
					{"metadata":{"name":"lb"},"spec":{"allowedUses":["LoadBalancer"]}}]}`,
				"/apis/crd.projectcalico.org/v1/bgpconfigurations": `{"items":[{"metadata":{"name":"default"},
					"spec":{"serviceLoadBalancerIPs":[{"cidr":"192.0.2.0/24"}]}}]}`,
				"/apis/crd.projectcalico.org/v1/felixconfigurations": `{"items":[
					{"metadata":{"name":"default"},
					"spec":{"localSubnetL2Reachability":"PodsAndLoadBalancers"}}]}`,
			},
			code: ExitProblems,
			want: []string{
				"Problem OtherLoadBalancer: Calico handles the same Services [ippool lb: assigns " +
					"addresses; " +
					"bgpconfiguration default: announces addresses by BGP; " +
					"felixconfiguration default: answers ARP and NDP]",
			},
		},
		{story: "BGP of the network plugin", change: with(calico), want: []string{
			"Warning OtherBGP: The network plugin may speak BGP from the nodes, and Berth has BGPPeers: " +
				"a router accepts one session from a node [daemonset kube-system/calico-node: Calico]",
		}},
		{story: "BGP of the network plugin, before", change: with(calico), args: "--pre", want: []string{
			"Info OtherBGP: The network plugin may speak BGP from the nodes, which matters once Berth has " +
				"BGPPeers [daemonset kube-system/calico-node: Calico]",
		}},
		{story: "a port", change: with(onPort), args: "--pre", code: ExitProblems, want: []string{
			"Problem Ports: Ports of nodes that speakers use are taken [daemonset default/exporter: port " +
				"9741]",
		}},
		{story: "IPVS", change: setProxy("mode: ipvs"), args: "--pre", code: ExitProblems, want: []string{
			"Problem ServiceProxy: kube-proxy is in IPVS mode without strictARP: every node answers for " +
				"every " +
				"address",
		}},
		{story: "IPVS with strictARP", change: setProxy("mode: ipvs\nipvs: {strictARP: true}"),
			want: []string{}},
		{story: "a ConfigMap that is no YAML", change: setProxy("{"), code: ExitProblems, want: []string{
			"Unknown ServiceProxy: The configuration in configmap kube-system/kube-proxy is no YAML",
		}},
		{
			story: "pods that the namespace refuses",
			change: changed("berth-system",
				func(n *corev1.Namespace) { n.Labels["pod-security.kubernetes.io/enforce"] = "baseline" }),
			code: ExitProblems,
			want: []string{
				"Problem Namespace: Namespace berth-system admits pods of level baseline only: speakers " +
					"use the " +
					"network of their nodes, and are refused",
			},
		},
		{
			story:  "a namespace without the label",
			change: changed("berth-system", func(n *corev1.Namespace) { n.Labels = nil }),
			args:   "--pre",
			want: []string{
				"Warning Namespace: Namespace berth-system has no label " +
					"pod-security.kubernetes.io/enforce: the " +
					"default of the cluster says whether speakers are admitted",
			},
		},
		{
			story:  "nodes without a family in common",
			change: changed("node2", func(n *corev1.Node) { n.Status.Addresses[0].Address = "2001:db8::12" }),
			args:   "--pre",
			code:   ExitProblems,
			want: []string{
				"Problem Families: Nodes have no address family in common [without IPv4: node2; " +
					"without IPv6: node1, node3]",
			},
		},
		{
			story:  "a node that is labelled",
			change: changed("node2", func(n *corev1.Node) { n.Labels[exclude] = "" }),
			args:   "--pre",
			want: []string{"Warning ExcludeLabel: The exclude label keeps 1 of 3 nodes from announcing " +
				"[node2]"},
		},
		{
			story: "a control plane that is labelled",
			change: changed("node2", func(n *corev1.Node) {
				n.Labels[exclude], n.Labels["node-role.kubernetes.io/control-plane"] = "", ""
			}),
			args: "--pre",
			want: []string{},
		},
		{
			story: "all nodes labelled",
			change: func(objects []client.Object) []client.Object {
				for _, name := range []string{"node1", "node2", "node3"} {
					objectOf[*corev1.Node](objects, name).Labels[exclude] = ""
				}
				return objects
			},
			args: "--pre",
			want: []string{
				"Warning ExcludeLabel: All nodes carry the exclude label: they announce until a node " +
					"without it " +
					"has a working speaker [node1, node2, node3]",
			},
		},
		{
			story:  "an address of another load balancer",
			change: changed("web", func(s *corev1.Service) { s.Status.Conditions = nil }),
			args:   "--pre",
			want: []string{
				"Info PresentAddresses: Services with an address of another: 1. Each keeps it if a pool " +
					"contains it " +
					"[default/web [10.77.0.200]]",
			},
		},
	}
}

func brokenSpeakers() []broken {
	return []broken{
		{
			story: "no leader",
			change: changed("berth-controller",
				func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new("") }),
			code: ExitProblems,
			want: []string{"Problem Controller: deployment berth-system/berth-controller: NoLeader. No " +
				"controller leads: nothing is assigned."},
		},
		{
			story:  "a speaker's pod that is not ready",
			change: changed("berth-speaker", func(d *appsv1.DaemonSet) { d.Status.NumberReady = 2 }),
			code:   ExitProblems,
			want: []string{"Problem SpeakerPods: daemonset berth-system/berth-speaker: NotReady. 2 of 3 " +
				"speakers are ready."},
		},
		{
			story: "a node without a speaker",
			change: func(objects []client.Object) []client.Object {
				return slices.DeleteFunc(objects, func(o client.Object) bool {
					_, is := o.(*v1beta1.Speaker)
					return is && o.GetName() == "node3"
				})
			},
			code: ExitProblems,
			want: []string{"Problem Speakers: speaker node3: NoSpeaker. The node has no Speaker object"},
		},
		{
			story: "a speaker that is not ready",
			change: changed("node3", func(s *v1beta1.Speaker) {
				condition(s, v1beta1.ConditionReady, metav1.ConditionFalse, "NodeNotReady",
					"The node is not ready.")
			}),
			code: ExitProblems,
			want: []string{"Problem Speakers: speaker node3: NodeNotReady. The node is not ready."},
		},
		{
			story: "the member port is blocked",
			change: changed("node1", func(s *v1beta1.Speaker) {
				condition(s, v1beta1.ConditionMembersReachable, metav1.ConditionFalse, "NoMemberReachable",
					"None of 2 is heard.")
			}),
			code: ExitProblems,
			want: []string{"Problem Members: speaker node1: NoMemberReachable. None of 2 is heard."},
		},
		{
			story:  "a speaker misses another, and its version does not say why",
			change: changed("node1", func(s *v1beta1.Speaker) { s.Status.AbsentCount = 1 }),
			code:   ExitProblems,
			want:   []string{"Problem Members: speaker node1: Misses. Speakers absent for it: 1"},
		},
		{
			story:  "another version",
			change: changed("node1", func(s *v1beta1.Speaker) { s.Status.Version = "v0.4.0" }),
			want: []string{
				"Warning Versions: 2 versions of the speaker run: v0.3.0 on 2 (node2, node3), v0.4.0 on 1 " +
					"(node1)",
			},
		},
		{
			story: "another member profile",
			change: func(objects []client.Object) []client.Object {
				objectOf[*v1beta1.Speaker](objects, "node1").Status.MemberProfile = "fast"
				objectOf[*v1beta1.Speaker](objects, "node2").Status.MemberProfile = "quiet"
				return objects
			},
			want: []string{"Warning Settings: Speakers have different member profiles: fast, quiet"},
		},
		{
			story: "a speaker that announces by BGP only, beside others",
			change: changed("node3", func(s *v1beta1.Speaker) {
				s.Status.Protocols = []v1beta1.Protocol{v1beta1.ProtocolBGP}
			}),
			want: []string{"Warning Settings: Speakers announce by different protocols: BGP only and both. " +
				"See that --layer2 and --bgp are the same on all"},
		},
		{
			story: "a class of the speakers alone",
			change: changed("berth-speaker", func(d *appsv1.DaemonSet) {
				d.Spec.Template.Spec.Containers[0].Args = []string{"--load-balancer-class=x"}
			}),
			code: ExitProblems,
			want: []string{
				`Problem Settings: The speakers handle Services of loadBalancerClass "x", ` +
					`the controller those of ""`,
			},
		},
		{
			story: "a clock that is ahead",
			change: changed("node2", func(s *v1beta1.Speaker) {
				s.Status.RenewTime = &metav1.MicroTime{Time: noon.Add(time.Minute)}
			}),
			want: []string{
				"Warning Clocks: Clocks are ahead of yours: theirs are wrong, or yours is [speaker node2: " +
					"1m0s ahead]",
			},
		},
		{
			story: "a link with a problem",
			change: changed("node2",
				func(s *v1beta1.Speaker) { s.Status.Links[0].Problem = "It is a bond." }),
			want: []string{"Warning Links: speaker node2: Link. eth0: It is a bond."},
		},
		{
			story: "another host has an address",
			change: changed("node1", func(s *v1beta1.Speaker) {
				s.Status.Layer2.ConflictCount = 1
				s.Status.Layer2.Conflicts = []v1beta1.Layer2Conflict{{
					Address: "10.77.0.200",
					Kind:    v1beta1.ConflictForeignHost,
					Message: "02:00:00:00:00:99 has it.",
				}}
			}),
			code: ExitProblems,
			want: []string{"Problem ForeignAnswers: speaker node1: AddressForeignHost. 02:00:00:00:00:99 " +
				"has it."},
		},
		{
			story: "a session that is down",
			change: changed("node2", func(s *v1beta1.Speaker) {
				s.Status.BGP.Sessions[0].State, s.Status.BGP.Established = v1beta1.BGPConnecting, 0
				s.Status.BGP.Sessions[0].LastError = "connection refused"
			}),
			code: ExitProblems,
			want: []string{"Problem Sessions: bgppeer tor: Connecting. Node node2: connection refused"},
		},
	}
}

func brokenConfigurations() []broken {
	setPool := func(text string) func(*v1beta1.IPAddressPool) {
		return func(p *v1beta1.IPAddressPool) {
			p.Spec.Addresses = append(p.Spec.Addresses, v1beta1.AddressRange(text))
		}
	}
	return []broken{
		{
			story: "a pool that is not in force",
			change: changed("lan", func(p *v1beta1.IPAddressPool) {
				p.Status.Conditions[0].Reason, p.Status.Conditions[0].Status = "Overlapping", "False"
				p.Status.Conditions[0].Message = "It overlaps dmz."
			}),
			code: ExitProblems,
			want: []string{"Problem Objects: ipaddresspool lan: Overlapping. It overlaps dmz."},
		},
		{
			story: "a definition that is outdated",
			change: changed("lan", func(p *v1beta1.IPAddressPool) {
				p.Status.Conditions = append(p.Status.Conditions, metav1.Condition{
					Type:    v1beta1.ConditionCRDOutdated,
					Status:  metav1.ConditionTrue,
					Reason:  string(v1beta1.ReasonCRDOutdated),
					Message: "It is older than the controller.",
				})
			}),
			want: []string{"Warning Definitions: customresourcedefinition ipaddresspools.berth.io: " +
				"CRDOutdated. It is older than the controller."},
		},
		{
			story:  "a pool that is full",
			change: changed("lan", func(p *v1beta1.IPAddressPool) { p.Status.AvailableIPv4 = 0 }),
			want: []string{"Warning Room: ipaddresspool lan: PoolFull. No IPv4 address of pool lan is free " +
				"(2 of 3 are assigned)."},
		},
		{
			story: "addresses of pods",
			change: func(objects []client.Object) []client.Object {
				objectOf[*corev1.Node](objects, "node1").Spec.PodCIDRs = []string{"10.244.1.0/24"}
				setPool("10.244.1.7/32")(objectOf[*v1beta1.IPAddressPool](objects, "lan"))
				return objects
			},
			code: ExitProblems,
			want: []string{
				"Problem Overlap: ipaddresspool lan: PodRange. It overlaps 10.244.1.0/24, which a node " +
					"gives to pods",
				"Warning Subnets: ipaddresspool lan: NoSubnet. An L2Advertisement selects it, and no node " +
					"has a " +
					"link in the subnet of 10.244.1.7-10.244.1.7",
			},
		},
		{
			story:  "addresses of Services and of a router",
			change: changed("lan", setPool("10.96.0.10-10.96.0.20")),
			code:   ExitProblems,
			want: []string{
				"Problem Overlap: ipaddresspool lan: ServiceRange. It has 10.96.0.13, the cluster IP of " +
					"Service default/dns",
				"Warning Subnets: ipaddresspool lan: NoSubnet. An L2Advertisement selects it, and no node " +
					"has a " +
					"link in the subnet of 10.96.0.10-10.96.0.20",
			},
		},
		{
			story: "the router's address, and that of broadcasts",
			change: func(objects []client.Object) []client.Object {
				p := objectOf[*v1beta1.IPAddressPool](objects, "lan")
				setPool("10.77.0.1/32")(p)
				setPool("10.77.0.255/32")(p)
				return objects
			},
			code: ExitProblems,
			want: []string{
				"Problem Overlap: Whether pools have addresses of others: 3 problems " +
					"[ipaddresspool lan: RouterAddress. It has 10.77.0.1, the router of BGPPeer tor; " +
					"ipaddresspool lan: FirstAddress. It has 10.77.0.1, the first address of " +
					"10.77.0.0/24: mostly " +
					"that is the router's; ipaddresspool lan: Broadcast. It has 10.77.0.255, the " +
					"broadcast address " +
					"of 10.77.0.0/24]",
			},
		},
		{
			story: "an address that no pool has",
			change: changed("lan", func(p *v1beta1.IPAddressPool) {
				p.Spec.Addresses = []v1beta1.AddressRange{"10.77.0.201-10.77.0.209"}
			}),
			code: ExitProblems,
			want: []string{
				"Problem Held: Addresses of Services in no pool, which nobody announces: 1 [10.77.0.200 " +
					"of default/web]",
			},
		},
		{
			story: "a pool that nobody announces",
			change: func(objects []client.Object) []client.Object {
				return slices.DeleteFunc(objects, func(o client.Object) bool {
					_, is := o.(*v1beta1.L2Advertisement)
					return is
				})
			},
			want: []string{
				"Warning Advertised: ipaddresspool lan: NoAdvertisement. No L2Advertisement and no " +
					"BGPAdvertisement selects the pool: nobody announces its addresses.",
			},
		},
		{
			story: "an advertisement without a pool",
			change: with(func() client.Object {
				a := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{
					Name:              "idle",
					CreationTimestamp: metav1.NewTime(noon),
				}}
				selector := metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
				a.Spec.IPAddressPoolSelectors = []metav1.LabelSelector{selector}
				return a
			}()),
			want: []string{"Warning InUse: l2advertisement idle: Idle. It selects no pool"},
		},
		{
			story: "a Service without an address",
			change: changed("web", func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress = nil
				said := &s.Status.Conditions[0]
				said.Reason, said.Message = "PoolsExhausted", "All are full."
			}),
			code: ExitProblems,
			want: []string{"Problem ServiceAddresses: service default/web: PoolsExhausted. All are full."},
		},
	}
}

// TestEveryCheckIsExplained: each link of a check leads to a heading of a page.
func TestEveryCheckIsExplained(t *testing.T) {
	headings := map[string]bool{}
	for _, page := range []string{"troubleshooting.md"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if title, is := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); is && strings.HasPrefix(line,
				"#") {
				headings[page+"#"+slug(title)] = true
			}
		}
	}
	seen := map[string]bool{}
	for _, b := range slices.Concat(brokenClusters(), brokenSpeakers(), brokenConfigurations()) {
		server := clitest.New(b.change(well(t))...)
		server.Raw = b.raw
		got := run(t, server.Start(t), append([]string{"check", "-o", "json"}, strings.Fields(b.args)...)...)
		var checks v1alpha1.Checks
		if err := json.Unmarshal([]byte(got.out), &checks); err != nil {
			t.Fatal(err)
		}
		for _, g := range checks.Groups {
			for _, c := range g.Checks {
				link, is := strings.CutPrefix(c.Link, "https://github.com/berth-lb/berth/blob/main/docs/")
				if !is || !headings[link] {
					t.Errorf("%s: no page has %s", c.Name, c.Link)
				}
				seen[c.Name] = true
			}
		}
	}
	if len(seen) < 25 {
		t.Errorf("only %d checks seen: %v", len(seen), seen)
	}
}

// slug returns the anchor that a heading has on GitHub.
func slug(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(title)) {
		switch {
		case r == ' ':
			b.WriteRune('-')
		case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		}
	}
	return b.String()
}

// TestWaitEndsWhenAllIsWell: check goes on until the speakers' pods are ready.
func TestWaitEndsWhenAllIsWell(t *testing.T) {
	objects := well(t)
	set := objectOf[*appsv1.DaemonSet](objects, "berth-speaker")
	set.Status.NumberReady = 2
	server := clitest.New(objects...)
	t.Setenv("KUBECONFIG", server.Start(t))
	t.Setenv("LANG", "C.UTF-8")
	out := &lockedBuffer{}
	streams := genericiooptions.IOStreams{Out: out, ErrOut: out}
	code := make(chan int, 1)
	go func() {
		args := []string{"kubectl-berth", "check", "--wait", "10m"}
		code <- runMain(t.Context(), args, streams, func() time.Time { return noon })
	}()
	for !strings.Contains(out.String(), "waiting: 1 problem") {
		time.Sleep(10 * time.Millisecond)
	}
	ready := set.DeepCopy()
	ready.Status.NumberReady = 3
	server.Apply(t, ready)
	const want = "√ Every speaker's pod (3) is ready"
	if got := <-code; got != ExitOK || !strings.Contains(out.String(), want) {
		t.Errorf("exit code %d: %s", got, out.String())
	}
}

// TestAgain: tries go on until one is done or the time is over, with pauses that grow with
// what a try takes.
func TestAgain(t *testing.T) {
	for _, test := range []struct {
		story       string
		limit, each time.Duration
		doneAt      int // 0 for never
		tries       int
		took        time.Duration
	}{
		{"once is enough", 0, 0, 1, 1, 0},
		{"no time to wait", 0, time.Second, 0, 1, time.Second},
		{"done in time", time.Minute, 0, 3, 3, 4 * time.Second},
		{"never done", 10 * time.Second, 0, 0, 6, 10 * time.Second},
		{"each takes long", time.Minute, 2 * time.Second, 0, 6, 62 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, tries := time.Now(), 0
			again(t.Context(), test.limit, func() bool {
				time.Sleep(test.each)
				tries++
				return tries == test.doneAt
			})
			if took := time.Since(began); tries != test.tries || took != test.took {
				t.Errorf("%s: %d tries in %s, want %d in %s", test.story, tries, took, test.tries, test.took)
			}
		})
	}
}

// TestCheckAsksForNothingElse: no Secret is read, and nothing is written but reviews.
func TestCheckAsksForNothingElse(t *testing.T) {
	server := clitest.New(well(t)...)
	config := server.Start(t)
	for _, args := range [][]string{{"check"}, {"check", "--pre"}} {
		if got := run(t, config, args...); got.code != ExitOK {
			t.Fatal(errors.New(got.out + got.err))
		}
	}
	for _, path := range server.Requests() {
		if strings.Contains(path, "/secrets") || strings.Contains(path, "/exec") {
			t.Errorf("it asks for %s", path)
		}
	}
}
