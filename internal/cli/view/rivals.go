package view

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// Kinds of other load balancers whose objects say that they assign or announce addresses.
var (
	ciliumPools = snapshot.ForeignKind{
		Group:    "cilium.io",
		Resource: "ciliumloadbalancerippools",
		Versions: []string{"v2", "v2alpha1"},
	}
	ciliumL2 = snapshot.ForeignKind{
		Group:    "cilium.io",
		Resource: "ciliuml2announcementpolicies",
		Versions: []string{"v2", "v2alpha1"},
	}
	ciliumBGP = snapshot.ForeignKind{
		Group:    "cilium.io",
		Resource: "ciliumbgpclusterconfigs",
		Versions: []string{"v2", "v2alpha1"},
	}
	calicoPools = snapshot.ForeignKind{
		Group:    "crd.projectcalico.org",
		Resource: "ippools",
		Versions: []string{"v1"},
	}
	calicoBGP = snapshot.ForeignKind{
		Group:    "crd.projectcalico.org",
		Resource: "bgpconfigurations",
		Versions: []string{"v1"},
	}
	calicoFelix = snapshot.ForeignKind{
		Group:    "crd.projectcalico.org",
		Resource: "felixconfigurations",
		Versions: []string{"v1"},
	}
)

// foreignKinds are all of them.
var foreignKinds = []snapshot.ForeignKind{
	ciliumPools, ciliumL2, ciliumBGP, calicoPools, calicoBGP, calicoFelix,
}

