// Package snapshot reads from the API server what kubectl-berth decides and prints by.
// Nothing that cannot be read is taken for nothing: each kind has its error.
package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/berth-lb/berth/internal/kube"
)

// coreVersion is the version of the parameters of every list and watch.
var coreVersion = schema.GroupVersion{Version: "v1"}

// parameters encodes the options of lists and watches.
var parameters = func() runtime.ParameterCodec {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, coreVersion)
	return runtime.NewParameterCodec(s)
}()

// Client reads objects. It asks the API server for nothing but these: no discovery.
type Client struct {
	byGroup map[schema.GroupVersion]*rest.RESTClient
	// chunk is how many objects the API server is asked for at once; 0 for all.
	chunk int64
}

// NewClient returns a Client that asks for so many objects at once, 0 for all.
func NewClient(config *rest.Config, chunk int64) (*Client, error) {
	scheme := kube.Scheme()
	c := &Client{byGroup: map[schema.GroupVersion]*rest.RESTClient{}, chunk: chunk}
	shared := rest.CopyConfig(config)
	shared.QPS = -1 // the API server's priority and fairness says how fast
	shared.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	transport, err := rest.HTTPClientFor(shared)
	if err != nil {
		return nil, fmt.Errorf("prepare to talk to the API server: %w", err)
	}
	for _, r := range readers {
		if c.byGroup[r.version] != nil {
			continue
		}
		one := rest.CopyConfig(shared)
		one.GroupVersion, one.APIPath = &r.version, "/apis"
		if r.version.Group == "" {
			one.APIPath = "/api"
		}
		if !r.custom {
			one.ContentType = runtime.ContentTypeProtobuf
			one.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		}
		if c.byGroup[r.version], err = rest.RESTClientForConfigAndClient(one, transport); err != nil {
			return nil, fmt.Errorf("prepare to read %s: %w", r.Name, err)
		}
	}
	return c, nil
}

// list reads all objects of a kind, in a namespace or, if it is "", in all. take is called
// with each page.
func (c *Client) list(
	ctx context.Context, k Kind, options metav1.ListOptions, namespace string,
	empty func() runtime.Object, take func(runtime.Object, bool),
) error {
	first := true
	for {
		page := empty()
		err := c.get(k, namespace).SpecificallyVersionedParams(&options, parameters, coreVersion).
			Do(ctx).Into(page)
		if apierrors.IsResourceExpired(err) && options.Continue != "" {
			// It took too long: all at once, then.
			options.Continue, options.Limit, options.ResourceVersion, first = "", 0, "", true
			continue
		}
		if err != nil {
			return err
		}
		take(page, first)
		first = false
		list, err := meta.ListAccessor(page)
		if err != nil || list.GetContinue() == "" {
			return err
		}
		options.Continue, options.ResourceVersion = list.GetContinue(), ""
	}
}

func (c *Client) get(k Kind, namespace string) *rest.Request {
	return c.byGroup[k.version].Get().NamespaceIfScoped(namespace, namespace != "").Resource(k.resource)
}

// watch follows the objects of a kind.
func (c *Client) watch(
	ctx context.Context, k Kind, options metav1.ListOptions, namespace string,
) (watch.Interface, error) {
	options.Watch = true
	return c.get(k, namespace).SpecificallyVersionedParams(&options, parameters, coreVersion).Watch(ctx)
}

// answer returns what the API server answers to a request for JSON. An error has the words of the API server,
// which the client itself reads only from answers of the type that it asks for otherwise.
func answer(ctx context.Context, r *rest.Request) ([]byte, error) {
	raw, err := r.Do(ctx).Raw()
	var failed *apierrors.StatusError
	var said metav1.Status
	if errors.As(err, &failed) && json.Unmarshal(raw, &said) == nil && said.Message != "" {
		failed.ErrStatus.Message = said.Message
	}
	return raw, err
}

// ServerVersion returns the version of the API server.
func (c *Client) ServerVersion(ctx context.Context) (string, error) {
	var info version.Info
	raw, err := c.byGroup[coreVersion].Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return "", fmt.Errorf("read the version of the API server: %w", err)
	}
	if err := json.Unmarshal(raw, &info); err != nil {
		return "", fmt.Errorf("read the version of the API server: %w", err)
	}
	return info.GitVersion, nil
}
