package layer2

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
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
)

// handOverNoise is how long claims of a member for what this node announces
// belong to a hand-over.
const handOverNoise = 5 * time.Second

// conflicts knows which addresses another than their owner answers for, or
// nobody: from what probes found before a first announcement, from claims that
// were heard, and from the checks of members' addresses.
type conflicts struct {
	view      *view
	announcer Announcer
	events    *reconcile.ServiceEvents

	mu      sync.Mutex
	checked map[addressOn]v1beta1.Layer2Conflict
	told    map[string]bool // by address and kind: one host can make up many Ethernet addresses
	counts  map[v1beta1.ConflictKind]uint64
}

// addressOn is an address on a link of this node.
type addressOn struct {
	addr netip.Addr
	link string
}

func newConflicts(v *view, a Announcer, e *reconcile.ServiceEvents) *conflicts {
	return &conflicts{
		view: v, announcer: a, events: e,
		checked: map[addressOn]v1beta1.Layer2Conflict{}, told: map[string]bool{}, counts: map[v1beta1.ConflictKind]uint64{},
	}
}

// found takes in the result of a check of a member's address; nil for none.
func (c *conflicts) found(at addressOn, conflict *v1beta1.Layer2Conflict) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, had := c.checked[at]
	if conflict == nil {
		delete(c.checked, at)
		return had
	}
	if had && before.Kind == conflict.Kind && before.MACAddress == conflict.MACAddress {
		return false
	}
	c.checked[at] = *conflict
	return true
}

// clear forgets what was found of an address elsewhere than on these links.
func (c *conflicts) clear(addr netip.Addr, links []string) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.checked)
	maps.DeleteFunc(c.checked, func(at addressOn, _ v1beta1.Layer2Conflict) bool {
		return at.addr == addr && !slices.Contains(links, at.link)
	})
	return len(c.checked) < before
}

// list lists all conflicts by address and link.
func (c *conflicts) list() []v1beta1.Layer2Conflict {
	var out []v1beta1.Layer2Conflict
	all := c.view.memory.all()
	now := time.Now()
	for addr, r := range all {
		switch {
		case r.Reason == v1beta1.ReasonConflict || r.Reason == v1beta1.ReasonNodeAnswers:
			node := c.view.tracker.NodeOf(r.probe.Holder)
			out = append(out, v1beta1.Layer2Conflict{
				Address: addr.String(), MACAddress: r.probe.Holder.String(), Kind: c.kind(node), Owner: r.Owner,
				Since:   metav1.NewTime(r.changed.Truncate(time.Second)),
				Message: fmt.Sprintf("%s is not announced: %s", addr, r.Message),
			})
		case r.Dispute.Lasts(now):
			out = append(out, c.contested(addr, r))
		}
	}
	out = append(out, c.claimed(now)...)
	c.mu.Lock()
	for at, conflict := range c.checked {
		// What was found of an owner before, or of an address that no Service
		// has any more, is over.
		if r := all[at.addr]; r.Reason == v1beta1.ReasonNotOwner && r.Owner == conflict.Owner {
			out = append(out, conflict)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(out, func(a, b v1beta1.Layer2Conflict) int {
		return cmp.Or(netip.MustParseAddr(a.Address).Compare(netip.MustParseAddr(b.Address)), cmp.Compare(a.Link, b.Link), cmp.Compare(a.MACAddress, b.MACAddress))
	})
	return out
}

// contested is the dispute of this node and others about an address.
func (c *conflicts) contested(addr netip.Addr, r remembered) v1beta1.Layer2Conflict {
	does := "announces it"
	if r.Reason == v1beta1.ReasonContested {
		does = "leaves it to " + r.Owner + " for a while"
	}
	return v1beta1.Layer2Conflict{
		Address: addr.String(), Kind: v1beta1.ConflictContested, Owner: r.Owner,
		Since: metav1.NewTime(r.changed.Truncate(time.Second)),
		Message: fmt.Sprintf("Node %s and %s both claim %s, again and again; %s %s. "+
			"Compare the settings and versions of their speakers, and what is between them.",
			c.view.node, strings.Join(r.Dispute.With, ", "), addr, c.view.node, does),
	}
}

// memberClaimMemory is for how long a claim of a member counts that it does not
// repeat: a little more than the longest time between two refreshes.
const memberClaimMemory = 150 * time.Second

// claimed are the claims of others for what this node announces: one for each
// address, link and kind, as a hostile host can make up Ethernet addresses.
func (c *conflicts) claimed(now time.Time) []v1beta1.Layer2Conflict {
	type row struct {
		at   addressOn
		kind v1beta1.ConflictKind
	}
	first := map[row]announcer.Conflict{}
	hosts := map[row]int{}
	for _, heard := range c.announcer.Conflicts() {
		if heard.Member && (heard.Last.Sub(heard.First) < handOverNoise || now.Sub(heard.Last) > memberClaimMemory) {
			continue
		}
		at := row{addressOn{heard.Addr, heard.Link}, c.kind(c.view.tracker.NodeOf(heard.MAC))}
		hosts[at]++
		if known, ok := first[at]; !ok || heard.First.Before(known.First) {
			first[at] = heard
		}
	}
	var out []v1beta1.Layer2Conflict
	for at, heard := range first {
		others := ""
		if more := hosts[at] - 1; more > 0 {
			others = fmt.Sprintf(" (and at least %d more)", more)
		}
		out = append(out, v1beta1.Layer2Conflict{
			Address: heard.Addr.String(), Link: heard.Link, MACAddress: heard.MAC.String(), Kind: at.kind, Owner: c.view.node,
			Since: metav1.NewTime(heard.First.Truncate(time.Second)),
			Message: fmt.Sprintf("%s%s claims %s, which this node announces on %s; give one of them another address.",
				holderName(heard.MAC.String(), c.view.tracker.NodeOf(heard.MAC)), others, heard.Addr, heard.Link),
		})
	}
	return out
}

// kind is Member where the other is a node of Berth's.
func (*conflicts) kind(node string) v1beta1.ConflictKind {
	if node != "" {
		return v1beta1.ConflictOtherNode
	}
	return v1beta1.ConflictForeignHost
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
	all := c.view.memory.all()
	now := map[string]bool{}
	for _, conflict := range c.list() {
		key := conflict.Address + " " + string(conflict.Kind)
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
		if !known && r.Reason != v1beta1.ReasonConflict && r.Reason != v1beta1.ReasonNodeAnswers {
			c.events.Emit(r.Services, conflict.Address, corev1.EventTypeWarning, conflict.Kind.Reason(), conflict.Message)
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
