package members

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// ownState is what a Tracker knows of its own node.
type ownState struct {
	// links are those that may carry announcements, as published; linksKnown is set once
	// they are known.
	links      []links.Link
	linksKnown bool
	// onLAN is set once a link had a subnet with the member address, cutOff while none
	// has that is up, or while no link is left at all.
	onLAN, cutOff bool
	// returning counts the returns to the LAN for which this node still has to ask the
	// others what became of its addresses.
	returning int

	stage announcement.Stage
	// worked is set when this speaker has been ready.
	worked bool
	// isolated is set while this speaker is isolated. yielded has the addresses that it
	// leaves to others then, and to whom; it is replaced, never changed.
	isolated bool
	yielded  map[netip.Addr]string
}

// Around is what decisions for addresses need to know of other nodes and this one, all
// taken at one moment.
type Around struct {
	presence.Snapshot
	// Speakers are all speakers by node, this one included. It is another map when they
	// have changed, and must not be changed.
	Speakers map[string]announcement.Speaker
	// Returning is set while this node is back on its LAN and has not heard yet what became
	// of its addresses meanwhile. A caller that sees the returned links sees this too, or a
	// Snapshot that was made after the others had answered.
	Returning bool
}

// Around returns what is known now.
func (t *Tracker) Around() Around {
	full := t.c.Room.IsFull()
	t.mu.Lock()
	defer t.mu.Unlock()
	self := announcement.Speaker{
		Presence:       announcement.Present,
		Reason:         v1beta1.ReasonNodePresent,
		Links:          t.own.links,
		SilentLinks:    t.last.SilentLinks,
		Heard:          true,
		Worked:         t.own.worked,
		IgnoresExclude: t.c.IgnoreExclude,
		IgnoresCordon:  t.c.IgnoreCordon,
		Full:           full,
	}
	if t.own.stage == announcement.StageLeaving {
		self.Presence, self.Reason = announcement.Leaving, v1beta1.ReasonNodeLeaving
	}
	if t.speakers == nil || !t.speakers[t.c.Node].Equal(self) {
		t.speakers = make(map[string]announcement.Speaker, 1+len(t.last.Members))
		for name, m := range t.last.Members {
			t.speakers[name] = m.Speaker
		}
		t.speakers[t.c.Node] = self
	}
	return Around{Snapshot: t.last, Speakers: t.speakers, Returning: t.own.returning > 0}
}

// SetStage publishes how far this speaker is with its work.
func (t *Tracker) SetStage(stage announcement.Stage) {
	t.mu.Lock()
	t.own.stage = stage
	t.own.worked = t.own.worked || stage == announcement.StageReady
	t.mu.Unlock()
	if err := t.c.Membership.Publish(keyStage, []byte(stage)); err != nil {
		t.c.Log.Error("cannot publish to other speakers", "error", err)
	}
	t.c.Status.Set()
}

// Stage returns how far this speaker is with its work.
func (t *Tracker) Stage() announcement.Stage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own.stage
}

// OwnLinks returns the links of this node that may carry announcements, as published. The
// caller must not change them.
func (t *Tracker) OwnLinks() []links.Link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own.links
}

// LinksKnown reports whether the links of this node are known.
func (t *Tracker) LinksKnown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own.linksKnown
}

// refreshLinks recomputes the links of this node that may carry announcements: those that
// are eligible, and those that an advertisement names. moved reports a change. back reports
// that this node is back on the LAN of the other members, which it had lost; it may have
// kept other links all the while. Then the node is returning, until the caller has asked
// the others and calls returned. Links of pods, which come and go all the time, do not
// count.
func (t *Tracker) refreshLinks() (moved, back bool) {
	all := t.c.Links.Links()
	if all == nil {
		return false, false // they are not known yet
	}
	c, _ := t.c.Configuration.Current()
	usable := []links.Link{}
	for _, l := range all {
		named := slices.ContainsFunc(c.L2Advertisements, func(a *config.L2Advertisement) bool {
			return a.NamesInterface(l.Name)
		})
		l.Excluded = links.IsExcluded(l.Name, t.c.ExcludeLinks)
		if l.Usable() && (named || !l.Excluded) {
			usable = append(usable, l)
		}
	}
	usable = asPublished(usable)

	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.own
	t.own.onLAN, t.own.cutOff = t.lan(all, len(usable) > 0)
	if back = before.linksKnown && before.cutOff && !t.own.cutOff; back {
		t.own.returning++
	}
	t.own.links, t.own.linksKnown = usable, true
	return !before.linksKnown || !slices.EqualFunc(before.links, usable, links.Link.Equal), back
}

// lan reports whether this node has ever been on the LAN over which it is a member, and
// whether it is cut off from that, or has no usable link.
func (t *Tracker) lan(all []links.Link, usable bool) (onLAN, cutOff bool) {
	there := slices.ContainsFunc(all, func(l links.Link) bool {
		return t.c.Address.IsValid() && l.Holds(t.c.Address) && l.Up
	})
	onLAN = t.own.onLAN || there
	return onLAN, !usable || onLAN && !there
}

// returned ends a return that refreshLinks reported.
func (t *Tracker) returned() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.own.returning--
}

// NodeOf returns the node that has a link with this hardware address, "" for a foreign
// host's.
func (t *Tracker) NodeOf(mac net.HardwareAddr) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	has := func(l links.Link) bool { return bytes.Equal(l.HardwareAddr, mac) }
	if slices.ContainsFunc(t.own.links, has) {
		return t.c.Node
	}
	return t.last.NodeOf(mac)
}

// InterfaceWith returns the interface of this node that has the address, "" for none.
// Berth puts addresses on none, but service proxies and other programs do.
func (t *Tracker) InterfaceWith(addr netip.Addr) string {
	for _, l := range t.c.Links.Links() {
		if slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l.Name
		}
	}
	return ""
}

// SetIsolated records whether this speaker is isolated, and the addresses that it leaves to
// others then. It leaves these until it is no longer isolated. It reports whether isolated
// has changed.
func (t *Tracker) SetIsolated(isolated bool, to map[netip.Addr]string) (news bool) {
	t.mu.Lock()
	before := t.own
	after := map[netip.Addr]string{}
	if isolated {
		maps.Copy(after, before.yielded)
		maps.Copy(after, to)
	}
	t.own.isolated, t.own.yielded = isolated, after
	t.mu.Unlock()

	if news = before.isolated != isolated; news {
		t.c.Status.Set()
	}
	if !maps.Equal(before.yielded, after) {
		t.c.Requeue.RequeueAll()
	}
	return news
}

// IsIsolated reports whether this speaker is isolated.
func (t *Tracker) IsIsolated() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own.isolated
}

// YieldedTo returns the node to which this speaker leaves an address because it is
// isolated; "" if there is none, or it has gone since.
func (t *Tracker) YieldedTo(addr netip.Addr) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	node := t.own.yielded[addr]
	if node != "" && t.last.Members[node].Presence == announcement.Gone {
		return ""
	}
	return node
}
