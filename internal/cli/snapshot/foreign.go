package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// Foreign is a kind of objects that another product is configured with. They are read as
// they are, without a Go type.
type Foreign struct {
	// Group is the API group, "" for that of the core; Versions are those that objects may be
	// of, the first that the API server knows counts.
	Group    string
	Versions []string
	Resource string
	// Kind is what its objects call themselves.
	Kind string
	// Name is that of the only object that is wanted, "" for all.
	Name string
	// Namespaced kinds are read in all namespaces, or, if that is forbidden, in that of the
	// product; Own ones are read only there.
	Namespaced bool
	Own        bool
}

// String returns the kind as kubectl takes it, such as ipaddresspools.metallb.io.
func (k Foreign) String() string {
	out := k.Resource
	if k.Group != "" {
		out += "." + k.Group
	}
	if k.Name != "" {
		out += "/" + k.Name
	}
	return out
}

// Foreign reads objects of other products, all kinds at once. namespace is that of the
// product. A kind that the API server does not know has no objects; any other that could not
// be read is returned in unread.
func (c *Client) Foreign(
	ctx context.Context, kinds []Foreign, namespace string,
) (objects []unstructured.Unstructured, unread []v1alpha1.Unread, err error) {
	found := make([][]unstructured.Unstructured, len(kinds))
	failed := make([]*v1alpha1.Unread, len(kinds))
	var mu sync.Mutex
	answered := false
	var group errgroup.Group
	for i, k := range kinds {
		group.Go(func() error {
			list, only, err := c.foreign(ctx, k, namespace)
			mu.Lock()
			defer mu.Unlock()
			answered = answered || err == nil || isAnswer(err)
			found[i] = list
			if err != nil && !apierrors.IsNotFound(err) {
				u := UnreadOf(Kind{Name: k.String()}, err)
				u.Namespace = only
				failed[i] = &u
			}
			return nil
		})
	}
	_ = group.Wait() // each error is kept beside its kind
	for i := range kinds {
		objects = append(objects, found[i]...)
		if failed[i] != nil {
			unread = append(unread, *failed[i])
		}
	}
	if !answered && len(unread) > 0 {
		return nil, nil, fmt.Errorf("the API server cannot be asked: %s", unread[0].Message)
	}
	return objects, unread, nil
}

// foreign reads one kind. If the objects of the cluster may not be read, it reads those of
// the namespace of the product, which only names then.
func (c *Client) foreign(
	ctx context.Context, k Foreign, namespace string,
) (list []unstructured.Unstructured, only string, err error) {
	for _, version := range k.Versions {
		where := ""
		if k.Own {
			where = namespace
		}
		list, err = c.listForeign(ctx, k, version, where)
		if apierrors.IsForbidden(err) && k.Namespaced && !k.Own {
			if own, ownErr := c.listForeign(ctx, k, version, namespace); ownErr == nil {
				return own, namespace, err
			}
		}
		if !apierrors.IsNotFound(err) {
			return list, "", err
		}
	}
	return nil, "", err
}

// listForeign reads the objects of one version of a kind, page by page.
func (c *Client) listForeign(
	ctx context.Context, k Foreign, version, namespace string,
) ([]unstructured.Unstructured, error) {
	at := path.Join("/apis", k.Group, version)
	if k.Group == "" {
		at = path.Join("/api", version)
	}
	if namespace != "" {
		at = path.Join(at, "namespaces", namespace)
	}
	at = path.Join(at, k.Resource, k.Name)
	var out []unstructured.Unstructured
	limit, next := c.chunk, ""
	for {
		request := c.byGroup[coreVersion].Get().AbsPath(at).
			SetHeader("Accept", runtime.ContentTypeJSON)
		if k.Name == "" {
			request = request.Param("limit", strconv.FormatInt(limit, 10)).Param("continue", next)
		}
		raw, err := answer(ctx, request)
		if apierrors.IsResourceExpired(err) && next != "" {
			limit, next, out = 0, "", nil // it took too long: all at once, then
			continue
		}
		if err != nil {
			return nil, err
		}
		page, more, err := decodeForeign(raw, k, version)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", k, err)
		}
		out = append(out, page...)
		if next = more; next == "" {
			return out, nil
		}
	}
}

// decodeForeign reads an object, or a page of objects with what continues it.
func decodeForeign(
	raw []byte, k Foreign, version string,
) (objects []unstructured.Unstructured, next string, err error) {
	if k.Name != "" {
		var one unstructured.Unstructured
		if err := json.Unmarshal(raw, &one.Object); err != nil {
			return nil, "", err
		}
		objects = append(objects, one)
	} else {
		var list struct {
			Metadata metav1.ListMeta  `json:"metadata"`
			Items    []map[string]any `json:"items"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, "", err
		}
		for _, item := range list.Items {
			objects = append(objects, unstructured.Unstructured{Object: item})
		}
		next = list.Metadata.Continue
	}
	for i := range objects { // items of lists need not say what they are
		objects[i].SetAPIVersion(path.Join(k.Group, version))
		objects[i].SetKind(k.Kind)
		objects[i].SetManagedFields(nil)
	}
	return objects, next, nil
}
