// Package clitest has an API server in memory for the tests of kubectl-berth: it lists and
// watches objects over HTTP, in pages, as JSON or protobuf, and refuses what it is told to.
package clitest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/kube"
)

var (
	scheme = kube.Scheme()
	codecs = serializer.NewCodecFactory(scheme)
)

// Server is an API server in memory.
type Server struct {
	// Forbidden are resources, such as services, that may not be read in all namespaces;
	// Missing are those that are not installed. They are set before the first request.
	Forbidden, Missing map[string]bool
	// MissingIn are resources of one API group that are not installed, by group.
	MissingIn map[string][]string
	// AllowedIn is the only namespace in which forbidden resources may be read, "" for none.
	AllowedIn string
	// Denied are rights that the user does not have, such as "create secrets".
	Denied map[string]bool
	// Raw are answers to requests of a path. They are set before the first request.
	Raw map[string]string

	mu       sync.Mutex
	byKind   map[schema.GroupVersionResource][]client.Object // by namespace and name
	watchers map[schema.GroupVersionResource][]chan metav1.WatchEvent
	pages    map[string][]byte // encoded, by request
	requests []string
}

// New returns a Server that has objects.
func New(objects ...client.Object) *Server {
	s := &Server{
		Forbidden: map[string]bool{},
		Missing:   map[string]bool{},
		MissingIn: map[string][]string{},
		byKind:    map[schema.GroupVersionResource][]client.Object{},
		watchers:  map[schema.GroupVersionResource][]chan metav1.WatchEvent{},
		pages:     map[string][]byte{},
	}
	for _, o := range objects {
		resource := resourceOf(o)
		s.byKind[resource] = append(s.byKind[resource], o)
	}
	for _, list := range s.byKind {
		slices.SortFunc(list, func(a, b client.Object) int {
			return cmp.Or(
				cmp.Compare(a.GetNamespace(), b.GetNamespace()),
				cmp.Compare(a.GetName(), b.GetName()),
			)
		})
	}
	return s
}

// resourceOf returns the resource of an object.
func resourceOf(o client.Object) schema.GroupVersionResource {
	gvk, err := apiutil.GVKForObject(o, scheme)
	if err != nil {
		panic(err) // a test has an object of an unknown kind
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	resource, _ := meta.UnsafeGuessKindToResource(gvk)
	if other := resources[gvk.Kind]; other != "" {
		resource.Resource = other
	}
	return resource
}

// resources are those of kinds that are not called as they are, in the plural.
var resources = map[string]string{"BGPConfiguration": "configs"}

// Load returns the objects in a file of YAML documents.
func Load(t testing.TB, path string) []client.Object {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []client.Object
	for i, document := range strings.Split(string(raw), "\n---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		asJSON, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			t.Fatalf("%s, document %d: %v", path, i+1, err)
		}
		foreign := &unstructured.Unstructured{}
		if err := json.Unmarshal(asJSON, &foreign.Object); err != nil {
			t.Fatalf("%s, document %d: %v", path, i+1, err)
		}
		if !scheme.Recognizes(foreign.GroupVersionKind()) {
			out = append(out, foreign) // of another product
			continue
		}
		o, _, err := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer().
			Decode(asJSON, nil, nil)
		if err != nil {
			t.Fatalf("%s, document %d: %v", path, i+1, err)
		}
		out = append(out, o.(client.Object))
	}
	return out
}

