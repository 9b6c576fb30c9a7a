package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/berth-lb/berth/internal/kube"
)

// Document is an API object, as YAML and JSON have it.
type Document = map[string]any

// leftOut stands where a password was.
const leftOut = "(left out)"

// Documents returns the objects of a kind that were read and that wanted selects, without
// passwords, one after another. Nil wants all. The first error ends them.
func (s *Snapshot) Documents(
	k Kind, wanted func(namespace, name string) bool,
) iter.Seq2[Document, error] {
	scheme := kube.Scheme()
	i := slices.IndexFunc(readers, func(r reader) bool { return r.Name == k.Name })
	return func(yield func(Document, error) bool) {
		for _, o := range readers[i].each(&s.Objects) {
			if wanted != nil && !wanted(o.GetNamespace(), o.GetName()) {
				continue
			}
			document, err := documentOf(o, scheme)
			if !yield(document, err) || err != nil {
				return
			}
		}
	}
}

// documentOf returns one object as a Document.
func documentOf(o client.Object, scheme *runtime.Scheme) (Document, error) {
	gvk, err := apiutil.GVKForObject(o, scheme)
	if err != nil {
		return nil, fmt.Errorf("name the kind of %s: %w", o.GetName(), err)
	}
	document, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("convert %s %s: %w", gvk.Kind, o.GetName(), err)
	}
	document["apiVersion"], document["kind"] = gvk.GroupVersion().String(), gvk.Kind
	withoutPasswords(document)
	return document, nil
}

// secretWords are parts of the names of fields and variables that may have a secret.
var secretWords = []string{"password", "passwd", "token", "secretkey", "apikey", "api_key", "credential"}

// withoutPasswords leaves out of a document what is secret: passwords, variables with such a
// name, and the annotation in which kubectl keeps another copy of all.
func withoutPasswords(o Document) {
	delete(o, corev1.LastAppliedConfigAnnotation)
	for key, v := range o {
		switch v := v.(type) {
		case Document:
			withoutPasswords(v)
		case []any:
			for _, one := range v {
				if document, is := one.(Document); is {
					withoutPasswords(document)
					hideVariable(document)
				}
			}
		case string:
			if v != "" && isSecretWord(key) {
				o[key] = leftOut
			}
		}
	}
}

// hideVariable leaves out the value of an environment variable with a name like that of a
// secret.
func hideVariable(o Document) {
	name, _ := o["name"].(string)
	if value, has := o["value"].(string); has && value != "" && isSecretWord(name) {
		o["value"] = leftOut
	}
}

func isSecretWord(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(name, word) })
}

// LogOf says which log to read.
type LogOf struct {
	Namespace, Pod, Container string
	// Previous asks for that of the container that ran before.
	Previous bool
	// Since is how far back it goes, 0 for all of it.
	Since time.Duration
}

// Log returns the end of a log, of so many bytes at most, and how long the log is.
func (c *Client) Log(ctx context.Context, of LogOf, most int) (end []byte, total int64, err error) {
	request := c.get(Pods, of.Namespace).Name(of.Pod).SubResource("log").
		SetHeader("Accept", "*/*").
		Param("container", of.Container).
		Param("timestamps", "true")
	if of.Previous {
		request.Param("previous", "true")
	}
	if of.Since > 0 {
		request.Param("sinceSeconds", strconv.FormatInt(int64(of.Since.Seconds()), 10))
	}
	stream, err := request.Stream(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = stream.Close() }() // it was read, or has failed
	return lastOf(stream, most)
}

// lastOf reads everything, and returns the last bytes of it, and how many there were.
func lastOf(r io.Reader, most int) (end []byte, total int64, err error) {
	chunk := make([]byte, 32<<10)
	for {
		n, err := r.Read(chunk)
		total += int64(n)
		end = append(end, chunk[:n]...)
		if len(end) > 2*most {
			end = append(end[:0], end[len(end)-most:]...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, total, err
		}
	}
	if len(end) > most {
		end = end[len(end)-most:]
	}
	if int64(len(end)) < total {
		if i := bytes.IndexByte(end, '\n'); i >= 0 {
			end = end[i+1:] // it begins with a whole line
		}
	}
	return end, total, nil
}

// Ask returns what a pod answers to a GET, by way of the API server, which lets only those
// ask who may get pods/proxy. More than so many bytes are an error.
func (c *Client) Ask(ctx context.Context, namespace, pod, scheme, port, path string, most int) ([]byte,
	error) {
	stream, err := c.get(Pods, namespace).Name(scheme+":"+pod+":"+port).SubResource("proxy").
		Suffix(path).SetHeader("Accept", "*/*").Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }() // it was read, or has failed
	answer, err := io.ReadAll(io.LimitReader(stream, int64(most)+1))
	if err == nil && len(answer) > most {
		err = fmt.Errorf("the answer has more than %d bytes", most)
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// PortOf returns the port of a setting with an address and a port, such as
// metrics-bind-address, of a part of Berth: "" if it is turned off, usual if it is not set
// or not known.
func (s *Snapshot) PortOf(component, setting, usual string) string {
	pod := s.podSpec(component)
	if pod == nil {
		return usual
	}
	value, unknown := s.setting(pod, component, setting)
	switch i := strings.LastIndexByte(value, ':'); {
	case unknown != "" || value == "":
		return usual
	case value == "0":
		return ""
	case i >= 0:
		return value[i+1:]
	}
	return usual
}
