package layer2

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
)

const (
	// handOverNoise is how long a member may claim what this node announces as part of a
	// hand-over.
	handOverNoise = 5 * time.Second
	// memberClaimMemory is for how long a claim of a member counts that it does not
	// repeat: a little more than the longest time between two refreshes.
	memberClaimMemory = 150 * time.Second
)

// conflict is an address for which, on one link, not just its owner answers.
type conflict struct {
	addressOn                      // the link is "" where it is not one link's
	kind      v1beta1.ConflictKind // what is wrong
	other     host                 // who else answers; the zero host where nobody does
	owner     string               // the node that should answer
	since     time.Time
	message   string // what is wrong and what to do, for a person
}

// compare orders conflicts by address, link and hardware address.
func (c conflict) compare(o conflict) int {
	return cmp.Or(
		c.addr.Compare(o.addr),
		cmp.Compare(c.link, o.link),
		bytes.Compare(c.other.mac, o.other.mac),
	)
}

// addressOn is an address on a link of this node.
type addressOn struct {
	addr netip.Addr
	link string
}

// host is a host of the LAN that answers for an address.
type host struct {
	mac  net.HardwareAddr
	node string // the node that it is; "" for a stranger
}

// host returns the host with a hardware address.
func (v *view) host(mac net.HardwareAddr) host { return host{mac, v.tracker.NodeOf(mac)} }

// String returns the host as a message names it.
func (h host) String() string {
	if h.node != "" {
		return fmt.Sprintf("Node %s (%s)", h.node, h.mac)
	}
	return fmt.Sprintf("Another host (%s)", h.mac)
}

// kind returns the kind of a conflict in which this host has the address.
func (h host) kind() v1beta1.ConflictKind {
	if h.node != "" {
		return v1beta1.ConflictOtherNode
	}
	return v1beta1.ConflictForeignHost
}

// conflicts knows for which addresses another than their owner answers, or nobody: from
// probes before a first announcement, from claims that the announcer heard, and from the
// checks of members' addresses. It is safe for concurrent use.
type conflicts struct {
	view      *view
	announcer Announcer
	events    *reconcile.ServiceEvents

	mu       sync.Mutex
	checked  map[addressOn]conflict
	reported map[reportKey]bool
	counts   map[v1beta1.ConflictKind]uint64
}

// reportKey is what of a conflict is reported once: one host can make up many Ethernet
// addresses.
type reportKey struct {
	addr netip.Addr
	kind v1beta1.ConflictKind
}

func newConflicts(v *view, a Announcer, e *reconcile.ServiceEvents) *conflicts {
	return &conflicts{
		view:      v,
		announcer: a,
		events:    e,
		checked:   map[addressOn]conflict{},
		reported:  map[reportKey]bool{},
		counts:    map[v1beta1.ConflictKind]uint64{},
	}
}

// record remembers the result of a check of a member's address, nil for no conflict. It
// reports whether the result is another than before.
func (c *conflicts) record(at addressOn, found *conflict) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, had := c.checked[at]
	if found == nil {
		delete(c.checked, at)
		return had
	}
	if had && before.kind == found.kind && bytes.Equal(before.other.mac, found.other.mac) {
		return false
	}
	c.checked[at] = *found
	return true
}

// forget forgets the results of checks of an address elsewhere than on these links. It
// reports whether there were any.
func (c *conflicts) forget(addr netip.Addr, links []string) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.checked)
	maps.DeleteFunc(c.checked, func(at addressOn, _ conflict) bool {
		return at.addr == addr && !slices.Contains(links, at.link)
	})
	return len(c.checked) < before
}

// list returns all conflicts, by address, link and hardware address.
func (c *conflicts) list() []conflict { return c.among(c.view.memory.all()) }

// among is list for the addresses of which this is remembered.
func (c *conflicts) among(all map[netip.Addr]remembered) []conflict {
	now := time.Now()
	out := slices.DeleteFunc(c.heard(now), func(heard conflict) bool {
		return heard.kind == v1beta1.ConflictOtherNode && len(all[heard.addr].Beside) > 0 // told below
	})
	for addr, r := range all {
		switch {
		case r.isTaken():
			out = append(out, c.taken(addr, r))
		case len(r.Beside) > 0:
			out = append(out, c.beside(addr, r))
		case r.Dispute.Lasts(now):
			out = append(out, c.contested(addr, r))
		}
	}

	c.mu.Lock()
	for at, found := range c.checked {
		// What was found of an owner before, or of an address that no Service has any
		// more, is over.
		if r := all[at.addr]; r.Reason == v1beta1.ReasonNotOwner && r.Owner == found.owner {
			out = append(out, found)
		}
	}
	c.mu.Unlock()

	slices.SortFunc(out, conflict.compare)
	return out
}

