package view

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"
)

// Filter says which rows are wanted. Every list takes the same; what is zero selects all.
type Filter struct {
	Pool, Node, Peer string
	Address          netip.Addr
	// Service is NAMESPACE/NAME, or NAME for one of Namespace.
	Service string
	// Namespace is that of the Services wanted, "" for all.
	Namespace string
	// Labels select the objects that the list is of.
	Labels labels.Selector
	// Problems leaves only rows with problems.
	Problems bool
}

// labelled reports whether the labels of an object are wanted.
func (f Filter) labelled(l map[string]string) bool {
	return f.Labels == nil || f.Labels.Matches(labels.Set(l))
}

// is reports whether a name is wanted by a filter of that kind.
func is(wanted, name string) bool { return wanted == "" || wanted == name }

// wantsService reports whether a Service is wanted.
func (f Filter) wantsService(namespace, name string) bool {
	return is(f.Namespace, namespace) && f.namesService(namespace, name)
}

// namesService reports whether a Service is the one that is asked for.
func (f Filter) namesService(namespace, name string) bool {
	return f.Service == "" || f.Service == namespace+"/"+name ||
		f.Service == name && is(f.Namespace, namespace)
}
