package view

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// Kinds of other load balancers whose objects say that they assign or announce addresses.
var (
	ciliumPools = snapshot.Foreign{
		Group:    "cilium.io",
		Resource: "ciliumloadbalancerippools",
		Kind:     "CiliumLoadBalancerIPPool",
		Versions: []string{"v2", "v2alpha1"},
	}
	ciliumL2 = snapshot.Foreign{
		Group:    "cilium.io",
		Resource: "ciliuml2announcementpolicies",
		Kind:     "CiliumL2AnnouncementPolicy",
		Versions: []string{"v2", "v2alpha1"},
	}
	ciliumBGP = snapshot.Foreign{
		Group:    "cilium.io",
		Resource: "ciliumbgpclusterconfigs",
		Kind:     "CiliumBGPClusterConfig",
		Versions: []string{"v2", "v2alpha1"},
	}
	calicoPools = snapshot.Foreign{
		Group:    "crd.projectcalico.org",
		Resource: "ippools",
		Kind:     "IPPool",
		Versions: []string{"v1"},
	}
	calicoBGP = snapshot.Foreign{
		Group:    "crd.projectcalico.org",
		Resource: "bgpconfigurations",
		Kind:     "BGPConfiguration",
		Versions: []string{"v1"},
	}
	calicoFelix = snapshot.Foreign{
		Group:    "crd.projectcalico.org",
		Resource: "felixconfigurations",
		Kind:     "FelixConfiguration",
		Versions: []string{"v1"},
	}
)

// foreignKinds are all of them.
var foreignKinds = []snapshot.Foreign{
	ciliumPools, ciliumL2, ciliumBGP, calicoPools, calicoBGP, calicoFelix,
}

// conduct is what another load balancer does with Services without a class.
type conduct int

const (
	handles conduct = iota
	mayHandle
	leavesAlone
)

// rival is another load balancer.
type rival struct {
	name string
	// runs reports whether a workload is a part of it, judge what that does with Services
	// without a class, and why.
	runs  func(w snapshot.Workload) bool
	judge func(w snapshot.Workload) (conduct, string)
}

// ofImages returns whether a container of a workload has an image with one of these in its
// name.
func ofImages(names ...string) func(w snapshot.Workload) bool {
	return func(w snapshot.Workload) bool {
		return slices.ContainsFunc(w.Pod.Containers, func(c corev1.Container) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.Contains(c.Image, n) })
		})
	}
}

// argsOf returns the command lines of a workload.
func argsOf(w snapshot.Workload) []string {
	var out []string
	for _, c := range w.Pod.Containers {
		out = slices.Concat(out, c.Command, c.Args)
	}
	return out
}

// handlesAll judges those that take every Service.
func handlesAll(snapshot.Workload) (conduct, string) { return handles, "" }

// unlessClass judges those that take every Service, unless one of these flags gives them a
// class.
func unlessClass(flags ...string) func(w snapshot.Workload) (conduct, string) {
	return func(w snapshot.Workload) (conduct, string) {
		for _, arg := range argsOf(w) {
			name, value, _ := strings.Cut(arg, "=")
			if slices.Contains(flags, name) && value != "" {
				return leavesAlone, "handles loadBalancerClass " + value
			}
		}
		return handles, ""
	}
}

// envOf returns the value of an environment variable of a workload, "" if it has none. known
// is false if it is written elsewhere.
func envOf(w snapshot.Workload, name string) (value string, known bool) {
	for _, c := range w.Pod.Containers {
		for _, e := range c.Env {
			if e.Name == name {
				return e.Value, e.ValueFrom == nil
			}
		}
	}
	return "", true
}

// judgeKubeVIP: kube-vip may serve the control plane only, or a class only.
func judgeKubeVIP(w snapshot.Workload) (conduct, string) {
	services, servicesKnown := envOf(w, "svc_enable")
	class, classKnown := envOf(w, "lb_class_only")
	asked := services == "true" || slices.Contains(argsOf(w), "--services") ||
		ofImages("kube-vip-cloud-provider")(w)
	switch {
	case class == "true":
		return leavesAlone, "handles its own loadBalancerClass only"
	case asked && classKnown:
		return handles, ""
	case asked || !servicesKnown:
		return mayHandle, ""
	}
	return leavesAlone, "serves the control plane only"
}

