package assignment

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/nearest"
)

// metalLBsOwn are names that MetalLB itself writes on Services, and Berth need not
// read.
var metalLBsOwn = []string{"ip-allocated-from-pool"}

// mostMistyped is how many annotations one message names.
const mostMistyped = 3

// UnknownAnnotations says in sentences, for a person, which annotations of a Service
// are meant for Berth, as their beginning says, and have a name that it does not
// know: nobody acts on them. It is "" where there is none. Values are not checked.
func UnknownAnnotations(annotations map[string]string) string {
	var sentences []string
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		prefix, names := meant(key)
		if prefix == "" {
			continue
		}
		name := strings.TrimPrefix(key, prefix)
		if slices.Contains(names, name) || prefix != v1beta1.AnnotationPrefixes[0] &&
			slices.Contains(metalLBsOwn, name) {
			continue
		}
		text := fmt.Sprintf("Berth does not know the annotation %s", key)
		if near := nearest.Of(name, names); near != "" {
			text += fmt.Sprintf(": did you mean %s%s?", prefix, near)
		} else {
			text += fmt.Sprintf(". Those that it knows are %s.", prefix+strings.Join(names, ", "+prefix))
		}
		sentences = append(sentences, text)
	}
	if more := len(sentences) - mostMistyped; more > 0 {
		sentences = append(sentences[:mostMistyped], fmt.Sprintf("And %d more that it does not know.", more))
	}
	return strings.Join(sentences, " ")
}

// meant returns the beginning of an annotation that is meant for Berth, and the names that
// may follow it; "" for one that is not.
func meant(key string) (prefix string, names []string) {
	for _, prefix := range v1beta1.AnnotationPrefixes {
		if strings.HasPrefix(key, prefix) {
			return prefix, []string{
				nameOf(v1beta1.AnnotationAddressPool),
				nameOf(v1beta1.AnnotationLoadBalancerIPs),
				nameOf(v1beta1.AnnotationAllowSharedIP),
			}
		}
	}
	return "", nil
}

// nameOf returns an annotation's key without its prefix.
func nameOf(key string) string {
	_, name, _ := strings.Cut(key, "/")
	return name
}
