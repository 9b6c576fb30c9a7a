// Package peering has a lab's routers and the nodes speak BGP with each other: it writes the configuration of
// FRR and the objects of Berth, and reads what the routers say of their sessions and routes.
package peering