// rival is another load balancer that handles Services without a class.
type rival struct {
	name string
	// runs reports whether a workload is a part of it, harmless why it does no harm, "" if
	// it may.
	runs     func(w snapshot.Workload) bool
	harmless func(w snapshot.Workload) string
	// doubtless is set if it is known to handle such Services.
	doubtless bool
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

// ofClass says of a workload that it has a class of its own, by one of these flags.
func ofClass(flags ...string) func(w snapshot.Workload) string {
	return func(w snapshot.Workload) string {
		for _, c := range w.Pod.Containers {
			for _, arg := range slices.Concat(c.Command, c.Args) {
				name, value, _ := strings.Cut(arg, "=")
				if slices.Contains(flags, name) && value != "" {
					return "handles loadBalancerClass " + value
				}
			}
		}
		return ""
	}
}

// envOf returns the value of an environment variable of a workload, "" if it is not written
// there.
func envOf(w snapshot.Workload, name string) string {
	for _, c := range w.Pod.Containers {
		for _, e := range c.Env {
			if e.Name == name {
				return e.Value
			}
		}
	}
	return ""
}

// kubeVIPHarmless: kube-vip may serve the control plane only, or a class only.
func kubeVIPHarmless(w snapshot.Workload) string {
	switch {
	case ofImages("kube-vip-cloud-provider")(w):
		return ""
	case envOf(w, "svc_enable") == "" || envOf(w, "svc_enable") == "false":
		return "serves the control plane only"
	case envOf(w, "lb_class_only") == "true":
		return "handles its own loadBalancerClass only"
	}
	return ""
}

// cloudHarmless: a cloud controller may run without its service controller.
func cloudHarmless(w snapshot.Workload) string {
	for _, c := range w.Pod.Containers {
		for _, arg := range slices.Concat(c.Command, c.Args) {
			list, given := strings.CutPrefix(arg, "--controllers=")
			if given && (strings.Contains(list, "-service") || !strings.Contains(list, "*") &&
				!slices.Contains(strings.Split(list, ","), "service")) {
				return "runs without its service controller"
			}
		}
	}
	return ""
}

func isCloudController(w snapshot.Workload) bool {
	return strings.Contains(w.Name, "cloud-controller-manager") ||
		ofImages("cloud-controller-manager", "cloud-provider-kind")(w)
}

func neverHarmless(snapshot.Workload) string { return "" }

// rivals are those that are known by their pods.
var rivals = []rival{
	{
		name:      "MetalLB",
		runs:      ofImages("metallb/speaker", "metallb/controller", "metallb-speaker", "metallb-controller"),
		harmless:  ofClass("--lb-class"),
		doubtless: true,
	},
	{
		name:      "kube-vip",
		runs:      ofImages("kube-vip/kube-vip", "plndr/kube-vip"),
		harmless:  kubeVIPHarmless,
		doubtless: true,
	},
	{
		name:      "PureLB",
		runs:      ofImages("purelb/allocator", "purelb/lbnodeagent"),
		harmless:  ofClass("--lb-class", "--load-balancer-class"),
		doubtless: true,
	},
	{
		name:      "OpenELB",
		runs:      ofImages("/openelb", "kubesphere/porter"),
		harmless:  neverHarmless,
		doubtless: true,
	},
	{
		name:      "ServiceLB of k3s",
		runs:      ofImages("klipper-lb"),
		harmless:  neverHarmless,
		doubtless: true,
	},
	{
		name:     "a cloud controller",
		runs:     isCloudController,
		harmless: cloudHarmless,
	},
}

// otherLoadBalancers returns a check for each other load balancer that is at work.
func (c checker) otherLoadBalancers() []v1alpha1.Check {
	const name = "OtherLoadBalancer"
	var out []v1alpha1.Check
	for _, r := range rivals {
		var harmful, spared []string
		for _, w := range c.around.Workloads {
			if !r.runs(w) {
				continue
			}
			if why := r.harmless(w); why != "" {
				spared = append(spared, tell(w)+": "+why)
			} else {
				harmful = append(harmful, tell(w))
			}
		}
		switch {
		case len(harmful) > 0 && c.beside():
			out = append(out, newCheck(name, v1alpha1.CheckOK, c.tellBeside(r.name), harmful...))
		case len(harmful) > 0 && r.doubtless:
			out = append(out, newCheck(name, v1alpha1.CheckProblem,
				r.name+" handles the same Services", harmful...))
		case len(harmful) > 0:
			out = append(out, newCheck(name, v1alpha1.CheckWarning,
				r.name+" may handle the same Services", harmful...))
		case len(spared) > 0:
			out = append(out, newCheck(name, v1alpha1.CheckOK, r.name+" leaves these Services alone",
				spared...))
		}
	}
	out = append(out, c.announcingCNIs()...)
	parts := []string{snapshot.PartDaemonSets, snapshot.PartDeployments, snapshot.PartSystemPods}
	for _, k := range foreignKinds {
		if k.Name() != ciliumBGP.Name() {
			parts = append(parts, k.Name())
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

// announcingCNIs returns a check for each network plugin that assigns or answers for
// addresses of Services.
func (c checker) announcingCNIs() []v1alpha1.Check {
	var cilium, calico []string
	for _, o := range c.around.Objects[ciliumPools.Name()] {
		if disabled, _ := o.Spec["disabled"].(bool); !disabled {
			cilium = append(cilium, "ciliumloadbalancerippool "+o.Name+": assigns addresses")
		}
	}
	for _, o := range c.around.Objects[ciliumL2.Name()] {
		cilium = append(cilium, "ciliuml2announcementpolicy "+o.Name+": answers ARP and NDP")
	}
	for _, o := range c.around.Objects[calicoPools.Name()] {
		uses, _ := o.Spec["allowedUses"].([]any)
		if slices.Contains(uses, any("LoadBalancer")) {
			calico = append(calico, "ippool "+o.Name+": assigns addresses")
		}
	}
	for _, o := range c.around.Objects[calicoBGP.Name()] {
		if ranges, _ := o.Spec["serviceLoadBalancerIPs"].([]any); len(ranges) > 0 {
			calico = append(calico, "bgpconfiguration "+o.Name+": announces addresses by BGP")
		}
	}
	for _, o := range c.around.Objects[calicoFelix.Name()] {
		if mode, _ := o.Spec["localSubnetL2Reachability"].(string); strings.Contains(mode, "LoadBalancer") {
			calico = append(calico, "felixconfiguration "+o.Name+": answers ARP and NDP")
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
		backend := envOf(w, "CALICO_NETWORKING_BACKEND")
		switch {
		case ofImages("calico/node")(w) && backend != "none" && backend != "vxlan":
			found = append(found, tell(w)+": Calico")
		case ofImages("kube-router")(w):
			found = append(found, tell(w)+": kube-router")
		}
	}
	for _, o := range c.around.Objects[ciliumBGP.Name()] {
		found = append(found, "ciliumbgpclusterconfig "+o.Name+": Cilium")
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
		snapshot.PartDaemonSets, ciliumBGP.Name()); missing {
		return unknown
	}
	return newCheck(name, v1alpha1.CheckOK, "No network plugin is seen to speak BGP from the nodes")
}
