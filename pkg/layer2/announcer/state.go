package announcer

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
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
	// Generation and As are those of the last Request for the link; As is nil for
	// the link's own Ethernet address.
	Generation uint64
	As         net.HardwareAddr
	Manner     Manner
	// Since is when answering began on the link as it is now: a link that comes
	// back starts anew, a new generation does not. It is zero while there is a
	// Problem.
	Since time.Time
	// Announced is when the first frame of the first burst was sent, anew for a
	// new generation and for a link that comes back. It is zero before, while standing
	// in, and while the manner is not Openly.
	Announced time.Time
	// Problem is empty while requests are answered.
	Problem Problem
}

// State returns what is and what should be announced, sorted by address and
// link. It may be called at any time.
func (a *Announcer) State() []Announcement {
	var out []Announcement
	a.mu.RLock()
	for addr, w := range a.desired {
		for _, p := range w.placements {
			out = append(out, a.announcementLocked(addr, w, p))
		}
	}
	a.mu.RUnlock()
	slices.SortFunc(out, func(x, y Announcement) int {
		return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Link, y.Link))
	})
	return out
}

// announcementLocked describes one placement. The caller holds a.mu.
func (a *Announcer) announcementLocked(addr netip.Addr, w wish, p placement) Announcement {
	key := portKey{neighbor.ProtocolOf(addr), p.link}
	out := Announcement{
		Addr:       addr,
		Link:       p.link,
		Generation: w.generation,
		As:         slices.Clone(p.as),
		Manner:     p.manner,
	}
	if live, ok := a.live[burstKey{key, addr}]; ok && live.serial == p.serial {
		out.Since, out.Announced = live.since, live.announced
		return out
	}
	out.Problem = cmp.Or(a.problems[key], ProblemPending)
	return out
}
