package view

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// ReportKinds are the kinds that a report has, in the order in which it has them: what says
// most comes first.
var ReportKinds = slices.Concat(snapshot.ConfigKinds, []snapshot.Kind{
	snapshot.Speakers, snapshot.Deployments, snapshot.DaemonSets, snapshot.ConfigMaps, snapshot.Pods,
	snapshot.Leases, snapshot.Nodes, snapshot.Services, snapshot.EndpointSlices, snapshot.Namespaces,
})

// PodLogs is a pod whose logs a report has.
type PodLogs struct {
	Pod, Component string
	Containers     []string
	// Restarted are those containers that ran before.
	Restarted []string
}

// LogOrder returns the pods of Berth whose logs say most first: those of controllers, those
// that are not ready, those of nodes with problems, and then the others, by name.
func (f *Facts) LogOrder(problems []v1alpha1.Problem) []PodLogs {
	troubled := map[string]bool{}
	for _, p := range problems {
		if p.Object.Kind == speakerRef("").Kind {
			troubled[p.Object.Name] = true
		}
	}
	type ranked struct {
		PodLogs
		rank int
	}
	var list []ranked
	for i := range f.Pods {
		p := &f.Pods[i]
		component := p.Labels["app.kubernetes.io/component"]
		if component != "controller" && component != "speaker" {
			continue
		}
		one := ranked{PodLogs{Pod: p.Name, Component: component}, 3}
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		switch {
		case component == "controller":
			one.rank = 0
		case !ready:
			one.rank = 1
		case troubled[p.Spec.NodeName]:
			one.rank = 2
		}
		for _, c := range p.Spec.Containers {
			one.Containers = append(one.Containers, c.Name)
		}
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount > 0 {
				one.Restarted = append(one.Restarted, c.Name)
			}
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Pod, b.Pod))
	})
	out := make([]PodLogs, 0, len(list))
	for _, one := range list {
		out = append(out, one.PodLogs)
	}
	return out
}

// InReport returns which objects of a kind belong into a report: nil for all. Of Services
// only those of type LoadBalancer do, and their endpoints.
func (f *Facts) InReport(k snapshot.Kind) func(namespace, name string) bool {
	balanced := map[string]bool{}
	for i := range f.Services {
		if s := &f.Services[i]; s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			balanced[s.Namespace+"/"+s.Name] = true
		}
	}
	switch k.Name {
	case snapshot.Services.Name:
		return func(namespace, name string) bool { return balanced[namespace+"/"+name] }
	case snapshot.EndpointSlices.Name:
		of := map[string]bool{}
		for i := range f.EndpointSlices {
			s := &f.EndpointSlices[i]
			of[s.Namespace+"/"+s.Name] = balanced[s.Namespace+"/"+s.Labels[discoveryv1.LabelServiceName]]
		}
		return func(namespace, name string) bool { return of[namespace+"/"+name] }
	case snapshot.Events.Name:
		of := map[string]bool{}
		for i := range f.Events {
			e := &f.Events[i]
			about := e.InvolvedObject
			ours := e.Namespace == f.Berth || about.GroupVersionKind().Group == v1beta1.GroupVersion.Group
			of[e.Namespace+"/"+e.Name] = ours || about.Kind == "Node" ||
				about.Kind == "Service" && balanced[about.Namespace+"/"+about.Name]
		}
		return func(namespace, name string) bool { return of[namespace+"/"+name] }
	}
	return nil
}

// Named is a name that somebody chose, and what it is the name of.
type Named struct{ Kind, Name string }

// UsualNames are those that every cluster has, and that tell nothing of anybody.
func (f *Facts) UsualNames() []string {
	return []string{
		f.Berth, "default", "kube-system", "kube-public", "kube-node-lease", "kubernetes", "kube-proxy",
		"berth", "berth-controller", "berth-speaker", "berth-memberlist", "controller", "speaker",
		"localhost", "true", "false",
	}
}

// ChosenNames returns the names in a report that somebody chose.
func (f *Facts) ChosenNames() []Named {
	var out []Named
	add := func(kind string, names ...string) {
		for _, name := range names {
			out = append(out, Named{kind, name})
		}
	}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		add("NODE", n.Name, n.Labels[corev1.LabelHostname])
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeHostName || a.Type == corev1.NodeInternalDNS ||
				a.Type == corev1.NodeExternalDNS {
				add("NODE", a.Address)
			}
		}
	}
	for i := range f.Speakers {
		add("NODE", f.Speakers[i].Name)
	}
	for i := range f.Namespaces {
		add("NAMESPACE", f.Namespaces[i].Name)
	}
	for i := range f.Services {
		if s := &f.Services[i]; s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			add("NAMESPACE", s.Namespace)
			add("SERVICE", s.Name)
		}
	}
	out = append(out, f.configuredNames()...)
	for i := range f.EndpointSlices {
		for _, e := range f.EndpointSlices[i].Endpoints {
			if e.TargetRef != nil {
				add("POD", e.TargetRef.Name)
			}
		}
	}
	for i := range f.Events {
		if about := f.Events[i].InvolvedObject; about.Namespace != f.Berth {
			add("OBJECT", about.Name)
		}
	}
	return out
}

// configuredNames returns the names of what Berth is configured with.
func (f *Facts) configuredNames() []Named {
	var out []Named
	add := func(kind, name string) { out = append(out, Named{kind, name}) }
	for i := range f.Pools {
		add("POOL", f.Pools[i].Name)
	}
	for i := range f.L2Advertisements {
		add("ADVERTISEMENT", f.L2Advertisements[i].Name)
	}
	for i := range f.BGPAdvertisements {
		add("ADVERTISEMENT", f.BGPAdvertisements[i].Name)
	}
	for i := range f.BGPPeers {
		p := &f.BGPPeers[i]
		add("PEER", p.Name)
		if p.Spec.PasswordSecret != nil {
			add("SECRET", p.Spec.PasswordSecret.Name)
		}
	}
	for i := range f.BFDProfiles {
		add("PROFILE", f.BFDProfiles[i].Name)
	}
	for i := range f.Communities {
		c := &f.Communities[i]
		add("COMMUNITY", c.Name)
		for _, alias := range c.Spec.Communities {
			add("COMMUNITY", alias.Name)
		}
	}
	return out
}