// judgeCloud: a cloud controller may run without its service controller, and where it runs
// it need not have load balancers to give.
func judgeCloud(w snapshot.Workload) (conduct, string) {
	for _, arg := range argsOf(w) {
		list, given := strings.CutPrefix(arg, "--controllers=")
		controllers := strings.Split(list, ",")
		if given && (slices.Contains(controllers, "-service") ||
			!slices.Contains(controllers, "*") && !slices.Contains(controllers, "service")) {
			return leavesAlone, "runs without its service controller"
		}
	}
	return mayHandle, ""
}

func isCloudController(w snapshot.Workload) bool {
	return strings.Contains(w.Name, "cloud-controller-manager") ||
		ofImages("cloud-controller-manager", "cloud-provider-kind")(w)
}

// rivals are those that are known by their pods.
var rivals = []rival{
	{
		name:  "MetalLB",
		runs:  ofImages("metallb/speaker", "metallb/controller", "metallb-speaker", "metallb-controller"),
		judge: unlessClass("--lb-class"),
	},
	{
		name:  "kube-vip",
		runs:  ofImages("kube-vip/kube-vip", "plndr/kube-vip"),
		judge: judgeKubeVIP,
	},
	{
		name:  "PureLB",
		runs:  ofImages("purelb/allocator", "purelb/lbnodeagent"),
		judge: handlesAll,
	},
	{
		name:  "OpenELB",
		runs:  ofImages("/openelb", "kubesphere/porter"),
		judge: handlesAll,
	},
	{
		name:  "ServiceLB of k3s",
		runs:  ofImages("klipper-lb"),
		judge: handlesAll,
	},
	{
		name:  "a cloud controller",
		runs:  isCloudController,
		judge: judgeCloud,
	},
}

// otherLoadBalancers returns a check for each other load balancer that is at work.
func (c checker) otherLoadBalancers() []v1alpha1.Check {
	const name = "OtherLoadBalancer"
	var out []v1alpha1.Check
	for _, r := range rivals {
		found := map[conduct][]string{}
		for _, w := range c.around.Workloads {
			if r.runs(w) {
				does, why := r.judge(w)
				found[does] = append(found[does], strings.TrimSuffix(tell(w)+": "+why, ": "))
			}
		}
		add := func(state v1alpha1.CheckState, message string, details []string) {
			out = append(out, newCheck(name, state, message, details...))
		}
		meets := slices.Concat(found[handles], found[mayHandle])
		switch {
		case len(meets) > 0 && c.beside():
			add(v1alpha1.CheckOK, c.tellBeside(r.name), meets)
		case len(found[handles]) > 0:
			add(v1alpha1.CheckProblem, r.name+" handles the same Services", meets)
		case len(meets) > 0:
			add(v1alpha1.CheckWarning, r.name+" may handle the same Services", meets)
		case len(found[leavesAlone]) > 0:
			add(v1alpha1.CheckOK, r.name+" leaves these Services alone", found[leavesAlone])
		}
	}
	out = append(out, c.announcingCNIs()...)
	parts := []string{snapshot.PartDaemonSets, snapshot.PartDeployments, snapshot.PartSystemPods}
	for _, k := range foreignKinds {
		if k.String() != ciliumBGP.String() {
			parts = append(parts, k.String())
		}
	}
	if unknown, missing := c.unseen(name, "Whether another load balancer is at work", nil,
		parts...); missing {
		return append(out, unknown)
	}
	if len(out) == 0 {
		out = append(out, newCheck(name, v1alpha1.CheckOK, "No other load balancer is at work"))
	}
	return out
}

