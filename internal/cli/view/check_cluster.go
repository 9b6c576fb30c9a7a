package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// LookAround returns what Check needs to know of a cluster besides what Berth reads.
func LookAround(stage, namespace string) snapshot.LookAround {
	out := snapshot.LookAround{Foreign: foreignKinds}
	if stage != StageBefore {
		return out
	}
	for _, r := range installRights {
		if r.Namespace != "" {
			r.Namespace = namespace
		}
		out.Rights = append(out.Rights, r)
	}
	return out
}

// ownNamespace stands for Berth's own namespace in installRights.
const ownNamespace = "berth-system"

// installRights are what somebody must be allowed who applies manifests/base.
var installRights = []snapshot.Right{
	{Verb: "create", Resource: "namespaces"},
	{Verb: "create", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
	{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
	{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
	{Verb: "create", Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies"},
	{Verb: "create", Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicybindings"},
	{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "roles", Namespace: ownNamespace},
	{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "rolebindings", Namespace: ownNamespace},
	{Verb: "create", Resource: "serviceaccounts", Namespace: ownNamespace},
	{Verb: "create", Resource: "secrets", Namespace: ownNamespace},
	{Verb: "create", Group: "apps", Resource: "deployments", Namespace: ownNamespace},
	{Verb: "create", Group: "apps", Resource: "daemonsets", Namespace: ownNamespace},
	{Verb: "create", Group: "policy", Resource: "poddisruptionbudgets", Namespace: ownNamespace},
	{Verb: "create", Group: "networking.k8s.io", Resource: "networkpolicies", Namespace: ownNamespace},
}

// oldest is the oldest Kubernetes whose CRDs can check addresses as Berth's do.
var oldest = version.MustParseGeneric("1.31.0")

func (c checker) version() v1alpha1.Check {
	const name = "KubernetesVersion"
	if unknown, missing := c.unseen(name, "The version of Kubernetes", nil, snapshot.PartVersion); missing {
		return unknown
	}
	v, err := version.ParseGeneric(c.around.Version)
	if err != nil {
		return newCheck(name, v1alpha1.CheckUnknown,
			fmt.Sprintf("The API server calls its version %q, which cannot be compared", c.around.Version))
	}
	if v.LessThan(oldest) {
		return newCheck(name, v1alpha1.CheckProblem, fmt.Sprintf(
			"Kubernetes is %s; Berth needs 1.31 or later", c.around.Version))
	}
	return newCheck(name, v1alpha1.CheckOK, "Kubernetes is "+c.around.Version+", 1.31 or later")
}

func (c checker) installRights() v1alpha1.Check {
	const name = "InstallRights"
	var denied []string
	for _, r := range c.around.Denied {
		text := r.Verb + " " + strings.TrimSuffix(r.Resource+"."+r.Group, ".")
		if r.Namespace != "" {
			text += " in namespace " + r.Namespace
		}
		denied = append(denied, text)
	}
	if len(denied) > 0 {
		return newCheck(name, v1alpha1.CheckProblem,
			fmt.Sprintf("You may not install: %d rights are missing", len(denied)), denied...)
	}
	if unknown, missing := c.unseen(name, "What you may install", nil, snapshot.PartRights); missing {
		return unknown
	}
	return newCheck(name, v1alpha1.CheckOK, "You may create all that manifests/base has")
}

func (c checker) readRights() v1alpha1.Check {
	const name = "ReadRights"
	unread := c.allUnread()
	if len(unread) == 0 {
		return newCheck(name, v1alpha1.CheckOK, "Everything that is looked at could be read")
	}
	var parts []string
	for _, u := range unread {
		text := u.Kind
		if u.Namespace != "" {
			text += " but those of namespace " + u.Namespace
		}
		parts = append(parts, text+": "+u.Reason)
	}
	return newCheck(name, v1alpha1.CheckUnknown, fmt.Sprintf(
		"Not all could be read: %d kinds or objects are missing", len(parts)), parts...)
}

// labelEnforce is the label of a namespace that says which pods it admits.
const labelEnforce = "pod-security.kubernetes.io/enforce"

func (c checker) podSecurity() v1alpha1.Check {
	const name = "Namespace"
	what := "Which pods namespace " + c.Berth + " admits"
	i := slices.IndexFunc(c.Namespaces, func(n corev1.Namespace) bool { return n.Name == c.Berth })
	if i < 0 {
		if unknown, missing := c.unseen(name, what, []snapshot.Kind{snapshot.Namespaces}); missing {
			return unknown
		}
		if c.stage == StageInstalled {
			return newCheck(name, v1alpha1.CheckProblem, "There is no namespace "+c.Berth+
				": name the one that Berth runs in with --berth-namespace")
		}
		return newCheck(name, v1alpha1.CheckOK,
			"The namespace does not exist: manifests/base creates it, and it admits privileged pods")
	}
	command := fmt.Sprintf("kubectl label namespace %s %s=privileged --overwrite", c.Berth, labelEnforce)
	switch level := c.Namespaces[i].Labels[labelEnforce]; level {
	case "privileged":
		return newCheck(name, v1alpha1.CheckOK, "Namespace "+c.Berth+" admits privileged pods")
	case "":
		return with(newCheck(name, v1alpha1.CheckWarning, "Namespace "+c.Berth+" has no label "+labelEnforce+
			": the default of the cluster says whether speakers are admitted"), command)
	default:
		return with(newCheck(name, v1alpha1.CheckProblem, fmt.Sprintf(
			"Namespace %s admits pods of level %s only: speakers use the network of their nodes, "+
				"and are refused", c.Berth, level)), command)
	}
}

func (c checker) presentAddresses() v1alpha1.Check {
	const name = "PresentAddresses"
	kinds := []snapshot.Kind{snapshot.Services}
	if unknown, missing := c.unseen(name, "Which addresses Services have", kinds); missing {
		return unknown
	}
	var held []string
	for _, s := range c.services {
		if wrote, _ := assignment.Wrote(s.Service); len(s.addresses) > 0 && len(wrote) == 0 {
			held = append(held, fmt.Sprintf("%s %v", s.key(), s.addresses))
		}
	}
	if len(held) == 0 {
		return newCheck(name, v1alpha1.CheckOK, "No Service that Berth would handle has an address of "+
			"another")
	}
	return newCheck(name, v1alpha1.CheckInfo, fmt.Sprintf(
		"Services with an address of another: %d. Each keeps it if a pool contains it", len(held)), held...)
}

// isLinux reports whether a node may run a speaker.
func isLinux(n *corev1.Node) bool {
	return cmp.Or(n.Labels[corev1.LabelOSStable], "linux") == "linux"
}

func (c checker) families() v1alpha1.Check {
	const name = "Families"
	if unknown, missing := c.unseen(name, "Which addresses nodes have",
		[]snapshot.Kind{snapshot.Nodes}); missing {
		return unknown
	}
	var without4, without6 []string
	linux := 0
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if !isLinux(n) {
			continue
		}
		linux++
		four, six := false, false
		for _, addr := range config.AddressesOf(n) {
			four, six = four || addr.Is4(), six || addr.Is6()
		}
		if !four {
			without4 = append(without4, n.Name)
		}
		if !six {
			without6 = append(without6, n.Name)
		}
	}
	switch {
	case linux == 0:
		return newCheck(name, v1alpha1.CheckProblem, "There is no Linux node: speakers run on no others")
	case len(without4) == 0 && len(without6) == 0:
		return newCheck(name, v1alpha1.CheckOK, "All nodes have IPv4 and IPv6 addresses")
	case len(without4) == 0:
		return newCheck(name, v1alpha1.CheckOK, "All nodes have IPv4 addresses, by which speakers reach "+
			"each other")
	case len(without6) == 0:
		return newCheck(name, v1alpha1.CheckOK, "All nodes have IPv6 addresses, by which speakers reach "+
			"each other")
	}
	return newCheck(name, v1alpha1.CheckProblem, "Nodes have no address family in common",
		"without IPv4: "+firstNamed(without4), "without IPv6: "+firstNamed(without6))
}

// labelControlPlane marks control planes.
const labelControlPlane = "node-role.kubernetes.io/control-plane"

func (c checker) excludeLabel() v1alpha1.Check {
	const name = "ExcludeLabel"
	if unknown, missing := c.unseen(name, "Which nodes are excluded",
		[]snapshot.Kind{snapshot.Nodes}); missing {
		return unknown
	}
	var workers, planes []string
	free := 0
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if !isLinux(n) {
			continue
		}
		row := marksOf(announcement.ParseNode(n), c.speaker(n.Name))
		_, plane := n.Labels[labelControlPlane]
		switch {
		case !slices.Contains(row, "Excluded"):
			free++
		case plane:
			planes = append(planes, n.Name)
		default:
			workers = append(workers, n.Name)
		}
	}
	remove := "kubectl label nodes NODE " + corev1.LabelNodeExcludeBalancers + "-"
	excluded := slices.Concat(workers, planes)
	switch {
	case len(excluded) == 0:
		return newCheck(name, v1alpha1.CheckOK, "No node is kept from announcing by its exclude label")
	case free == 0:
		return with(newCheck(name, v1alpha1.CheckWarning,
			"All nodes carry the exclude label: they announce until a node without it has a working speaker",
			firstNamed(excluded)), remove)
	case len(workers) > 0:
		return with(newCheck(name, v1alpha1.CheckWarning, fmt.Sprintf(
			"The exclude label keeps %d of %d nodes from announcing", len(excluded), len(excluded)+free),
			firstNamed(excluded)), remove)
	}
	return newCheck(name, v1alpha1.CheckOK, fmt.Sprintf(
		"%d of %d nodes announce; control planes carry the exclude label", free, len(excluded)+free))
}

// proxyConfig is what matters here of kube-proxy's configuration.
type proxyConfig struct {
	Mode string `json:"mode"`
	IPVS struct {
		StrictARP bool `json:"strictARP"`
	} `json:"ipvs"`
}

func (c checker) serviceProxy() v1alpha1.Check {
	const name = "ServiceProxy"
	if unknown, missing := c.unseen(name, "The mode of kube-proxy", nil, snapshot.PartProxy); missing {
		return unknown
	}
	if c.around.Proxy == nil {
		return newCheck(name, v1alpha1.CheckInfo,
			"There is no "+snapshot.PartProxy+": how Services are proxied "+
				"is not seen. kube-proxy in IPVS mode needs strictARP; without kube-proxy, set "+
				"BERTH_PROXY_HEALTH_PORT=0")
	}
	var parsed proxyConfig
	if err := yaml.Unmarshal([]byte(c.around.Proxy["config.conf"]), &parsed); err != nil {
		return newCheck(name, v1alpha1.CheckUnknown, "The configuration in "+snapshot.PartProxy+" is no YAML")
	}
	mode := cmp.Or(parsed.Mode, "iptables")
	switch {
	case mode == "ipvs" && !parsed.IPVS.StrictARP:
		return with(newCheck(name, v1alpha1.CheckProblem,
			"kube-proxy is in IPVS mode without strictARP: every node answers for every address"),
			"kubectl -n kube-system edit configmap kube-proxy")
	case mode == "ipvs":
		return newCheck(name, v1alpha1.CheckOK, "kube-proxy is in IPVS mode, with strictARP")
	}
	return newCheck(name, v1alpha1.CheckOK, "kube-proxy is in "+mode+" mode")
}

// speakerPorts are what a speaker uses on its node, as it is installed.
var speakerPorts = []int32{7947, 9740, 9741}

func (c checker) ports() v1alpha1.Check {
	const name = "Ports"
	var taken []string
	for _, w := range c.around.Workloads {
		if c.isOwn(w) {
			continue
		}
		for _, container := range w.Pod.Containers {
			for _, p := range container.Ports {
				port := p.HostPort
				if w.Pod.HostNetwork {
					port = cmp.Or(port, p.ContainerPort)
				}
				if slices.Contains(speakerPorts, port) {
					taken = append(taken, fmt.Sprintf("%s: port %d", tell(w), port))
				}
			}
		}
	}
	if len(taken) > 0 {
		return newCheck(name, v1alpha1.CheckProblem, "Ports of nodes that speakers use are taken", taken...)
	}
	if unknown, missing := c.unseen(name, "Which ports of nodes are taken", nil,
		snapshot.PartDaemonSets, snapshot.PartDeployments, snapshot.PartSystemPods); missing {
		return unknown
	}
	return newCheck(name, v1alpha1.CheckOK, "No DaemonSet or Deployment names ports 7947, 9740 or 9741 of "+
		"nodes. "+
		"Other processes, and firewalls, are not seen from here")
}

// isOwn reports whether a workload is of Berth.
func (c checker) isOwn(w snapshot.Workload) bool {
	return w.Namespace == c.Berth && w.Labels["app.kubernetes.io/name"] == "berth"
}

// tell names a workload.
func tell(w snapshot.Workload) string { return w.Kind + " " + w.Namespace + "/" + w.Name }
