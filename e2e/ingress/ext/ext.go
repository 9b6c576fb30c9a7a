// Package ext stands for the extension points of Traefik's configuration, which are empty in Traefik itself.
// It is here because Traefik keeps them in a nested module that is not published.
package ext

// HTTP is what an extension adds to the HTTP configuration: nothing.
type HTTP struct{}

// DeepCopyInto copies nothing.
func (*HTTP) DeepCopyInto(*HTTP) {}

// Router is what an extension adds to a router: nothing.
type Router struct{}

// DeepCopyInto copies nothing.
func (*Router) DeepCopyInto(*Router) {}