// beside reports whether Berth handles Services of a class only, so that others may handle
// those without.
func (c checker) beside() bool { return c.Settings.Class != "" }

func (c checker) tellBeside(other string) string {
	return fmt.Sprintf("%s is at work, and Berth handles loadBalancerClass %s only", other, c.Settings.Class)
}

// specOf returns spec of an object, nil if it has none.
func specOf(o unstructured.Unstructured) map[string]any {
	spec, _ := o.Object["spec"].(map[string]any)
	return spec
}

// announcingCNIs returns a check for each network plugin that assigns or answers for
// addresses of Services.
func (c checker) announcingCNIs() []v1alpha1.Check {
	var cilium, calico []string
	for _, o := range c.around.Objects[ciliumPools.String()] {
		if disabled, _ := specOf(o)["disabled"].(bool); !disabled {
			cilium = append(cilium, "ciliumloadbalancerippool "+o.GetName()+": assigns addresses")
		}
	}
	for _, o := range c.around.Objects[ciliumL2.String()] {
		cilium = append(cilium, "ciliuml2announcementpolicy "+o.GetName()+": answers ARP and NDP")
	}
	for _, o := range c.around.Objects[calicoPools.String()] {
		uses, _ := specOf(o)["allowedUses"].([]any)
		if slices.Contains(uses, any("LoadBalancer")) {
			calico = append(calico, "ippool "+o.GetName()+": assigns addresses")
		}
	}
	for _, o := range c.around.Objects[calicoBGP.String()] {
		if ranges, _ := specOf(o)["serviceLoadBalancerIPs"].([]any); len(ranges) > 0 {
			calico = append(calico, "bgpconfiguration "+o.GetName()+": announces addresses by BGP")
		}
	}
	for _, o := range c.around.Objects[calicoFelix.String()] {
		mode, _ := specOf(o)["localSubnetL2Reachability"].(string)
		if strings.Contains(mode, "LoadBalancer") {
			calico = append(calico, "felixconfiguration "+o.GetName()+": answers ARP and NDP")
		}
	}
	var out []v1alpha1.Check
	for _, found := range []struct {
		name    string
		details []string
	}{{"Cilium", cilium}, {"Calico", calico}} {
		switch {
		case len(found.details) == 0:
		case c.beside():
			out = append(out, newCheck("OtherLoadBalancer", v1alpha1.CheckOK, c.tellBeside(found.name),
				found.details...))
		default:
			out = append(out, newCheck("OtherLoadBalancer", v1alpha1.CheckProblem,
				found.name+" handles the same Services", found.details...))
		}
	}
	return out
}

// otherBGP looks for what else speaks BGP on the nodes: a router has one session with an
// address of a node.
func (c checker) otherBGP() v1alpha1.Check {
	const name = "OtherBGP"
	var found []string
	for _, w := range c.around.Workloads {
		backend, _ := envOf(w, "CALICO_NETWORKING_BACKEND")
		switch {
		case ofImages("calico/node")(w) && backend != "none" && backend != "vxlan":
			found = append(found, tell(w)+": Calico")
		case ofImages("kube-router")(w):
			found = append(found, tell(w)+": kube-router")
		}
	}
	for _, o := range c.around.Objects[ciliumBGP.String()] {
		found = append(found, "ciliumbgpclusterconfig "+o.GetName()+": Cilium")
	}
	if len(found) > 0 {
		state, use := v1alpha1.CheckInfo, "which matters once Berth has BGPPeers"
		if len(c.BGPPeers) > 0 {
			state, use = v1alpha1.CheckWarning, "and Berth has BGPPeers: a router accepts one session "+
				"from a node"
		}
		return newCheck(name, state, "The network plugin may speak BGP from the nodes, "+use, found...)
	}
	if unknown, missing := c.unseen(name, "What else speaks BGP on the nodes", nil,
		snapshot.PartDaemonSets, ciliumBGP.String()); missing {
		return unknown
	}
	return newCheck(name, v1alpha1.CheckOK, "No network plugin is seen to speak BGP from the nodes")
}
