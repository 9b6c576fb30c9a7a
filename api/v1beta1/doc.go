// Package v1beta1 is what users of Berth write and read: address pools, how
// their addresses are announced, and what each node's speaker is doing.
//
// Everything that one object can decide alone (syntax, ranges, duplicates) is
// refused by the API server through the OpenAPI and CEL rules generated from
// the markers here; there are no webhooks. What needs two objects (overlapping
// pools, a missing pool) is decided by package config and told in the
// object's conditions.
//
// +kubebuilder:object:generate=true
// +groupName=berth.io
package v1beta1
