package layer2

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Problem says why an address is not being announced on a link where it should
// be; it is empty when there is none.
type Problem string

// The problems of an [Announcement].
const (
	// ProblemPending: the announcer has not come to it yet, or does not run.
	ProblemPending Problem = "Pending"
	// ProblemLinkMissing: this node has no link of that name.
	ProblemLinkMissing Problem = "LinkMissing"
	// ProblemLinkDown: the link has no carrier or is set down.
	ProblemLinkDown Problem = "LinkDown"
	// ProblemNotEthernet: the link has no Ethernet address.
	ProblemNotEthernet Problem = "NotEthernet"
	// ProblemSocket: the kernel refused the socket or its filter; the log has the
	// error. It is tried again with increasing delay and when a link changes.
	ProblemSocket Problem = "SocketFailed"
)

// Announcement is one address on one link, as it was last set.
type Announcement struct {
	Addr netip.Addr
	Link string
	// Since is when answering began on the link as it is now: a link that comes
	// back starts anew. It is zero while there is a Problem.
	Since time.Time
	// Problem is empty while requests are answered.
	Problem Problem
}

// State returns what is and what should be announced, sorted by address and
// link. It may be called at any time.
func (a *Announcer) State() []Announcement {
	var out []Announcement
	a.mu.RLock()
	for addr, claims := range a.desired {
		for _, c := range claims {
			out = append(out, a.announcementLocked(addr, c))
		}
	}
	a.mu.RUnlock()
	slices.SortFunc(out, func(x, y Announcement) int {
		return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Link, y.Link))
	})
	return out
}

// announcementLocked describes one claim. The caller holds a.mu.
func (a *Announcer) announcementLocked(addr netip.Addr, c claim) Announcement {
	key := portKey{protocolOf(addr), c.link}
	out := Announcement{Addr: addr, Link: c.link}
	if live, ok := a.live[burstKey{key, addr}]; ok && live.serial == c.serial {
		out.Since = live.since
		return out
	}
	out.Problem = cmp.Or(a.problems[key], ProblemPending)
	return out
}
