package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// SystemNamespace is where clusters run kube-proxy, and keep its settings.
const SystemNamespace = metav1.NamespaceSystem

// Parts of Surroundings, as they are named where they could not be read.
const (
	PartVersion     = "the version of Kubernetes"
	PartDaemonSets  = "daemonsets.apps of all namespaces"
	PartDeployments = "deployments.apps of all namespaces"
	PartSystemPods  = "pods of namespace " + SystemNamespace
	PartRights      = "selfsubjectaccessreviews.authorization.k8s.io"
	PartProxy       = "configmap " + SystemNamespace + "/kube-proxy"
)

// Right is something that a user may do, or not.
type Right struct {
	Verb, Group, Resource string
	// Namespace is where, "" for the whole cluster.
	Namespace string
}

// Workload is what runs pods: a DaemonSet, a Deployment, or a static pod.
type Workload struct {
	Kind, Namespace, Name string
	Labels                map[string]string // its own
	Pod                   corev1.PodSpec
}

// Surroundings is what there is in a cluster besides what Berth reads itself, as far as it
// could be read.
type Surroundings struct {
	// Version is that of the API server.
	Version   string
	Workloads []Workload
	// Objects are those of foreign kinds, by the name of the kind. A kind that is not
	// installed has none.
	Objects map[string][]unstructured.Unstructured
	// Proxy is the configuration of kube-proxy, nil if there is none.
	Proxy map[string]string
	// Denied are those of the rights that were asked about that the user does not have.
	Denied []Right

	unread map[string]v1alpha1.Unread
}

// LookAround says what to read for Surroundings.
type LookAround struct {
	Foreign []Foreign
	Rights  []Right
}

// NewSurroundings returns Surroundings of which nothing has been read and nothing failed.
func NewSurroundings() *Surroundings {
	return &Surroundings{
		Objects: map[string][]unstructured.Unstructured{},
		unread:  map[string]v1alpha1.Unread{},
	}
}

// SetUnread records that a part could not be read.
func (s *Surroundings) SetUnread(part string, err error) {
	s.unread[part] = UnreadOf(Kind{Name: part}, err)
}

// Why says why a part could not be read; ok is false if it was.
func (s *Surroundings) Why(part string) (u v1alpha1.Unread, ok bool) {
	u, ok = s.unread[part]
	return u, ok
}

// Unread returns the parts that could not be read, by name.
func (s *Surroundings) Unread() []v1alpha1.Unread {
	var out []v1alpha1.Unread
	for _, u := range s.unread {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b v1alpha1.Unread) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}

// mostAtOnce is how many requests wait for the API server at a time.
const mostAtOnce = 8

// Look reads the surroundings, all parts at once.
func Look(ctx context.Context, c *Client, what LookAround) *Surroundings {
	s := NewSurroundings()
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	part := func(name string, read func() (func(), error)) {
		group.Go(func() error {
			put, err := read()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.SetUnread(name, err)
				return nil
			}
			put()
			return nil
		})
	}

	part(PartVersion, func() (func(), error) {
		version, err := c.ServerVersion(ctx)
		return func() { s.Version = version }, err
	})
	add := func(list []Workload, err error) (func(), error) {
		return func() { s.Workloads = append(s.Workloads, list...) }, err
	}
	part(PartDaemonSets, func() (func(), error) { return add(c.daemonSets(ctx)) })
	part(PartDeployments, func() (func(), error) { return add(c.deployments(ctx)) })
	part(PartSystemPods, func() (func(), error) { return add(c.staticPods(ctx)) })
	part(PartProxy, func() (func(), error) {
		data, err := c.configMap(ctx, SystemNamespace, "kube-proxy")
		return func() { s.Proxy = data }, err
	})
	for _, k := range what.Foreign {
		part(k.String(), func() (func(), error) {
			list, _, err := c.foreign(ctx, k, "")
			if apierrors.IsNotFound(err) {
				return func() {}, nil // it is not installed
			}
			return func() { s.Objects[k.String()] = list }, err
		})
	}
	for _, r := range what.Rights {
		part(PartRights, func() (func(), error) {
			allowed, err := c.may(ctx, r)
			return func() {
				if !allowed {
					s.Denied = append(s.Denied, r)
				}
			}, err
		})
	}
	_ = group.Wait() // each error is kept beside its part

	s.sort()
	return s
}

