package importing

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// container is a container of the other load balancer.
type container struct {
	ref    v1alpha1.Ref
	labels map[string]string
	corev1.Container
}

// containers returns those of DaemonSets, Deployments, and pods that belong to none. One that
// cannot be read is told.
func (c *conversion) containers() []container {
	var out []container
	for i := range c.in.Objects {
		o := &c.in.Objects[i]
		at := []string{"spec", "template"}
		switch gvk := o.GroupVersionKind(); {
		case gvk.Group == "apps" && (gvk.Kind == "DaemonSet" || gvk.Kind == "Deployment"):
		case gvk.Group == "" && gvk.Kind == "Pod" && !owned(o):
			at = nil
		default:
			continue
		}
		template := o.Object
		if at != nil {
			template, _, _ = unstructured.NestedMap(o.Object, at...) // nil if there is none
		}
		var pod corev1.PodTemplateSpec
		converter := runtime.DefaultUnstructuredConverter
		if err := converter.FromUnstructured(template, &pod); err != nil {
			c.note(v1alpha1.ImportRefused, ref(o), "", "It cannot be read: "+err.Error()+".")
			continue
		}
		for _, one := range pod.Spec.Containers {
			out = append(out, container{ref(o), pod.Labels, one})
		}
	}
	return out
}

// owned reports whether a pod belongs to a DaemonSet or the like.
func owned(o *unstructured.Unstructured) bool {
	byNode := func(r metav1.OwnerReference) bool { return r.Kind == "Node" }
	owners := o.GetOwnerReferences()
	return len(owners) > 0 && !slices.ContainsFunc(owners, byNode)
}

// component is which part of the load balancer the container is.
func (p container) component() string {
	return cmp.Or(p.labels["component"], p.labels["app.kubernetes.io/component"], p.Name)
}

// flag returns the value of a flag, "" if it is not given.
func (p container) flag(name string) string {
	words := slices.Concat(p.Command, p.Args)
	for i, word := range words {
		text := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
		if text == word {
			continue
		}
		if text == name {
			if i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
				return words[i+1]
			}
			return "true"
		}
		if value, given := strings.CutPrefix(text, name+"="); given {
			return value
		}
	}
	return ""
}

// env returns the value of a variable, "" if it is not set here.
func (p container) env(name string) string {
	for _, e := range p.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}
