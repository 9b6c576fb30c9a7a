package definitions

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Behind returns what an installed definition lacks of the one that this version of Berth has, a phrase for
// each; nothing if the two are the same or the installed one is newer.
//
// The API server drops fields that a definition lacks, and refuses values that it does not
// know. So a lacking field, value or version always counts. What differs in another way,
// such as a bound or a rule, counts unless the installed one has something that this
// version does not know: then it is of a later version, as after a rollback. Descriptions
// do not count.
func Behind(own, installed *unstructured.Unstructured) []string {
	c := &comparison{}
	theirs := versionsOf(installed)
	mine := versionsOf(own)
	for _, name := range slices.Sorted(maps.Keys(mine)) {
		version, has := theirs[name]
		if !has {
			c.lacks = append(c.lacks, "the version "+name)
			continue
		}
		for _, part := range parts {
			if !equality.Semantic.DeepEqual(mine[name][part], version[part]) {
				c.differs = append(c.differs, part)
			}
		}
		a, _, _ := unstructured.NestedMap(mine[name], "schema", "openAPIV3Schema")
		b, _, _ := unstructured.NestedMap(version, "schema", "openAPIV3Schema")
		c.schemas("", a, b)
	}
	c.later = c.later || len(theirs) > len(mine)
	if len(c.lacks) > 0 || c.later {
		return c.lacks
	}
	return c.differs
}

// parts are those of a version that are compared as they are.
var parts = []string{"served", "subresources", "additionalPrinterColumns", "selectableFields"}

// versionsOf returns the versions of a definition by name.
func versionsOf(crd *unstructured.Unstructured) map[string]map[string]any {
	out := map[string]map[string]any{}
	list, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, entry := range list {
		if version, is := entry.(map[string]any); is {
			name, _, _ := unstructured.NestedString(version, "name")
			out[name] = version
		}
	}
	return out
}

// comparison is what two definitions have been found to differ in.
type comparison struct {
	lacks   []string // what only this version has
	differs []string // what both have, and not the same
	later   bool     // the installed one has what this version does not know
}

// schemas compares two schemas at a path, such as spec.addresses.
func (c *comparison) schemas(path string, own, installed map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(keysOf(own, installed))) {
		a, has := own[key]
		b, had := installed[key]
		switch key {
		case "description":
		case "properties":
			c.properties(path, object(a), object(b))
		case "items", "additionalProperties":
			c.schemas(path, object(a), object(b))
		case "enum":
			c.values(path, list(a), list(b))
		default:
			if has != had || !equality.Semantic.DeepEqual(a, b) {
				c.differs = append(c.differs, strings.TrimPrefix(path+" ("+key+")", " "))
			}
		}
	}
}

func (c *comparison) properties(path string, own, installed map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(keysOf(own, installed))) {
		at := strings.TrimPrefix(path+"."+name, ".")
		a, known := own[name]
		b, there := installed[name]
		switch {
		case !there:
			c.lacks = append(c.lacks, at)
		case !known:
			c.later = true
		default:
			c.schemas(at, object(a), object(b))
		}
	}
}

// values compares the values that a field may have. A field that is no longer bounded takes all.
func (c *comparison) values(path string, own, installed []any) {
	if len(own) == 0 || len(installed) == 0 {
		if len(own) != len(installed) {
			c.differs = append(c.differs, path+" (enum)")
		}
		return
	}
	for _, v := range own {
		if !slices.Contains(installed, v) {
			c.lacks = append(c.lacks, fmt.Sprintf("%s: %v", path, v))
		}
	}
	for _, v := range installed {
		c.later = c.later || !slices.Contains(own, v)
	}
}

// keysOf returns the keys of both maps.
func keysOf(a, b map[string]any) map[string]bool {
	out := map[string]bool{}
	for key := range a {
		out[key] = true
	}
	for key := range b {
		out[key] = true
	}
	return out
}

func object(v any) map[string]any {
	o, _ := v.(map[string]any)
	return o
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
