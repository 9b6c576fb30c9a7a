package suite

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/jsonpath"

	"github.com/berth-lb/berth/e2e/lab"
)

// A reader reads objects from the API server of a lab. It does what `kubectl get` does, and does not start a
// process for it: the suite asks thousands of times, and a tenth of a second of a processor each is more than
// the tests themselves take.
type reader struct {
	objects dynamic.Interface
	kinds   *restmapper.DeferredDiscoveryRESTMapper
}

// readers has the reader of each lab.
var readers = struct {
	sync.Mutex
	of map[*lab.Lab]*reader
}{of: map[*lab.Lab]*reader{}}

// readerOf returns the reader of a lab. It keeps its connections.
func readerOf(l *lab.Lab) (*reader, error) {
	readers.Lock()
	defer readers.Unlock()
	if r := readers.of[l]; r != nil {
		return r, nil
	}
	config, err := restConfig(l)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	r := &reader{objects, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kinds))}
	readers.of[l] = r
	return r, nil
}

// restConfig is for clients of a lab's API server that are its administrator, and ask as fast as they can.
func restConfig(l *lab.Lab) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.API().Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Dial = l.API().Dial
	config.QPS = -1
	return config, nil
}

// A query is what is to be read: one object, or all of a kind that the selectors leave.
type query struct {
	kind, name, namespace string
	options               metav1.ListOptions
}

// parseQuery understands the words of `kubectl get` that the suite uses.
func parseQuery(text string) (query, error) {
	q := query{namespace: metav1.NamespaceDefault}
	words := strings.Fields(strings.TrimPrefix(text, "get "))
	for i := 0; i < len(words); i++ {
		value := func() string { i++; return words[min(i, len(words)-1)] }
		switch word := words[i]; {
		case word == "-n":
			q.namespace = value()
		case word == "-A":
			q.namespace = metav1.NamespaceAll
		case word == "-l":
			q.options.LabelSelector = value()
		case word == "--field-selector":
			q.options.FieldSelector = value()
		case strings.HasPrefix(word, "-"), q.name != "":
			return q, fmt.Errorf("%q: %q is not understood", text, word)
		case q.kind != "":
			q.name = word
		default:
			q.kind, q.name, _ = strings.Cut(word, "/")
		}
	}
	return q, nil
}

// read returns the content of the object, or of the list of objects; nothing for an object that is not there.
func (r *reader) read(ctx context.Context, text string) (map[string]any, error) {
	q, err := parseQuery(text)
	if err != nil {
		return nil, err
	}
	kind, err := r.kinds.KindFor(schema.GroupVersionResource{Resource: q.kind})
	if meta.IsNoMatchError(err) {
		r.kinds.Reset() // Berth's kinds may have come since
		kind, err = r.kinds.KindFor(schema.GroupVersionResource{Resource: q.kind})
	}
	if err != nil {
		return nil, err
	}
	mapping, err := r.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	var of dynamic.ResourceInterface = r.objects.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		of = r.objects.Resource(mapping.Resource).Namespace(q.namespace)
	}
	if q.name == "" {
		list, err := of.List(ctx, q.options)
		if err != nil {
			return nil, err
		}
		return list.UnstructuredContent(), nil
	}
	object, err := of.Get(ctx, q.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return object.UnstructuredContent(), nil
}

// fetch reads what `kubectl get` shows, such as "get service web", and fails the test when that fails.
func fetch(t *testing.T, what string) map[string]any {
	t.Helper()
	r, err := readerOf(cluster)
	if err != nil {
		t.Fatal(err)
	}
	content, err := r.read(t.Context(), what)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return content
}

// filled fills in a template as `kubectl get -o jsonpath` does. What is missing is left out.
func filled(t *testing.T, content map[string]any, template string) string {
	t.Helper()
	if content == nil {
		return ""
	}
	parser := jsonpath.New("").AllowMissingKeys(true)
	if err := parser.Parse(template); err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	var out bytes.Buffer
	if err := parser.Execute(&out, content); err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	return out.String()
}

// show is fetch with a template.
func show(t *testing.T, what, template string) string {
	t.Helper()
	return filled(t, fetch(t, what), template)
}

// get reads one field of an object by a JSONPath; "" while the object or the field is missing.
func get(t *testing.T, object, path string) string {
	t.Helper()
	return show(t, object, "{"+path+"}")
}

// address returns the addresses of a Service, separated by spaces.
func address(t *testing.T, service string) string {
	t.Helper()
	return get(t, "get service "+service, ".status.loadBalancer.ingress[*].ip")
}

// condition is reason and message of the condition that Berth writes.
func condition(t *testing.T, object, kind string) string {
	t.Helper()
	of := fmt.Sprintf(`.status.conditions[?(@.type=="%s")]`, kind)
	return show(t, "get "+object, "{"+of+".reason}: {"+of+".message}")
}