// Start serves until the test ends, and returns the path of a kubeconfig file for it.
func (s *Server) Start(t testing.TB) (kubeconfig string) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		s.stopWatches()
		server.Close()
	})
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: lab, namespace: shop}}]
clusters: [{name: lab, cluster: {server: %q}}]
users: [{name: lab, user: {}}]
`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// Requests returns the paths that were asked for.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// asked is a request for objects.
type asked struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

// parse reads the path of a request.
func parse(path string) (asked, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var out asked
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		out.resource = schema.GroupVersionResource{Version: parts[1]}
		parts = parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		out.resource = schema.GroupVersionResource{Group: parts[1], Version: parts[2]}
		parts = parts[3:]
	default:
		return out, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		out.namespace, parts = parts[1], parts[2:]
	}
	out.resource.Resource = parts[0]
	if len(parts) > 1 {
		out.name = parts[1]
	}
	return out, true
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.URL.Path)
	s.mu.Unlock()
	if r.URL.Path == "/version" {
		_ = json.NewEncoder(w).Encode(map[string]string{"gitVersion": "v1.36.3"})
		return
	}
	if s.special(w, r) {
		return
	}
	want, ok := parse(r.URL.Path)
	of := want.resource.GroupResource()
	switch {
	case !ok || s.Missing[of.Resource] || slices.Contains(s.MissingIn[of.Group], of.Resource):
		http.NotFound(w, r)
		return
	case s.Forbidden[of.Resource] && (want.namespace == "" || want.namespace != s.AllowedIn):
		refuse(w, apierrors.NewForbidden(of, want.name, fmt.Errorf("user \"reader\" cannot list resource %q",
			of.Resource)))
		return
	case !s.knows(want.resource):
		http.NotFound(w, r)
		return
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, want)
		return
	}
	s.list(w, r, want)
}

// knows reports whether a kind is of Kubernetes or Berth, or there are objects of it.
func (s *Server) knows(resource schema.GroupVersionResource) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := emptyList(resource)
	return err == nil || len(s.byKind[resource]) > 0
}

func refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

// selected returns the objects that a request is for.
func (s *Server) selected(want asked, r *http.Request) []client.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	selector, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		selector = fields.Nothing()
	}
	var out []client.Object
	for _, o := range s.byKind[want.resource] {
		set := fields.Set{"metadata.name": o.GetName()}
		if e, ok := o.(*corev1.Event); ok {
			set["involvedObject.kind"] = e.InvolvedObject.Kind
			set["involvedObject.name"] = e.InvolvedObject.Name
		}
		if (want.namespace == "" || o.GetNamespace() == want.namespace) &&
			(want.name == "" || o.GetName() == want.name) && selector.Matches(set) {
			out = append(out, o)
		}
	}
	return out
}

// list answers with a page of objects, or with one object.
func (s *Server) list(w http.ResponseWriter, r *http.Request, want asked) {
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	if strings.HasPrefix(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		types := codecs.SupportedMediaTypes()
		info, _ = runtime.SerializerInfoForMediaType(types, runtime.ContentTypeProtobuf)
	}
	w.Header().Set("Content-Type", info.MediaType)
	key := info.MediaType + r.URL.String()
	s.mu.Lock()
	page, known := s.pages[key]
	s.mu.Unlock()
	if !known {
		objects := s.selected(want, r)
		if want.name != "" && len(objects) == 0 {
			refuse(w, apierrors.NewNotFound(want.resource.GroupResource(), want.name))
			return
		}
		var err error
		if page, err = encode(info.Serializer, r, want, objects); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.mu.Lock()
		s.pages[key] = page
		s.mu.Unlock()
	}
	_, _ = w.Write(page)
}

// encode returns the answer to a request.
func encode(
	s runtime.Serializer, r *http.Request, want asked, objects []client.Object,
) ([]byte, error) {
	encoder := codecs.EncoderForVersion(s, want.resource.GroupVersion())
	if want.name != "" {
		return runtime.Encode(encoder, objects[0])
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	to := len(objects)
	if limit > 0 {
		to = min(to, from+limit)
	}
	if len(objects) > 0 && isForeign(objects[0]) {
		return foreignPage(objects[from:to], to, len(objects))
	}
	list, err := emptyList(want.resource)
	if err != nil {
		return nil, err
	}
	var items []runtime.Object
	for _, o := range objects[from:to] {
		items = append(items, o)
	}
	if err := meta.SetList(list, items); err != nil {
		return nil, err
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	accessor.SetResourceVersion("1")
	if to < len(objects) {
		accessor.SetContinue(strconv.Itoa(to))
	}
	return runtime.Encode(encoder, list)
}

func isForeign(o client.Object) bool {
	_, is := o.(*unstructured.Unstructured)
	return is
}

// foreignPage encodes a page of objects of another product.
func foreignPage(objects []client.Object, to, all int) ([]byte, error) {
	metadata := map[string]any{"resourceVersion": "1"}
	if to < all {
		metadata["continue"] = strconv.Itoa(to)
	}
	return json.Marshal(map[string]any{"metadata": metadata, "items": objects})
}

// emptyList returns a list of the kind of a resource.
func emptyList(resource schema.GroupVersionResource) (runtime.Object, error) {
	for gvk := range scheme.AllKnownTypes() {
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		if plural == resource && !strings.HasSuffix(gvk.Kind, "List") {
			return scheme.New(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		}
	}
	return nil, fmt.Errorf("no kind of %s is known", resource)
}

// watch streams what Apply and Delete change.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, want asked) {
	events := make(chan metav1.WatchEvent, 100)
	s.mu.Lock()
	s.watchers[want.resource] = append(s.watchers[want.resource], events)
	s.mu.Unlock()
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, more := <-events:
			if !more || json.NewEncoder(w).Encode(e) != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

func (s *Server) stopWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.watchers {
		for _, events := range list {
			close(events)
		}
	}
	clear(s.watchers)
}

// Watched reports how many watches of the resource of an object there are.
func (s *Server) Watched(o client.Object) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers[resourceOf(o)])
}

// Apply creates an object, or puts it in the place of the one of its name.
func (s *Server) Apply(t testing.TB, o client.Object) {
	t.Helper()
	resource := resourceOf(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.pages)
	list := s.byKind[resource]
	kind := "ADDED"
	o.SetResourceVersion(strconv.Itoa(len(s.requests) + 2))
	i := slices.IndexFunc(list, func(other client.Object) bool {
		return other.GetNamespace() == o.GetNamespace() && other.GetName() == o.GetName()
	})
	if i >= 0 {
		kind, list[i] = "MODIFIED", o
	} else {
		s.byKind[resource] = append(list, o)
	}
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, events := range s.watchers[resource] {
		events <- metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: raw}}
	}
}