// isTaken reports whether an address is not announced because another host has it.
func (r remembered) isTaken() bool {
	return r.Reason == v1beta1.ReasonConflict || r.Reason == v1beta1.ReasonNodeAnswers
}

// taken returns the conflict about an address that another host had before this node
// announced it.
func (c *conflicts) taken(addr netip.Addr, r remembered) conflict {
	other := c.view.host(r.probe.Holder)
	return conflict{
		addressOn: addressOn{addr: addr},
		kind:      other.kind(),
		other:     other,
		owner:     r.Owner,
		since:     r.changed,
		message:   fmt.Sprintf("%s is not announced: %s", addr, r.Message),
	}
}

// beside returns the conflict about an address that this node announces and another program
// on a node of the cluster answers for as well.
func (c *conflicts) beside(addr netip.Addr, r remembered) conflict {
	return conflict{
		addressOn: addressOn{addr: addr},
		kind:      v1beta1.ConflictOtherNode,
		other:     c.view.host(r.probe.Holder),
		owner:     r.Owner,
		since:     r.since,
		message:   announcement.BesideMessage(addr, r.probe),
	}
}

// contested returns the dispute of this node and others about an address.
func (c *conflicts) contested(addr netip.Addr, r remembered) conflict {
	does := "announces it"
	if r.Reason == v1beta1.ReasonContested {
		does = "leaves it to " + r.Owner + " for a while"
	}
	return conflict{
		addressOn: addressOn{addr: addr},
		kind:      v1beta1.ConflictContested,
		owner:     r.Owner,
		since:     r.changed,
		message: fmt.Sprintf("Node %s and %s both claim %s, again and again; %s %s. "+
			"Compare the settings and versions of their speakers, and what is between them.",
			c.view.node, strings.Join(r.Dispute.With, ", "), addr, c.view.node, does),
	}
}

// heard returns the conflicts about what this node announces and others claim on the LAN:
// one for each address, link and kind, as a hostile host can make up Ethernet addresses.
func (c *conflicts) heard(now time.Time) []conflict {
	type row struct {
		at   addressOn
		kind v1beta1.ConflictKind
	}
	first := map[row]announcer.Conflict{}
	hosts := map[row]int{}
	for _, heard := range c.announcer.Conflicts() {
		handsOver := heard.Last.Sub(heard.First) < handOverNoise
		if heard.Member && (handsOver || now.Sub(heard.Last) > memberClaimMemory) {
			continue
		}
		at := row{addressOn{heard.Addr, heard.Link}, c.view.host(heard.MAC).kind()}
		hosts[at]++
		if known, ok := first[at]; !ok || heard.First.Before(known.First) {
			first[at] = heard
		}
	}

	var out []conflict
	for at, heard := range first {
		other, more := c.view.host(heard.MAC), ""
		remedy := "give one of them another address."
		if other.node != "" {
			remedy = announcement.WhyNodeAnswers(heard.Addr, c.view.tracker.InterfaceWith(heard.Addr))
		}
		if n := hosts[at] - 1; n > 0 {
			more = fmt.Sprintf(" (and at least %d more)", n)
		}
		out = append(out, conflict{
			addressOn: at.at,
			kind:      at.kind,
			other:     other,
			owner:     c.view.node,
			since:     heard.First,
			message: fmt.Sprintf("%s%s claims %s, which this node announces on %s; %s",
				other, more, heard.Addr, heard.Link, remedy),
		})
	}
	return out
}

// report emits an Event for each conflict that is new, and counts it. The decision about an
// address that is taken has an Event of its own. It reports whether there is any news, good
// or bad.
func (c *conflicts) report() (news bool) {
	all := c.view.memory.all()

	fresh, over := c.update(c.among(all))

	for _, one := range fresh {
		r, addr := all[one.addr], one.addr.String()
		if !r.isTaken() {
			c.events.Emit(r.Services, addr, corev1.EventTypeWarning, one.kind.Reason(), one.message)
		}
	}
	return over || len(fresh) > 0
}

// update takes in all conflicts of now. It returns those that were not reported yet, which
// it counts, and whether any that was is over.
func (c *conflicts) update(now []conflict) (fresh []conflict, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	current := map[reportKey]bool{}
	for _, one := range now {
		key := reportKey{one.addr, one.kind}
		if !c.reported[key] && !current[key] {
			c.counts[one.kind]++
			fresh = append(fresh, one)
		}
		current[key] = true
	}
	over = len(current)-len(fresh) < len(c.reported)
	c.reported = current
	return fresh, over
}

// counted returns how many conflicts of each kind there were.
func (c *conflicts) counted() map[v1beta1.ConflictKind]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}
