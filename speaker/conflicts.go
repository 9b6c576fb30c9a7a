package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2"
)

// handOverNoise is how long claims of a fellow for what this node announces
// belong to a hand-over.
const handOverNoise = 5 * time.Second

// conflicts knows which addresses another than their owner answers for, or
// nobody: from what probes found before a first announcement, from claims that
// were heard, and from the checks of fellows' addresses.
type conflicts struct {
	view      *view
	announcer interface{ Conflicts() []layer2.Conflict }
	tell      func(services []string, address, kind, reason, note string) // emits an Event

	mu      sync.Mutex
	checked map[netip.Addr]v1beta1.Layer2Conflict
	told    map[string]bool // by address, kind and hardware address
	counts  map[v1beta1.ConflictKind]uint64
}

func newConflicts(v *view, announcer *layer2.Announcer) *conflicts {
	return &conflicts{
		view: v, announcer: announcer,
		checked: map[netip.Addr]v1beta1.Layer2Conflict{}, told: map[string]bool{}, counts: map[v1beta1.ConflictKind]uint64{},
	}
}

// found takes in the result of a check of a fellow's address; nil for none.
func (c *conflicts) found(addr netip.Addr, conflict *v1beta1.Layer2Conflict) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, had := c.checked[addr]
	if conflict == nil {
		delete(c.checked, addr)
		return had
	}
	if had && before.Kind == conflict.Kind && before.MACAddress == conflict.MACAddress {
		return false
	}
	c.checked[addr] = *conflict
	return true
}

// list lists all conflicts by address and link.
func (c *conflicts) list() []v1beta1.Layer2Conflict {
	var out []v1beta1.Layer2Conflict
	all := c.view.state.all()
	for addr, r := range all {
		if r.Reason == v1beta1.ReasonConflict {
			out = append(out, v1beta1.Layer2Conflict{
				Address: addr.String(), MACAddress: r.probe.Holder.String(), Kind: c.kind(c.view.nodeOf(r.probe.Holder)), Owner: r.Owner,
				Since:   metav1.NewTime(r.changed.Truncate(time.Second)),
				Message: fmt.Sprintf("%s has %s, so %s is not announced; give one of them another address.", holderName(r.probe.Holder.String(), c.view.nodeOf(r.probe.Holder)), addr, addr),
			})
		}
	}
	for _, heard := range c.announcer.Conflicts() {
		if heard.Fellow && heard.Last.Sub(heard.First) < handOverNoise {
			continue
		}
		node := c.view.nodeOf(heard.MAC)
		out = append(out, v1beta1.Layer2Conflict{
			Address: heard.Addr.String(), Link: heard.Link, MACAddress: heard.MAC.String(), Kind: c.kind(node), Owner: c.view.node,
			Since: metav1.NewTime(heard.First.Truncate(time.Second)),
			Message: fmt.Sprintf("%s claims %s, which this node announces on %s; give one of them another address.",
				holderName(heard.MAC.String(), node), heard.Addr, heard.Link),
		})
	}
	c.mu.Lock()
	for addr, conflict := range c.checked {
		// What was found of an owner before, or of an address that no Service
		// has any more, is over.
		if r := all[addr]; r.Reason == v1beta1.ReasonNotOwner && r.Owner == conflict.Owner {
			out = append(out, conflict)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(out, func(a, b v1beta1.Layer2Conflict) int {
		return cmp.Or(netip.MustParseAddr(a.Address).Compare(netip.MustParseAddr(b.Address)), cmp.Compare(a.Link, b.Link), cmp.Compare(a.MACAddress, b.MACAddress))
	})
	return out
}

// kind is Fellow where the other is a node of Berth's.
func (*conflicts) kind(node string) v1beta1.ConflictKind {
	if node != "" {
		return v1beta1.ConflictFellow
	}
	return v1beta1.ConflictForeign
}

// holderName is a host as a message names it.
func holderName(mac, node string) string {
	if node != "" {
		return fmt.Sprintf("Node %s (%s)", node, mac)
	}
	return fmt.Sprintf("Another host (%s)", mac)
}

// announce emits an Event for each conflict that is new, and counts it. A
// conflict that was found before the first announcement has one already. It
// reports whether there is any news, good or bad.
func (c *conflicts) announce() (news bool) {
	all := c.view.state.all()
	now := map[string]bool{}
	for _, conflict := range c.list() {
		key := strings.Join([]string{conflict.Address, string(conflict.Kind), conflict.MACAddress}, " ")
		now[key] = true
		c.mu.Lock()
		known := c.told[key]
		if !known {
			c.counts[conflict.Kind]++
			c.told[key] = true
			news = true
		}
		c.mu.Unlock()
		r := all[netip.MustParseAddr(conflict.Address)]
		if !known && r.Reason != v1beta1.ReasonConflict {
			c.tell(r.Services, conflict.Address, corev1.EventTypeWarning, "Address"+string(conflict.Kind), conflict.Message)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.told)
	maps.DeleteFunc(c.told, func(key string, _ bool) bool { return !now[key] })
	return news || len(c.told) < before
}

// counted is how many conflicts of each kind there were.
func (c *conflicts) counted() map[v1beta1.ConflictKind]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[v1beta1.ConflictKind]uint64{}
	for kind, n := range c.counts {
		out[kind] = n
	}
	return out
}