// sort puts in order what was read in any.
func (s *Surroundings) sort() {
	slices.SortFunc(s.Workloads, func(a, b Workload) int {
		return cmp.Or(
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Name, b.Name),
		)
	})
	slices.SortFunc(s.Denied, func(a, b Right) int {
		return cmp.Or(
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Group, b.Group),
			cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Verb, b.Verb),
		)
	})
}

// workloads reads the objects of a kind page by page, and keeps of each what of returns.
func (c *Client) workloads(
	ctx context.Context, k Kind, namespace string, empty func() runtime.Object,
	of func(page runtime.Object) []Workload,
) ([]Workload, error) {
	var out []Workload
	options := metav1.ListOptions{Limit: c.chunk, ResourceVersion: "0"}
	err := c.list(ctx, k, options, namespace, empty, func(page runtime.Object, first bool) {
		if first {
			out = nil
		}
		out = append(out, of(page)...)
	})
	return out, err
}

func (c *Client) daemonSets(ctx context.Context) ([]Workload, error) {
	empty := func() runtime.Object { return &appsv1.DaemonSetList{} }
	return c.workloads(ctx, DaemonSets, "", empty, func(page runtime.Object) []Workload {
		var out []Workload
		for _, d := range page.(*appsv1.DaemonSetList).Items {
			out = append(out, Workload{"daemonset", d.Namespace, d.Name, d.Labels, d.Spec.Template.Spec})
		}
		return out
	})
}

func (c *Client) deployments(ctx context.Context) ([]Workload, error) {
	empty := func() runtime.Object { return &appsv1.DeploymentList{} }
	return c.workloads(ctx, Deployments, "", empty, func(page runtime.Object) []Workload {
		var out []Workload
		for _, d := range page.(*appsv1.DeploymentList).Items {
			if d.Spec.Replicas == nil || *d.Spec.Replicas > 0 {
				out = append(out, Workload{"deployment", d.Namespace, d.Name, d.Labels, d.Spec.Template.Spec})
			}
		}
		return out
	})
}

// staticPods returns the pods of the system's namespace that a kubelet runs from a file of
// its node: no other object shows them.
func (c *Client) staticPods(ctx context.Context) ([]Workload, error) {
	empty := func() runtime.Object { return &corev1.PodList{} }
	return c.workloads(ctx, Pods, SystemNamespace, empty, func(page runtime.Object) []Workload {
		var out []Workload
		for _, p := range page.(*corev1.PodList).Items {
			if p.Annotations[corev1.MirrorPodAnnotationKey] != "" {
				out = append(out, Workload{"pod", p.Namespace, p.Name, p.Labels, p.Spec})
			}
		}
		return out
	})
}

// configMap returns the data of a ConfigMap, nil if there is none of that name.
func (c *Client) configMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	var read corev1.ConfigMap
	err := c.get(ConfigMaps, namespace).Name(name).Do(ctx).Into(&read)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case read.Data == nil:
		return map[string]string{}, nil
	}
	return read.Data, nil
}

// asJSON has a request of the core's client answered with JSON.
func (c *Client) asJSON(r *rest.Request) *rest.Request {
	return r.SetHeader("Accept", runtime.ContentTypeJSON)
}

// may asks the API server whether the user has a right. Nothing is stored by that.
func (c *Client) may(ctx context.Context, r Right) (bool, error) {
	review := authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{
			APIVersion: authorizationv1.SchemeGroupVersion.String(),
			Kind:       "SelfSubjectAccessReview",
		},
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: r.Namespace,
				Verb:      r.Verb,
				Group:     r.Group,
				Resource:  r.Resource,
			},
		},
	}
	body, err := json.Marshal(review)
	if err != nil {
		return false, err
	}
	request := c.asJSON(c.byGroup[coreVersion].Post()).
		AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").
		SetHeader("Content-Type", runtime.ContentTypeJSON).Body(body)
	raw, err := answer(ctx, request)
	if err != nil {
		return false, err
	}
	var answer authorizationv1.SelfSubjectAccessReview
	if err := json.Unmarshal(raw, &answer); err != nil {
		return false, err
	}
	if answer.Status.EvaluationError != "" && !answer.Status.Allowed {
		return false, errors.New(answer.Status.EvaluationError)
	}
	return answer.Status.Allowed, nil
}
